"""How a caller is proved: the port, and one module per kind of fact."""
