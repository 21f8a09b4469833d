"""What both daemons share (daemon, wire), and the command (cli, demo)."""
