"""How a node proves itself, the node's half: one module per proof."""
