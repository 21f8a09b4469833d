"""The doors of the attestor: the Workload API; they decide nothing."""
