"""Where private keys live: the port, and one module per place."""
