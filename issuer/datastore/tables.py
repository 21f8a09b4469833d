"""What an adapter provides where the transaction port asks for more than rows: tables that simply store and read rows.

transaction adds the rest, which is the same for every adapter (hashes, fingerprints, how much is kept and for how long). The other ports
pass through unchanged.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from cognomen.protocol.auditlog import AuditRow, Checkpoint
from cognomen.protocol.entry import EntryID, RegistrationEntry
from issuer.datastore.ledgerport import FoundCredentials
from issuer.datastore.port import FoundEntries
from issuer.datastore.revocationport import Denied, FoundDenials
from issuer.decisions.authority import Authority
from issuer.decisions.falling import Falling
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.decisions.revocation import Deniable, Live
from svid.keys import KeyID
from svid.spiffeid import SpiffeID

__all__ = [
    "AuditTable",
    "AuthorityTable",
    "ChangeOfEntry",
    "CheckpointTable",
    "DenialRow",
    "DenialTable",
    "EntryRow",
    "EntryTable",
    "LedgerTable",
]


class EntryRow(NamedTuple):
    """An entry, and the fingerprint that no other entry may share."""

    entry: RegistrationEntry
    fingerprint: bytes


class ChangeOfEntry(NamedTuple):
    """Which row of the audit chain records a change of an entry, and the SPIFFE ID that it then had."""

    entry_id: EntryID
    number: int
    spiffe_id: SpiffeID


class EntryTable(FoundEntries, Protocol):
    """Registration entries by id, and by fingerprint."""

    def taken(self, fingerprints: Collection[bytes]) -> Mapping[bytes, EntryID]:
        """Which of these fingerprints are taken, and by which entry."""

    def insert(self, rows: Sequence[EntryRow]) -> None:
        """Add entries; their ids are new (CONFLICT), and so are their fingerprints (EXISTS). All of them, or none."""

    def replace(self, rows: Sequence[EntryRow]) -> None:
        """Overwrite entries; their ids exist (NOT_FOUND), and no other has their fingerprints (EXISTS). All of them, or none."""

    def delete(self, ids: Sequence[EntryID]) -> None:
        """Remove entries; their ids exist (NOT_FOUND). All of them, or none."""


class AuthorityTable(Protocol):
    """Signing authorities."""

    def list(self) -> Sequence[Authority]:
        """All of them, oldest first."""

    def put(self, authority: Authority) -> None:
        """Add an authority, or overwrite it except for its last_not_after, which stays as it is."""

    def extend(self, ends: Mapping[KeyID, datetime]) -> None:
        """Raise the last_not_after of these authorities to at least that; ignore those that do not exist."""


class LedgerTable(FoundCredentials, Protocol):
    """Every credential that we signed or were about to sign."""

    def add(self, credentials: Sequence[Credential]) -> None:
        """Append rows; the store numbers them."""


class DenialRow(NamedTuple):
    """A credential that was denied: its serial or jti, its kind, and when it expires."""

    serial: str
    kind: CredentialKind
    not_after: datetime


class DenialTable(FoundDenials, Protocol):
    """Credentials that were denied, and ledger rows that can be denied. `when` says by their ends which rows these are."""

    def falling(self, where: Live, *, now: datetime, most: int) -> Falling:
        """Which live credentials `deny` would end, at most that many groups of them."""

    def last_ends(
        self, where: Live, *, audiences: Collection[str], since: datetime, now: datetime
    ) -> Mapping[str, datetime]:
        """When the last of the named JWT-SVIDs for each of these audiences expires, of those that expire after `since`.

        It does not matter whether they were denied.
        """

    def is_any(self, where: Live, *, when: Deniable, is_leak: bool) -> bool:
        """Whether `deny` would deny anything, or in case of a leak, whether `compromise` would find anything."""

    def deny(self, where: Live, *, revocation: int, when: Deniable, most_over: int) -> Denied:
        """Deny the live ones, and the newest `most_over` of the expired ones; skip those already denied."""

    def compromise(self, where: Live, *, revocation: int, when: Deniable) -> int:
        """Mark the keys of certificates that had already ended as compromised; returns how many. As revocationport.Denials says."""

    def of(self, revocations: Collection[int]) -> Iterator[DenialRow]:
        """The denials of these revocations."""

    def all(self) -> Iterator[DenialRow]:
        """Every denial that is kept."""

    def prune(self, *, ended_before: datetime, certificates_before: datetime, when: Deniable) -> None:
        """Forget the tokens that expired before `ended_before`, and the certificates that expired before `certificates_before`.

        An authority's list keeps a certificate that expired before `ended_before` until a list was signed after it expired. The store also
        learns from which row on the ledger's rows may be live, and may be denied.
        """


class AuditTable(Protocol):
    """Rows that are already chained."""

    def add(self, rows: Sequence[AuditRow], changes: Sequence[ChangeOfEntry]) -> None:
        """Append rows, numbered after the last, and note which of them record changes of entries."""

    def head(self) -> tuple[int, bytes] | None:
        """The number and hash of the last row; None: there are no rows."""

    def rows(self, *, after: int, limit: int) -> Sequence[AuditRow]:
        """The rows that follow, in order."""

    def each(self, *, after: int) -> Iterator[AuditRow]:
        """All rows that follow, in order, one by one."""

    def of_entry(self, entry_id: EntryID, *, after: int) -> Iterator[AuditRow]:
        """Those of them that record a change of this entry."""


class CheckpointTable(Protocol):
    """Signed checkpoints."""

    def add(self, checkpoint: Checkpoint) -> None:
        """Add one."""

    def newest(self, limit: int) -> Sequence[Checkpoint]:
        """The last `limit` checkpoints, oldest first."""

    def forget(self, checkpoints: Collection[Checkpoint]) -> None:
        """Remove these."""
