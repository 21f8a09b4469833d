"""The tables that only grow, in SQLite: the ledger, the change log, the audit chain and its checkpoints.

One statement writes the rows of a batch, as one JSON document: `executemany` takes and releases the interpreter's lock for every row,
and waits each time for threads that are signing.
"""

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from sqlite_utils import Database

from cognomen.protocol.auditlog import GENESIS, AuditRow, Checkpoint
from cognomen.protocol.entry import EntryID
from cognomen.protocol.feed import Cursor
from cognomen.protocol.names import NodeID
from issuer.datastore.ledgerport import Use
from issuer.datastore.sqlite import codec
from issuer.datastore.sqlite.marks import LIVE, LIVE_FROM
from issuer.datastore.tables import ChangeOfEntry
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.filters import LedgerFilter
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.minting import Holder
from issuer.decisions.restoration import Restored
from issuer.decisions.revocation import Reason
from svid.keys import KeyID

__all__ = ["SQLiteAudit", "SQLiteChanges", "SQLiteCheckpoints", "SQLiteLedger"]

_CREDENTIAL = (
    "kind, serial, spiffe_id, entry_id, entry_revision, node_id, key_hash, authority_id, audiences,"
    " issued_at, not_after, state, rulebook"
)
_READ = f"number, {_CREDENTIAL}, revocation"
_COLUMNS = ", ".join(f"json_extract(value, '$[{column}]')" for column in range(_CREDENTIAL.count(",") + 1))
_RECORD = f"INSERT INTO credential ({_CREDENTIAL}) SELECT {_COLUMNS} FROM json_each(?)"  # noqa: S608 - our own names
_LIVE = f"{LIVE} AND state <> 'failed' AND revocation = 0 AND kind <> 'authority'"
_CUT_OFF = (
    "EXISTS (SELECT 1 FROM authority WHERE key_id = credential.authority_id AND retired_at < credential.not_after)"
)
_COUNT_LIVE = f"SELECT authority_id, count(*) FROM credential WHERE {_LIVE} GROUP BY authority_id"  # noqa: S608 - our own texts
_COUNT_LAST = (
    "SELECT authority_id, count(*) FROM (SELECT authority_id, max(number) FROM credential"  # noqa: S608 - our own texts
    f" WHERE {_LIVE} GROUP BY entry_id, node_id, kind, audiences) GROUP BY authority_id"
)
_CredentialRow: TypeAlias = tuple[
    int, str, str, str, str | None, int, str | None, str | None, str, str, int, int, str, int, int
]  # _READ


