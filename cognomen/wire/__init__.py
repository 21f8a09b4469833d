"""The node and admin protocols on the wire: the only protobuf ↔ value code for what they share."""
