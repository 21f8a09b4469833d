"""What the issuer asks of its datastore about revocation: operators' revocations, their denials, and revocation lists.

These ports belong to one transaction, together with all others: port.Transaction.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from cognomen.protocol.entry import EntryID
from issuer.decisions.crl import DeniedCertificate, SignedCRL
from issuer.decisions.endings import Alike
from issuer.decisions.exchanged import Exchanged
from issuer.decisions.falling import Falling
from issuer.decisions.revocation import Blocks, Live, Revocation
from issuer.decisions.supersession import Holding, Supersession
from svid.denials import Denial
from svid.keys import KeyID

__all__ = ["CRLs", "Denials", "Denied", "FoundDenials", "Revocations", "Supersessions"]


class Denied(NamedTuple):
    """How many credentials were denied: live ones, and expired certificates, whose connections may still be open."""

    live: int
    over: int


class Revocations(Protocol):
    """Operators' revocations."""

    def add(self, revocation: Revocation) -> int:
        """Add one; returns its number."""

    def put(self, revocation: Revocation) -> None:
        """Note the result of one: what it denied, its change, its end."""

    def get(self, number: int) -> Revocation | None:
        """One of them."""

    def find(self, *, before: int, limit: int) -> Sequence[Revocation]:
        """A page, newest first, numbers less than `before` (0 = from the newest); cut short where targets are large."""

    def standing(self) -> Sequence[Revocation]:
        """Those that block something now."""

    def blocks(self) -> Blocks:
        """What those block; this costs little until one of them changes."""


class FoundDenials(Protocol):
    """The credentials that were denied, for reading."""

    def count(self) -> int:
        """How many are kept."""

    def last_end(self, revocation: int) -> datetime | None:
        """When the last of the credentials that this revocation denied expires; None: none is left."""

    def of_authority(self, authority_id: KeyID) -> Sequence[DeniedCertificate]:
        """Those on this X.509 authority's list, by serial: they were valid when denied, at least for clocks that lag."""


class Denials(FoundDenials, Protocol):
    """The credentials that were denied, for as long as that is of use; and those that could be denied (decisions/revocation.Deniable)."""

    def falling(self, where: Live, *, now: datetime) -> Falling:
        """Which live credentials `deny` would end."""

    def exchanged(self, where: Live, *, longest_lives: Mapping[str, timedelta], now: datetime) -> Sequence[Exchanged]:
        """Until when tokens may live that were had for the named JWT-SVIDs, be these live, expired or denied.

        Args:
            longest_lives: by audience, as in decisions/exchanged; if there are none, nothing is read.
        """

    def is_any(self, where: Live, *, now: datetime, is_leak: bool = False) -> bool:
        """Whether `deny` would deny anything, or in case of a leak, whether `compromise` would find anything."""

    def deny(self, where: Live, *, revocation: int, now: datetime) -> Denied:
        """Deny the live ones, and the newest MAX_OVER of the expired ones that are still of use; skip those already denied."""

    def compromise(self, where: Live, *, revocation: int, now: datetime) -> int:
        """Mark the keys of certificates that had already ended as compromised; returns how many.

        If they are named by serial, it does not matter when they ended; otherwise only those count that were of use within a day. The
        ledger and the lists then give this revocation's reason. The revocation that a denial belongs to does not change, as it was already
        sent.
        """

    def of(self, revocations: Collection[int]) -> Iterator[Denial]:
        """The denials of these revocations."""

    def all(self) -> Iterator[Denial]:
        """Every denial that is kept."""

    def prune(self, *, ended_before: datetime, now: datetime) -> None:
        """Forget the tokens that had expired by then, and the certificates that had expired OPEN_FOR earlier.

        An authority's list keeps a certificate that had expired by then until a list was signed after it expired. The store also learns
        from which row on the ledger's rows may be live, and may be denied.
        """


class Supersessions(Protocol):
    """What operators' changes of entries took away, until it ends."""

    def holdings(self, entry_ids: Collection[EntryID], *, now: datetime) -> Sequence[Holding]:
        """What nodes hold for these entries, by entry and node."""

    def live(self, supersessions: Sequence[Supersession], *, now: datetime) -> int:
        """How many live credentials these would supersede, if they were added now."""

    def ending(
        self, ended: Collection[EntryID], superseded: Sequence[Supersession], *, now: datetime
    ) -> Iterator[Alike]:
        """What is live for entries that would be deleted, and what these would supersede if they were added now."""

    def add(self, supersessions: Sequence[Supersession]) -> Sequence[int]:
        """Add some, which apply to what the ledger has now; returns their numbers."""

    def due(self, *, now: datetime, pushed_by: datetime) -> Sequence[Supersession]:
        """Those that are due, those dated in the future, and those whose SVID was replaced by one issued by the time `pushed_by`."""

    def serials(self, numbers: Collection[int], *, now: datetime) -> Sequence[str]:
        """The live credentials that these supersede."""

    def count(self) -> int:
        """How many there are."""

    def delete(self, numbers: Collection[int]) -> None:
        """Remove these."""


class CRLs(Protocol):
    """The newest certificate revocation list of each authority."""

    def get(self, authority_id: KeyID) -> SignedCRL | None:
        """The list of one authority."""

    def put(self, crl: SignedCRL) -> None:
        """Add one, or overwrite the one of that authority."""

    def delete(self, authority_id: KeyID) -> None:
        """Remove the list of an authority, if it has one."""
