"""The Workload API on the wire: the only part of this library that reads and writes protobuf messages."""
