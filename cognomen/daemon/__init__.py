"""What both daemons stand on: refusals, configuration, supervision, files, and the gate in front of Unix sockets."""
