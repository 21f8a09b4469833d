"""How callers are identified: the port, and one module per kind of fact."""
