"""The attestor: proves its node, proves its callers, serves the SPIFFE Workload API."""
