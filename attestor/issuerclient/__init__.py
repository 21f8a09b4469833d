"""How the attestor speaks to the issuer: the port, and its gRPC adapter."""
