"""The node and admin protocols on the wire: the only code that converts what they share between protobuf and values."""
