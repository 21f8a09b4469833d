"""The issuer's storage: the port, and one module per kind of store."""
