"""What the attestor keeps across restarts: the port, and one module per storage place."""