class SQLiteLedger:
    """Every credential that we signed or were about to sign."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def add(self, credentials: Sequence[Credential]) -> None:
        """Append rows."""
        rows = [
            (
                credential.kind.value,
                credential.serial,
                str(credential.spiffe_id),
                credential.entry_id,
                credential.entry_revision,
                credential.node_id,
                credential.key_hash or None,
                credential.authority_id,
                codec.texts_to_json(credential.audiences),
                codec.to_micros(credential.issued_at),
                codec.to_micros(credential.not_after),
                credential.state.value,
                credential.rulebook,
            )
            for credential in credentials
        ]
        self._connection.execute(_RECORD, (codec.rows_to_json(rows),))

    def resolve(self, serials: Collection[str], state: CredentialState) -> None:
        """Note what became of these credentials."""
        self._connection.execute(
            "UPDATE credential SET state = ? WHERE serial IN (SELECT value FROM json_each(?))",
            (state.value, codec.texts_to_json(serials)),
        )

    def get(self, serial: str) -> Credential | None:
        """One credential, by its serial or jti."""
        query = f"SELECT {_READ} FROM credential WHERE serial = ?"  # noqa: S608 - our own names
        return next(map(_credential, self._connection.execute(query, (serial,))), None)

    def among(self, serials: Collection[str]) -> Iterator[Credential]:
        """Those of these serials and jtis that are in the ledger."""
        query = f"SELECT {_READ} FROM credential WHERE serial IN (SELECT value FROM json_each(?))"  # noqa: S608 - our own names
        return map(_credential, self._connection.execute(query, (codec.texts_to_json(serials),)))

    def holders(self, key_hashes: Collection[str]) -> Mapping[str, Holder]:
        """What those of these keys that were certified before were certified for, by key hash."""
        rows = self._connection.execute(
            "SELECT key_hash, entry_id, node_id, max(coalesce(reason = ?, 0)) FROM credential"
            " LEFT JOIN revocation ON revocation.number = credential.revocation"
            " WHERE key_hash IN (SELECT value FROM json_each(?)) GROUP BY key_hash",
            (Reason.KEY_COMPROMISE.value, codec.texts_to_json(key_hashes)),
        )
        return {
            key_hash: Holder(
                entry_id=None if entry_id is None else EntryID(entry_id),
                node_id=None if node_id is None else NodeID(node_id),
                is_compromised=bool(is_compromised),
            )
            for key_hash, entry_id, node_id, is_compromised in rows
        }

    def find(self, where: LedgerFilter, *, before: int, limit: int) -> Sequence[Credential]:
        """A page, newest first, numbers less than `before` (0 = from the newest)."""
        conditions, arguments = _conditions(where, before or codec.MAX_NUMBER)
        if where.held_at is None:
            return self._page(conditions, arguments, limit)
        conditions.append("issued_at <= :now AND not_after > :now AND state <> 'failed'")
        arguments["now"] = codec.to_micros(where.held_at)
        page = self._page([*conditions, f"number >= {LIVE_FROM}"], arguments, limit)
        old = [*conditions, f"number < {LIVE_FROM}", "kind = 'authority'"]  # the mark says nothing about those
        return [*page, *self._page(old, arguments, limit - len(page))]

    def after(self, number: int, *, limit: int) -> Sequence[Credential]:
        """A page of all of them, in the order in which they were recorded: those that follow that number."""
        query = f"SELECT {_READ} FROM credential WHERE number > ? ORDER BY number LIMIT ?"  # noqa: S608 - our own names
        return [_credential(row) for row in self._connection.execute(query, (number, limit))]

    def _page(self, conditions: Iterable[str], arguments: Mapping[str, str | int], limit: int) -> list[Credential]:
        query = f"SELECT {_READ} FROM credential WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT :limit"  # noqa: S608 - our own names
        return [_credential(row) for row in self._connection.execute(query, {**arguments, "limit": limit})]

    def uses(self, *, tainted: Collection[KeyID], now: datetime) -> Mapping[KeyID, Use]:
        """How much of what each authority signed is in use, for authorities with any; certificates of authorities do not count."""
        at = {"now": codec.to_micros(now)}
        last = dict(self._connection.execute(_COUNT_LAST, at)) if tainted else {}
        return {
            KeyID(key_id): Use(live=live, unreplaced=last.get(key_id, 0) if key_id in tainted else 0)
            for key_id, live in self._connection.execute(_COUNT_LIVE, at)
        }


def _conditions(where: LedgerFilter, before: int) -> tuple[list[str], dict[str, str | int]]:
    """What comes after WHERE, and its arguments; all but held_at."""
    conditions = ["number < :before"]
    arguments: dict[str, str | int] = {"before": before}
    for column, value in (
        ("spiffe_id", None if where.below else where.spiffe_id),
        ("entry_id", where.entry_id),
        ("node_id", where.node_id),
        ("kind", where.kind),
        ("state", where.state),
        ("serial", where.serial),
    ):
        if value is not None:
            conditions.append(f"{column} = :{column}")
            arguments[column] = str(value)
    for name, moment, condition in (
        ("ends_before", where.ends_before, "not_after < :ends_before"),
        ("held_since", where.held_since, "not_after > :held_since AND state <> 'failed'"),
        ("held_until", where.held_until, "issued_at < :held_until AND state <> 'failed'"),
    ):
        if moment is not None:
            conditions.append(condition)
            arguments[name] = codec.to_micros(moment)
    if where.below:  # `0` follows `/`
        conditions.append("(spiffe_id = :above OR (spiffe_id > :above || '/' AND spiffe_id < :above || '0'))")
        arguments["above"] = str(where.spiffe_id)
    if where.owner is not None:
        conditions.append("entry_id IN (SELECT id FROM entry WHERE owner = :owner)")
        arguments["owner"] = where.owner
    if where.is_revoked is not None:
        conditions.append("revocation > 0" if where.is_revoked else f"revocation = 0 AND NOT {_CUT_OFF}")
    return conditions, arguments


def _credential(row: _CredentialRow) -> Credential:
    return Credential(
        number=row[0],
        kind=CredentialKind(row[1]),
        serial=row[2],
        spiffe_id=codec.spiffe_id(row[3]),
        entry_id=None if row[4] is None else EntryID(row[4]),
        entry_revision=row[5],
        node_id=None if row[6] is None else NodeID(row[6]),
        key_hash=row[7] or "",
        authority_id=KeyID(row[8]),
        audiences=codec.texts_from_json(row[9]),
        issued_at=codec.from_micros(row[10]),
        not_after=codec.from_micros(row[11]),
        state=CredentialState(row[12]),
        rulebook=row[13],
        revocation=row[14],
    )


class SQLiteChanges:
    """The change log. The last number is in the meta row, so that pruned numbers are never used again."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def append(self, changes: Iterable[Change]) -> int:
        """Add rows; returns the number of the last, which is the head."""
        head = self.head().number
        rows = [
            (number, change.kind.value, change.subject, codec.texts_to_json(sorted(map(str, change.parents))))
            for number, change in enumerate(changes, start=head + 1)
        ]
        self._connection.executemany("INSERT INTO change (number, kind, subject, parents) VALUES (?, ?, ?, ?)", rows)
        self._connection.execute("UPDATE meta SET change_number = ?", (head + len(rows),))
        return head + len(rows)

    def after(self, number: int, *, limit: int) -> Sequence[Change]:
        """The rows that follow, in order."""
        rows = self._connection.execute(
            "SELECT number, kind, subject, parents FROM change WHERE number > ? ORDER BY number LIMIT ?",
            (number, limit),
        )
        return [
            Change(
                number=number,
                kind=ChangeKind(kind),
                subject=subject,
                parents=frozenset(map(codec.spiffe_id, codec.texts_from_json(parents))),
            )
            for number, kind, subject, parents in rows
        ]

    def prune(self, *, before: int) -> None:
        """Forget the rows with smaller numbers."""
        self._connection.execute("DELETE FROM change WHERE number < ?", (before,))

    def begin_anew(self, restored: Restored) -> None:
        """Become a new incarnation, so that nobody can resume from an earlier cursor."""
        self._connection.execute(
            "UPDATE meta SET incarnation = ?, restored_at = ?, backup_of = ?",
            (secrets.token_hex(16), codec.to_micros(restored.at), codec.to_micros(restored.backup_of)),
        )

    def restored(self) -> Restored | None:
        """The backup that this incarnation came from; None: it did not come from a backup."""
        at, backup_of = self._connection.execute("SELECT restored_at, backup_of FROM meta").fetchone()
        return None if at is None else Restored(at=codec.from_micros(at), backup_of=codec.from_micros(backup_of))

    def head(self) -> Cursor:
        """The store's incarnation and the last change number."""
        incarnation, number = self._connection.execute("SELECT incarnation, change_number FROM meta").fetchone()
        return Cursor(incarnation=incarnation, number=number)


