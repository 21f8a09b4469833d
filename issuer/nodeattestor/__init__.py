"""How a node proves itself, the issuer's half: the port, and one module per proof."""
