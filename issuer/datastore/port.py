"""What the issuer asks of its datastore: transactions over small ports, and a wake-up when the log grows.

The ports of what was signed are in ledgerport, those of limits in limitport, of revocation in revocationport, of rulebooks and agents in
rulebookport; tables says what an adapter provides for a transaction.

`work` is a plain function that reads, decides and writes inside one transaction. The store may run it again, so it must have no effect
elsewhere. It runs outside the loop's thread. If it raises, its writes are undone; a separate write records a refusal (issuer/refusing).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from cognomen.protocol.auditlog import AuditRow, Checkpoint
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.feed import Cursor
from cognomen.protocol.meaning import Meaning
from cognomen.protocol.names import NodeID
from issuer.datastore.ledgerport import Ledger, Observations, Uses
from issuer.datastore.limitport import IssuanceLimits
from issuer.datastore.revocationport import CRLs, Denials, Revocations, Supersessions
from issuer.datastore.rulebookport import HeldAgents, Rulebooks
from issuer.decisions.admission import Node, Token
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import Authority
from issuer.decisions.changes import Change
from issuer.decisions.exports import Export
from issuer.decisions.filters import EntryFilter
from issuer.decisions.restoration import Restored
from svid.spiffeid import SpiffeID

__all__ = [
    "Audit",
    "Authorities",
    "Bundles",
    "Changes",
    "Checkpoints",
    "Datastore",
    "Entries",
    "Exports",
    "FoundEntries",
    "Ids",
    "Nodes",
    "Times",
    "Tokens",
    "Transaction",
]

T = TypeVar("T")


class FoundEntries(Protocol):
    """Registration entries, for reading."""

    def get(self, ids: Collection[EntryID]) -> Mapping[EntryID, RegistrationEntry]:
        """Those of these entries that exist."""

    def find(self, where: EntryFilter, *, after: str, limit: int) -> Sequence[RegistrationEntry]:
        """A page in id order, ids greater than `after` ("" = from the start)."""

    def each(self, where: EntryFilter, *, after: str, limit: int) -> Iterator[RegistrationEntry]:
        """The same page, one by one: never all in memory, because an entry may have hundreds of kilobytes."""

    def below(self, parents: Collection[SpiffeID]) -> Iterator[RegistrationEntry]:
        """Every entry whose parent is one of these, in id order."""

    def alike(self, entry: RegistrationEntry, *, most: int) -> int:
        """Count entries with the parent and the selectors of this one, up to that many."""


class Entries(FoundEntries, Protocol):
    """Registration entries, for changing."""

    def twins(self, entries: Collection[RegistrationEntry]) -> Mapping[EntryID, EntryID]:
        """If an entry's SPIFFE ID, parent and selectors are stored under a different id: that id, by the entry's own id."""

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

    def named(self, name: str) -> Node | None:
        """The node with that name, in upper or lower case; none has the empty name."""

    def put(self, node: Node) -> None:
        """Add a node, or overwrite it; no other node has its name, if it has one."""

    def delete(self, node_id: NodeID) -> None:
        """Remove a node, if it exists."""

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
        """Forget the tokens that had expired by then."""


class Bundles(Protocol):
    """The sequence number of our own bundle, whose content follows from the authorities."""

    def sequence(self) -> int:
        """The current number of the bundle; 0: none has been published yet."""

    def advance(self, *, by: int = 1) -> int:
        """Note that the bundle's content changed; returns its new number."""


class Authorities(Protocol):
    """Signing authorities."""

    def list(self) -> Sequence[Authority]:
        """All of them, oldest first."""

    def put(self, authority: Authority) -> None:
        """Add an authority, or overwrite it, but its last_not_after never becomes earlier."""


class Exports(Protocol):
    """Copies of the bundle that relying parties have."""

    def list(self) -> Sequence[Export]:
        """All of them, by name."""

    def put(self, export: Export) -> None:
        """Add an export, or overwrite the one with its name."""

    def delete(self, name: str) -> None:
        """Remove an export, if it exists."""


class Changes(Protocol):
    """The change log."""

    def append(self, changes: Iterable[Change]) -> int:
        """Add rows; returns the number of the last, which is the head."""

    def after(self, number: int, *, limit: int) -> Sequence[Change]:
        """The rows that follow, in order."""

    def prune(self, *, before: int) -> None:
        """Forget the rows with smaller numbers."""

    def head(self) -> Cursor:
        """The store's incarnation and the last change number."""

    def begin_anew(self, restored: Restored) -> None:
        """Become a new incarnation, so that nobody can resume from an earlier cursor."""

    def restored(self) -> Restored | None:
        """The backup that this incarnation came from; None: it did not come from a backup."""


