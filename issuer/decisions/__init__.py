"""What decides: plain functions on frozen values, without I/O, clock or randomness."""
