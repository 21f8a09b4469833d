"""What the attestor keeps across a restart: the port, and one module per place."""
