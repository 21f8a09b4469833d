"""What both daemons share: pure values that know neither protobuf nor a daemon."""
