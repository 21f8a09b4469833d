"""What both daemons agree on: pure values, which know neither protobuf nor a daemon."""
