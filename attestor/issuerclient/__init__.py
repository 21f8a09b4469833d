"""How the attestor calls the issuer: the port, and its gRPC adapter."""
