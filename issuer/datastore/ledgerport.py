"""What the issuer asks of its datastore about what it signed: the ledger, how much of it is in use, and which processes used it.

It also has what entries that only observe would have given.

A part of the transaction that port describes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from cognomen.protocol.uses import EntryUse
from issuer.decisions.filters import LedgerFilter
from issuer.decisions.ledger import Credential, CredentialState
from issuer.decisions.minting import Holder
from issuer.decisions.observing import ObservedEntry, ObservedProgram
from issuer.decisions.uses import NotedUse, UseFilter
from svid.keys import KeyID
from svid.spiffeid import SpiffeID

__all__ = ["FoundCredentials", "Ledger", "Observations", "Use", "Uses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How much of what an authority signed is still in use.

    Args:
        live: how many credentials are neither expired nor denied.
        unreplaced: how many of them have no later replacement for the same purpose, if that was asked.
    """

    live: int = 0
    unreplaced: int = 0


class FoundCredentials(Protocol):
    """Every credential that we signed or were about to sign, for reading and resolving."""

    def resolve(self, serials: Collection[str], state: CredentialState) -> None:
        """Note what became of these credentials."""

    def get(self, serial: str) -> Credential | None:
        """One credential, by its serial or jti."""

    def among(self, serials: Collection[str]) -> Iterator[Credential]:
        """Those of these serials and jtis that are in the ledger."""

    def holders(self, key_hashes: Collection[str]) -> Mapping[str, Holder]:
        """What those of these keys that were certified before were certified for, by key hash."""

    def find(self, where: LedgerFilter, *, before: int, limit: int) -> Sequence[Credential]:
        """A page, newest first, numbers less than `before` (0 = from the newest)."""

    def after(self, number: int, *, limit: int) -> Sequence[Credential]:
        """A page of all of them, in the order in which they were recorded: those that follow that number."""

    def uses(self, *, tainted: Collection[KeyID], now: datetime) -> Mapping[KeyID, Use]:
        """How much of what each authority signed is in use, for authorities with any; certificates of authorities do not count.

        Args:
            tainted: the authorities for which to count what was not replaced, which takes several times as long.
        """


class Ledger(FoundCredentials, Protocol):
    """Every credential that we signed or were about to sign."""

    def record(self, credentials: Sequence[Credential]) -> None:
        """Append rows, and note for each authority how long what it signs is valid."""


class Uses(Protocol):
    """Which processes used which identities, as nodes report it. It is no part of the record of decisions."""

    def note(self, node_id: NodeID, uses: Collection[EntryUse], *, most: int, most_bytes: int) -> None:
        """Add what a node reports to what it reported before.

        Once it has a tenth more rows or bytes than that, keep as many: the last used ones of each account, in turns of equal bytes.
        """

    def held(self, node_id: NodeID, entry_ids: Collection[EntryID]) -> Mapping[EntryID, datetime]:
        """When what a node got of these entries ended, or will end; without those of which it never got an SVID."""

    def find(self, where: UseFilter, *, after: int, limit: int) -> Sequence[NotedUse]:
        """A page in the order of numbers, those that follow that number."""

    def last(self, entry_ids: Collection[EntryID]) -> Mapping[EntryID, datetime]:
        """When those of these entries that were used were last used."""

    def since(self) -> datetime:
        """Since when uses are recorded without a gap."""

    def begin_anew(self, at: datetime) -> None:
        """Note a gap that ended then; what was recorded before stays."""

    def prune(self, *, last_before: datetime) -> None:
        """Forget what was last used before that."""


class Observations(Protocol):
    """Entries that only observe, and what they would have given, as nodes report it. It is no part of the record of decisions."""

    def begin(self, entry_ids: Collection[EntryID], at: datetime) -> None:
        """Note that these entries observe since then; what was noted of them before is forgotten."""

    def end(self, entry_ids: Collection[EntryID]) -> None:
        """Note that these entries observe no more; what was noted of them is forgotten."""

    def note(self, node_id: NodeID, uses: Collection[EntryUse], *, most: int, most_bytes: int) -> None:
        """Add what a node reports to what it reported before, bounded as Uses.note is."""

    def find(self, below: SpiffeID | None, *, after: str, limit: int) -> Sequence[ObservedEntry]:
        """A page of the entries that observe in id order, ids greater than `after`.

        Args:
            below: those with this SPIFFE ID or one below it; None: all.
        """

    def programs(self, entry_id: EntryID, *, since: datetime, limit: int) -> tuple[Sequence[ObservedProgram], int]:
        """What an entry would have given to whom until `since` or later, the last ones first, and how many others there are."""

    def prune(self, *, last_before: datetime) -> None:
        """Forget what was last seen before that; an entry that observes stays one."""
