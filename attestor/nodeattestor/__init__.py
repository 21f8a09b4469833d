"""How a node proves its identity (the node's half): one module per kind of proof."""
