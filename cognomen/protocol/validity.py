"""By how much an issuer back-dates what it signs, which attestors and the command must also know."""

from datetime import timedelta

__all__ = ["BACKDATE"]

BACKDATE = timedelta(seconds=30)
"""The time by which notBefore is earlier than the issuance, for verifiers whose clocks lag."""
