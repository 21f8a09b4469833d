"""What the issuer asks of its datastore for the limits on issuance: the rules, and what nodes hold.

A part of the transaction that port describes.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from cognomen.rulebook.limits import LimitedScope
from issuer.decisions.limits import Held, LiveSVIDs
from svid.spiffeid import SpiffeID

__all__ = ["IssuanceLimits"]


class IssuanceLimits(Protocol):
    """The limits on issuance of the rulebook in force, as the transaction that applied it wrote them."""

    def list(self, revision: int) -> Sequence[LimitedScope]:
        """Those of the rulebook with that revision, by path; none if it is not the last one that was written here."""

    def replace(self, revision: int, limits: Sequence[LimitedScope]) -> None:
        """Write those of a rulebook in place of all others."""

    def held(self, entry_id: EntryID, node_id: NodeID, *, since: datetime, now: datetime, most: int) -> Held:
        """What the node holds of the entry: the last X509-SVID that ended after `since`, and valid JWT-SVIDs, `most` of them."""

    def live(self, spiffe_id: SpiffeID, *, now: datetime) -> LiveSVIDs:
        """What is valid and not revoked for this SPIFFE ID and those below it."""

    def last_revocation(self) -> int:
        """The number of the last revocation; 0: nothing was revoked."""

    def is_revoked(self, serial: str) -> bool:
        """Whether this credential was revoked."""
