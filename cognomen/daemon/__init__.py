"""What makes a process a daemon: configuration, supervision, observation."""
