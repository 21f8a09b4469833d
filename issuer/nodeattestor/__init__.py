"""The issuer's half of node attestation: the port, and one module per kind of proof."""