class SQLiteAudit:
    """The record of decisions, in rows that are already chained."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def add(self, rows: Sequence[AuditRow], changes: Sequence[ChangeOfEntry]) -> None:
        """Append rows, numbered after the last, and note which of them record changes of entries."""
        if not rows:
            return
        digests = b"".join(row.hash for row in rows)
        bodies = codec.texts_to_json(row.body.decode() for row in rows)
        self._connection.execute(
            "INSERT INTO audit (number, body, hash)"
            " SELECT ?1 + key, CAST(value AS BLOB), substr(?2, key * ?3 + 1, ?3) FROM json_each(?4)",
            (rows[0].number, digests, len(GENESIS), bodies),
        )
        if changes:
            changed = codec.rows_to_json((entry_id, number, str(spiffe_id)) for entry_id, number, spiffe_id in changes)
            self._connection.execute(
                "INSERT INTO entry_change (entry_id, number)"
                " SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)",
                (changed,),
            )
            self._connection.execute(
                "INSERT OR IGNORE INTO entry_spiffe_id (spiffe_id, entry_id)"
                " SELECT json_extract(value, '$[2]'), json_extract(value, '$[0]') FROM json_each(?)",
                (changed,),
            )

    def head(self) -> tuple[int, bytes] | None:
        """The number and hash of the last row; None: there are no rows."""
        row = self._connection.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        return None if row is None else (int(row[0]), bytes(row[1]))

    def rows(self, *, after: int, limit: int) -> Sequence[AuditRow]:
        """The rows that follow, in order."""
        rows = self._connection.execute(
            "SELECT number, body, hash FROM audit WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
        )
        return list(_audit_rows(rows))

    def each(self, *, after: int) -> Iterator[AuditRow]:
        """All rows that follow, in order, one by one."""
        return _audit_rows(
            self._connection.execute("SELECT number, body, hash FROM audit WHERE number > ? ORDER BY number", (after,))
        )

    def of_entry(self, entry_id: EntryID, *, after: int) -> Iterator[AuditRow]:
        """Those of them that record a change of this entry."""
        # CROSS JOIN keeps this order, in which nothing has to be sorted
        return _audit_rows(
            self._connection.execute(
                "SELECT audit.number, body, hash FROM entry_change CROSS JOIN audit ON audit.number = entry_change.number"
                " WHERE entry_id = ? AND entry_change.number > ? ORDER BY entry_change.number",
                (entry_id, after),
            )
        )


def _audit_rows(found: Iterable[tuple[int, bytes, bytes]]) -> Iterator[AuditRow]:
    return (AuditRow(number=number, body=body, hash=digest) for number, body, digest in found)


class SQLiteCheckpoints:
    """Signed checkpoints, in the form in which they are sent."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def add(self, checkpoint: Checkpoint) -> None:
        """Add one."""
        self._connection.execute("INSERT INTO checkpoint (document) VALUES (?)", (checkpoint.to_json(),))

    def newest(self, limit: int) -> Sequence[Checkpoint]:
        """The last `limit` checkpoints, oldest first."""
        rows = self._connection.execute("SELECT document FROM checkpoint ORDER BY number DESC LIMIT ?", (limit,))
        return [Checkpoint.parse(document) for (document,) in rows][::-1]

    def forget(self, checkpoints: Collection[Checkpoint]) -> None:
        """Remove these."""
        documents = [(checkpoint.to_json(),) for checkpoint in checkpoints]
        self._connection.executemany("DELETE FROM checkpoint WHERE document = ?", documents)
