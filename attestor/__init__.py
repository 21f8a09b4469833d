"""The attestor: proves its node to the issuer, identifies its callers, and serves them the SPIFFE Workload API."""
