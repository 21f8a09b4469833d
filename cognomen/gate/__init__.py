"""The Unix socket: who connects, how much each caller may ask for, and gRPC behind it."""
