"""Authorities that vouch for our signing keys: the port, and one module per authority."""
