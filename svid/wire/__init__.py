"""The Workload API on the wire: protobuf in, protobuf out, and nowhere else in this library."""
