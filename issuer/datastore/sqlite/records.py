"""What only grows, in SQLite: the ledger, the change log, the audit chain and its checkpoints.

The rows of a batch go in as one JSON document by one statement: `executemany` takes and gives back the interpreter's lock for every row,
and each time waits for whoever is signing.
"""

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from sqlite_utils import Database

from cognomen.daemon.auditlog import GENESIS, AuditRow, Checkpoint
from cognomen.protocol.feed import Cursor
from issuer.datastore.port import LedgerFilter, Use
from issuer.datastore.sqlite import codec
from issuer.datastore.sqlite.marks import LIVE, LIVE_FROM
from issuer.decisions.audit import AuditEvent, Credential, CredentialKind, CredentialState, NodeID, chain
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.minting import Holder
from issuer.decisions.restoration import Restored
from issuer.decisions.revocation import Reason
from svid.entry import EntryID
from svid.keys import KeyID

__all__ = ["SQLiteAudit", "SQLiteChanges", "SQLiteCheckpoints", "SQLiteLedger"]

_MAX_NUMBER = 2**63 - 1
_MOST_CHECKPOINTS = 1000  # as many as one page may ask for
_CREDENTIAL = (
    "kind, serial, spiffe_id, entry_id, entry_revision, node_id, key_hash, authority_id, audiences,"
    " issued_at, not_after, state"
)
_READ = f"number, {_CREDENTIAL}, revocation"
_COLUMNS = ", ".join(f"json_extract(value, '$[{column}]')" for column in range(_CREDENTIAL.count(",") + 1))
_RECORD = f"INSERT INTO credential ({_CREDENTIAL}) SELECT {_COLUMNS} FROM json_each(?)"  # noqa: S608 - our own names
_EXTEND = "UPDATE authority SET last_not_after = max(coalesce(last_not_after, 0), ?) WHERE key_id = ?"
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
    int, str, str, str, str | None, int, str | None, str | None, str, str, int, int, str, int
]  # _READ


class SQLiteLedger:
    """Every credential that we signed, or were about to."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def record(self, credentials: Sequence[Credential]) -> None:
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
            )
            for credential in credentials
        ]
        self._connection.execute(_RECORD, (codec.rows_to_json(rows),))
        ends: dict[KeyID, int] = {}
        for credential in credentials:
            if credential.kind is not CredentialKind.AUTHORITY:
                end = codec.to_micros(credential.not_after)
                ends[credential.authority_id] = max(end, ends.get(credential.authority_id, 0))
        self._connection.executemany(_EXTEND, [(end, key_id) for key_id, end in ends.items()])

    def resolve(self, serials: Collection[str], state: CredentialState) -> None:
        """Say what became of these credentials."""
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
        """For those of these keys that were certified before: under what, by key hash."""
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
        conditions = ["number < :before"]
        arguments: dict[str, str | int] = {"before": before or _MAX_NUMBER}
        for column, value in (
            ("spiffe_id", where.spiffe_id),
            ("entry_id", where.entry_id),
            ("node_id", where.node_id),
            ("kind", where.kind),
            ("state", where.state),
            ("serial", where.serial),
        ):
            if value is not None:
                conditions.append(f"{column} = :{column}")
                arguments[column] = str(value)
        if where.is_revoked is not None:
            conditions.append("revocation > 0" if where.is_revoked else f"revocation = 0 AND NOT {_CUT_OFF}")
        if where.ends_before is not None:
            conditions.append("not_after < :ends_before")
            arguments["ends_before"] = codec.to_micros(where.ends_before)
        if where.held_at is None:
            return self._page(conditions, arguments, limit)
        conditions.append("issued_at <= :now AND not_after > :now AND state <> 'failed'")
        arguments["now"] = codec.to_micros(where.held_at)
        page = self._page([*conditions, f"number >= {LIVE_FROM}"], arguments, limit)
        old = [*conditions, f"number < {LIVE_FROM}", "kind = 'authority'"]  # the mark says nothing of those
        return [*page, *self._page(old, arguments, limit - len(page))]

    def _page(self, conditions: Iterable[str], arguments: Mapping[str, str | int], limit: int) -> list[Credential]:
        query = f"SELECT {_READ} FROM credential WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT :limit"  # noqa: S608 - our own names
        return [_credential(row) for row in self._connection.execute(query, {**arguments, "limit": limit})]

    def uses(self, *, tainted: Collection[KeyID], now: datetime) -> Mapping[KeyID, Use]:
        """What is in use of the authorities that signed anything that is, certificates of authorities aside."""
        at = {"now": codec.to_micros(now)}
        last = dict(self._connection.execute(_COUNT_LAST, at)) if tainted else {}
        return {
            KeyID(key_id): Use(live=live, unreplaced=last.get(key_id, 0) if key_id in tainted else 0)
            for key_id, live in self._connection.execute(_COUNT_LIVE, at)
        }


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
        revocation=row[13],
    )


class SQLiteChanges:
    """The change log; the last number stands in the meta row, so that pruned numbers never come again."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def append(self, changes: Iterable[Change]) -> int:
        """Add rows; the number of the last, which is the head's."""
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
        """Forget the rows with lesser numbers."""
        self._connection.execute("DELETE FROM change WHERE number < ?", (before,))

    def begin_anew(self, restored: Restored) -> None:
        """Become another incarnation: no cursor of before can be resumed."""
        self._connection.execute(
            "UPDATE meta SET incarnation = ?, restored_at = ?, backup_of = ?",
            (secrets.token_hex(16), codec.to_micros(restored.at), codec.to_micros(restored.backup_of)),
        )

    def restored(self) -> Restored | None:
        """Which backup this incarnation came from; None: from none."""
        at, backup_of = self._connection.execute("SELECT restored_at, backup_of FROM meta").fetchone()
        return None if at is None else Restored(at=codec.from_micros(at), backup_of=codec.from_micros(backup_of))

    def head(self) -> Cursor:
        """The store's incarnation and the last number given."""
        incarnation, number = self._connection.execute("SELECT incarnation, change_number FROM meta").fetchone()
        return Cursor(incarnation=incarnation, number=number)


