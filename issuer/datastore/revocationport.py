"""What the issuer asks of its datastore about revocation: what operators said, the denials that follow, and lists of them.

Those ports are of one transaction, with all others: port.Transaction.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from issuer.decisions.audit import CredentialKind, NodeID
from issuer.decisions.crl import DeniedCertificate, SignedCRL
from issuer.decisions.revocation import Blocks, Live, Revocation
from issuer.decisions.supersession import Holding, Supersession
from svid.denials import Denial
from svid.entry import EntryID
from svid.keys import KeyID
from svid.spiffeid import SpiffeID

__all__ = ["CRLs", "Denials", "Denied", "Fallen", "Falling", "Revocations", "Supersessions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallen:
    """Live credentials that are alike, counted.

    Args:
        node_id: None: not of one node's.
        audiences: of tokens; who else may have been shown them.
        ends_at: the latest end among them.
    """

    kind: CredentialKind
    spiffe_id: SpiffeID
    node_id: NodeID | None
    audiences: tuple[str, ...]
    count: int
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Falling:
    """What ends, or would.

    Args:
        groups: by SPIFFE ID, node, kind and audiences; the first thousand.
        more: how many more groups there are.
        count: credentials in all.
    """

    groups: Sequence[Fallen] = ()
    more: int = 0
    count: int = 0


class Denied(NamedTuple):
    """How many credentials ended: those that were live, and certificates that were over, for the connections that may be open."""

    live: int
    over: int


class Revocations(Protocol):
    """What operators said."""

    def add(self, revocation: Revocation) -> int:
        """Add one; its number."""

    def put(self, revocation: Revocation) -> None:
        """Note what became of one: what it denied, its change, its end."""

    def get(self, number: int) -> Revocation | None:
        """One of them."""

    def find(self, *, before: int, limit: int) -> Sequence[Revocation]:
        """A page, newest first, numbers less than `before` (0 = from the newest); cut short where targets are large."""

    def standing(self) -> Sequence[Revocation]:
        """Those that block somebody now."""

    def blocks(self) -> Blocks:
        """What those block; it costs little until one of them changes."""


class Denials(Protocol):
    """The credentials that were denied, for as long as that may be of use; and those that could be.

    All can be denied for KEPT_FOR longer than they live: verifiers whose clocks lag take them. A workload's certificate can be so for
    OPEN_FOR more: connections may be open to whoever showed it.
    """

    def falling(self, where: Live, *, now: datetime) -> Falling:
        """What of live credentials `deny` would end."""

    def is_any(self, where: Live, *, now: datetime, is_leak: bool = False) -> bool:
        """Whether `deny` would deny anything; of a leak: or `compromise` find anything."""

    def deny(self, where: Live, *, revocation: int, now: datetime) -> Denied:
        """Deny those that are live, and of those that are over but of use the newest MAX_OVER; all that is not denied yet."""

    def compromise(self, where: Live, *, revocation: int, now: datetime) -> int:
        """Let keys count as compromised of certificates that had ended before; how many those were.

        By their serials, whenever they ended; otherwise those that were of use within a day. The ledger and the lists give this
        revocation's reason from then on; whom a denial follows from stays as it is, since that was told.
        """

    def count(self) -> int:
        """How many are kept."""

    def of(self, revocations: Collection[int]) -> Iterator[Denial]:
        """Those that follow from these revocations."""

    def last_end(self, revocation: int) -> datetime | None:
        """The latest end of those that follow from it; None: none is left."""

    def all(self) -> Iterator[Denial]:
        """Every one that is kept."""

    def of_authority(self, authority_id: KeyID) -> Sequence[DeniedCertificate]:
        """Those that this X.509 authority's list names, by their serials: they were live then, or so for clocks that lag."""

    def prune(self, *, ended_before: datetime, now: datetime) -> None:
        """Forget the tokens that were over by then, and the certificates that were so OPEN_FOR before.

        The lists of authorities go on naming the certificates that were over by then until one was signed after their end. The store learns
        from where on the ledger's rows may be live, and may be denied.
        """


class Supersessions(Protocol):
    """What operators' changes of entries took away, until it has ended."""

    def holdings(self, entry_ids: Collection[EntryID], *, now: datetime) -> Sequence[Holding]:
        """What nodes hold for these entries, by entry and node."""

    def add(self, supersessions: Sequence[Supersession]) -> Sequence[int]:
        """Add some; they are about what the ledger has now. Their numbers."""

    def due(self, *, now: datetime, pushed_by: datetime) -> Sequence[Supersession]:
        """Those whose moment has come, or that are of a moment to come, and those whose SVID was replaced by one issued by `pushed_by`."""

    def serials(self, numbers: Collection[int], *, now: datetime) -> Sequence[str]:
        """The live credentials that these supersede."""

    def count(self) -> int:
        """How many there are."""

    def delete(self, numbers: Collection[int]) -> None:
        """Remove these."""


class CRLs(Protocol):
    """The newest certificate revocation list of each authority."""

    def get(self, authority_id: KeyID) -> SignedCRL | None:
        """That of one authority."""

    def put(self, crl: SignedCRL) -> None:
        """Add one, or overwrite the one of that authority."""

    def delete(self, authority_id: KeyID) -> None:
        """Remove that of an authority; one that is not there is fine."""
