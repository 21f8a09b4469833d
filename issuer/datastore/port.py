"""What the issuer asks of its datastore: transactions over small ports, and a wake-up when the log grows.

The ports of revocation: revocationport.

`work` is a plain function that reads, decides and writes inside one transaction; the store may run it again: no effect elsewhere.
It runs outside the loop's thread. A refusal is returned by it, audited, committed, and raised only then.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from cognomen.daemon.auditlog import AuditRow, Checkpoint
from cognomen.protocol.feed import Cursor
from issuer.datastore.revocationport import CRLs, Denials, Revocations, Supersessions
from issuer.decisions.admission import Node, Token
from issuer.decisions.audit import AuditEvent, Credential, CredentialKind, CredentialState, NodeID
from issuer.decisions.authority import Authority
from issuer.decisions.changes import Change
from issuer.decisions.minting import Holder
from issuer.decisions.restoration import Restored
from svid.entry import EntryID, RegistrationEntry
from svid.keys import KeyID
from svid.selector import Selector
from svid.spiffeid import SpiffeID

__all__ = [
    "Audit",
    "Authorities",
    "Bundles",
    "Changes",
    "Checkpoints",
    "Datastore",
    "Entries",
    "EntryFilter",
    "Ledger",
    "LedgerFilter",
    "Nodes",
    "Times",
    "Tokens",
    "Transaction",
    "Use",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Which entries; what is None does not filter.

    Args:
        below: those of every SPIFFE ID below `spiffe_id`, too.
    """

    spiffe_id: SpiffeID | None = None
    below: bool = False
    parent_id: SpiffeID | None = None
    selector: Selector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFilter:
    """Which credentials; what is None does not filter.

    Args:
        held_at: those that were valid then, and did not fail.
        ends_before: those whose not_after lies before that.
        is_revoked: those that a revocation ended, or that their authority did by leaving the bundle before their end.
    """

    spiffe_id: SpiffeID | None = None
    entry_id: EntryID | None = None
    node_id: NodeID | None = None
    held_at: datetime | None = None
    kind: CredentialKind | None = None
    state: CredentialState | None = None
    serial: str | None = None
    ends_before: datetime | None = None
    is_revoked: bool | None = None


class Entries(Protocol):
    """Registration entries."""

    def get(self, ids: Collection[EntryID]) -> Mapping[EntryID, RegistrationEntry]:
        """Those of these entries that exist."""

    def find(self, where: EntryFilter, *, after: str, limit: int) -> Sequence[RegistrationEntry]:
        """A page in id order, ids greater than `after` ("" = from the start)."""

    def below(self, parents: Collection[SpiffeID]) -> Iterator[RegistrationEntry]:
        """Every entry whose parent is one of these, in id order."""

    def twins(self, entries: Collection[RegistrationEntry]) -> Mapping[EntryID, EntryID]:
        """For those of these whose SPIFFE ID, parent and selectors stand under another id: that id, by their own id."""

    def insert(self, entries: Sequence[RegistrationEntry]) -> None:
        """Add entries; their ids are new (CONFLICT), and they have no twins (EXISTS)."""

    def replace(self, entries: Sequence[RegistrationEntry]) -> None:
        """Overwrite entries; their ids exist, and they have no twins (EXISTS)."""

    def delete(self, ids: Sequence[EntryID]) -> None:
        """Remove entries; their ids exist."""


class Nodes(Protocol):
    """Attested nodes."""

    def get(self, node_id: NodeID) -> Node | None:
        """One node."""

    def put(self, node: Node) -> None:
        """Add a node, or overwrite it."""

    def delete(self, node_id: NodeID) -> None:
        """Remove a node; one that is not there is fine."""

    def count(self) -> int:
        """How many there are."""

    def find(self, *, after: str, limit: int) -> Sequence[Node]:
        """A page in id order, ids greater than `after` ("" = from the start)."""


class Tokens(Protocol):
    """Join tokens, by their hash."""

    def get(self, token_hash: str) -> Token | None:
        """One token's row."""

    def put(self, token: Token) -> None:
        """Add a token's row, or overwrite it."""

    def void(self, node_id: NodeID) -> None:
        """Forget every token of a node."""

    def prune(self, *, expired_before: datetime) -> None:
        """Forget the tokens that were over by then."""


class Bundles(Protocol):
    """The sequence number of our own bundle: what is in it follows from the authorities."""

    def sequence(self) -> int:
        """The number of the bundle now; 0: none was published yet."""

    def advance(self, *, by: int = 1) -> int:
        """The bundle's content changed: the next number."""


class Authorities(Protocol):
    """Signing authorities."""

    def list(self) -> Sequence[Authority]:
        """All of them, oldest first."""

    def put(self, authority: Authority) -> None:
        """Add an authority, or overwrite it, but its last_not_after never becomes earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How much of what an authority signed is still in use.

    Args:
        live: credentials that are not over, and not denied.
        unreplaced: those of them after which nothing was signed for the same purpose, if that was asked.
    """

    live: int = 0
    unreplaced: int = 0


