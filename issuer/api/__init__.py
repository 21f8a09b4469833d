"""The doors: outside words to calls and back; they know protobuf and status codes, and decide nothing."""