class SQLiteAudit:
    """The hash-chained record of decisions; its head is read in the transaction that adds to it."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Add rows to the chain."""
        number, digest = self.head()
        rows = list(chain(events, number=number, head=digest))
        digests = b"".join(row.hash for row in rows)
        bodies = codec.texts_to_json(row.body.decode() for row in rows)
        self._connection.execute(
            "INSERT INTO audit (number, body, hash)"
            " SELECT ?1 + key, CAST(value AS BLOB), substr(?2, key * ?3 + 1, ?3) FROM json_each(?4)",
            (number + 1, digests, len(GENESIS), bodies),
        )

    def head(self) -> tuple[int, bytes]:
        """How many rows there are, and the hash of the last."""
        row = self._connection.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        return row or (0, GENESIS)

    def rows(self, *, after: int, limit: int) -> Sequence[AuditRow]:
        """The rows that follow, in order."""
        rows = self._connection.execute(
            "SELECT number, body, hash FROM audit WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
        )
        return [AuditRow(number=number, body=body, hash=digest) for number, body, digest in rows]


class SQLiteCheckpoints:
    """Signed checkpoints of the audit chain, as they are told."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def add(self, checkpoint: Checkpoint) -> None:
        """Add one, and let go of what is too old."""
        added = self._connection.execute("INSERT INTO checkpoint (document) VALUES (?)", (checkpoint.to_json(),))
        self._connection.execute(
            "DELETE FROM checkpoint WHERE number <= ?", ((added.lastrowid or 0) - _MOST_CHECKPOINTS,)
        )

    def latest(self) -> Checkpoint | None:
        """The last one that was added."""
        return next(iter(self.newest(1)), None)

    def newest(self, limit: int) -> Sequence[Checkpoint]:
        """The last so many, oldest first."""
        rows = self._connection.execute("SELECT document FROM checkpoint ORDER BY number DESC LIMIT ?", (limit,))
        return [Checkpoint.parse(document) for (document,) in rows][::-1]
