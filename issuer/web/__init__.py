"""The issuer's HTTP pages."""
