"""What the issuer says over HTTP."""
