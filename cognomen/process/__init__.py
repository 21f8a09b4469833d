"""What our processes need from the machine: files that only their owner can read, ids, descriptors, memory, standard streams."""
