"""Where checkpoints of the audit chain go besides the store: the port, and one module per place."""
