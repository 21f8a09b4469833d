"""What the attestor serves on its workload socket; nothing is decided here."""
