"""Where checkpoints of the audit chain go beside the store: the port, and one module per place."""
