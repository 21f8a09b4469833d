"""The doors: they translate messages to calls and back, know protobuf and status codes, and decide nothing."""
