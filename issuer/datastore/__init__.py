"""Where the issuer remembers: the port, and one module per kind of store."""