class Times(Protocol):
    """What the store remembers of the wall clock."""

    def high_water(self) -> datetime | None:
        """The latest time that was noted; None: none yet."""

    def note(self, moment: datetime) -> None:
        """Note a time in place of the last one."""


class Checkpoints(Protocol):
    """Signed checkpoints of the audit chain."""

    def add(self, checkpoint: Checkpoint) -> None:
        """Add one."""

    def latest(self) -> Checkpoint | None:
        """The last checkpoint that was added."""

    def newest(self, limit: int) -> Sequence[Checkpoint]:
        """The last `limit` checkpoints, oldest first."""


class Audit(Protocol):
    """The hash-chained record of decisions."""

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Add rows to the chain."""

    def head(self) -> tuple[int, bytes]:
        """How many rows there are, and the hash of the last."""

    def rows(self, *, after: int, limit: int) -> Sequence[AuditRow]:
        """The rows that follow, in order."""

    def each(self, *, after: int) -> Iterator[AuditRow]:
        """All rows that follow, one by one: never all in memory, because a row may have a megabyte."""

    def of_entry(self, entry_id: EntryID, *, after: int) -> Iterator[AuditRow]:
        """Those of them that record a change of this entry."""


class Ids(Protocol):
    """Ids on record, in their order, also of entries and nodes that are gone: those that begin in some way, and those of a SPIFFE ID."""

    def entries(self, beginning: str, *, limit: int) -> Sequence[Meaning]:
        """Entries that ever changed; their SPIFFE IDs are not known here."""

    def deleted_entries(self, spiffe_id: SpiffeID, *, limit: int) -> Sequence[Meaning]:
        """Entries that are gone and once had this SPIFFE ID."""

    def nodes(self, beginning: str, *, limit: int) -> Sequence[Meaning]:
        """Nodes for which something was signed."""

    def credentials(self, beginning: str, *, limit: int) -> Sequence[Meaning]:
        """Serials and jtis."""


class Transaction(Protocol):
    """One transaction, as a collection of small ports."""

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
    def exports(self) -> Exports:
        """Exports of the bundle."""

    @property
    def rulebooks(self) -> Rulebooks:
        """Applied rulebooks."""

    @property
    def agents(self) -> HeldAgents:
        """Agents that operators suspended."""

    @property
    def limits(self) -> IssuanceLimits:
        """Limits on issuance."""

    @property
    def ledger(self) -> Ledger:
        """Signed credentials."""

    @property
    def revocations(self) -> Revocations:
        """Operators' revocations."""

    @property
    def denials(self) -> Denials:
        """Credentials that were ended early."""

    @property
    def supersessions(self) -> Supersessions:
        """What changes of entries took away."""

    @property
    def crls(self) -> CRLs:
        """Certificate revocation lists."""

    @property
    def uses(self) -> Uses:
        """Which processes used which identities."""

    @property
    def observations(self) -> Observations:
        """What entries that only observe would have given."""

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

    @property
    def ids(self) -> Ids:
        """Ids by how they begin."""


class Datastore(Protocol):
    """The issuer's storage.

    Raises:
        Refused: UNAVAILABLE when the store cannot be read or written (full, read-only, locked); nothing of that work is kept.
    """

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on one consistent view; it must not write."""

    async def write(self, work: Callable[[Transaction], T], *, expendable: bool = False) -> T:
        """Run `work` and commit it durably before returning.

        Args:
            expendable: refuse this work (UNAVAILABLE) while there is no room to spare. This is for what others may request without limit
                (mints, joins, refusals) and for what adds something (new and changed entries). Other works may use room that is kept for
                them: removing must work on a full disk.
        """

    async def lacking_room(self) -> str:
        """Why expendable works are refused now, in words; empty: they are accepted."""

    async def missing(self) -> str:
        """Which of the store's files was removed or replaced, in words; empty: none. From then on no write is acknowledged.

        Raises:
            Refused: UNAVAILABLE when it cannot be determined.
        """

    async def check(self) -> str:
        """Read all that is stored, and return what is damaged; empty: nothing. This may take minutes."""

    async def wait_for_change(self, after: int) -> int:
        """Return the log's head as soon as it is greater than `after`; a wake-up carries no data."""

    async def close(self) -> None:
        """Finish what is queued, then close the store."""
