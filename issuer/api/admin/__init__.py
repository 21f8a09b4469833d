"""The admin door: operators on the issuer's own socket. One module per noun; `service` combines them."""