class Ledger(Protocol):
    """Every credential that we signed, or were about to."""

    def record(self, credentials: Sequence[Credential]) -> None:
        """Append rows, and note with the authorities how long what they sign is valid."""

    def resolve(self, serials: Collection[str], state: CredentialState) -> None:
        """Say what became of these credentials."""

    def get(self, serial: str) -> Credential | None:
        """One credential, by its serial or jti."""

    def among(self, serials: Collection[str]) -> Iterator[Credential]:
        """Those of these serials and jtis that are in the ledger."""

    def holders(self, key_hashes: Collection[str]) -> Mapping[str, Holder]:
        """For those of these keys that were certified before: under what, by key hash."""

    def find(self, where: LedgerFilter, *, before: int, limit: int) -> Sequence[Credential]:
        """A page, newest first, numbers less than `before` (0 = from the newest)."""

    def uses(self, *, tainted: Collection[KeyID], now: datetime) -> Mapping[KeyID, Use]:
        """What is in use of the authorities that signed anything that is, certificates of authorities aside.

        Args:
            tainted: for which of them to count what was not replaced, which takes several times as long.
        """


class Changes(Protocol):
    """The change log."""

    def append(self, changes: Iterable[Change]) -> int:
        """Add rows; the number of the last, which is the head's."""

    def after(self, number: int, *, limit: int) -> Sequence[Change]:
        """The rows that follow, in order."""

    def prune(self, *, before: int) -> None:
        """Forget the rows with lesser numbers."""

    def head(self) -> Cursor:
        """The store's incarnation and the last number given."""

    def begin_anew(self, restored: Restored) -> None:
        """Become another incarnation: no cursor of before can be resumed."""

    def restored(self) -> Restored | None:
        """Which backup this incarnation came from; None: from none."""


class Times(Protocol):
    """What the store remembers of the wall clock."""

    def high_water(self) -> datetime | None:
        """The latest moment that was noted; None: none was."""

    def note(self, moment: datetime) -> None:
        """Note a moment instead of the one before."""


class Checkpoints(Protocol):
    """Signed checkpoints of the audit chain."""

    def add(self, checkpoint: Checkpoint) -> None:
        """Add one."""

    def latest(self) -> Checkpoint | None:
        """The last one that was added."""

    def newest(self, limit: int) -> Sequence[Checkpoint]:
        """The last so many, oldest first."""


class Audit(Protocol):
    """The hash-chained record of decisions."""

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Add rows to the chain."""

    def head(self) -> tuple[int, bytes]:
        """How many rows there are, and the hash of the last."""

    def rows(self, *, after: int, limit: int) -> Sequence[AuditRow]:
        """The rows that follow, in order."""


class Transaction(Protocol):
    """One transaction, as a bundle of small ports."""

    @property
    def entries(self) -> Entries:
        """Registration entries."""

    @property
    def nodes(self) -> Nodes:
        """Attested nodes."""

    @property
    def tokens(self) -> Tokens:
        """Join tokens."""

    @property
    def bundles(self) -> Bundles:
        """The bundle's sequence."""

    @property
    def authorities(self) -> Authorities:
        """Signing authorities."""

    @property
    def ledger(self) -> Ledger:
        """Credentials signed."""

    @property
    def revocations(self) -> Revocations:
        """What operators ended."""

    @property
    def denials(self) -> Denials:
        """Credentials that ended before their time."""

    @property
    def supersessions(self) -> Supersessions:
        """What changes of entries took away."""

    @property
    def crls(self) -> CRLs:
        """Certificate revocation lists."""

    @property
    def changes(self) -> Changes:
        """The change log."""

    @property
    def times(self) -> Times:
        """The wall clock's high-water mark."""

    @property
    def checkpoints(self) -> Checkpoints:
        """Checkpoints of the record of decisions."""

    @property
    def audit(self) -> Audit:
        """The record of decisions."""


class Datastore(Protocol):
    """Where the issuer remembers.

    Raises:
        Refused: UNAVAILABLE when the store cannot be read or written (full, read-only, locked); nothing of that work is kept.
    """

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on one consistent view; it must not write."""

    async def write(self, work: Callable[[Transaction], T], *, expendable: bool = False) -> T:
        """Run `work` and commit it durably before returning.

        Args:
            expendable: refused while there is no room to spare, UNAVAILABLE: what others may ask for without an end (mints, joins,
                sampled refusals, new entries). The others may use room that is kept for them: removing must work on a full disk.
        """

    async def lacking_room(self) -> str:
        """Why expendable works are not taken now, in words; empty when they are."""

    async def wait_for_change(self, after: int) -> int:
        """Return the log's head as soon as it is greater than `after`; a wake-up carries no data."""

    async def close(self) -> None:
        """Finish what is queued, then let go of the store."""
