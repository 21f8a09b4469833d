"""Which processes used which identities, in SQLite: a row for each process, entry and node, and the last use of each entry."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TypeAlias

from sqlite_utils import Database

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from cognomen.protocol.uses import EntryUse
from issuer.datastore.sqlite import codec
from issuer.decisions.uses import NotedUse, UseFilter

__all__ = ["SQLiteUses", "program_number"]

_KEY = "entry_id, node_id, uid, gid, pid, started, program"
_COLUMNS = "entry_id, node_id, uid, gid, pid, started, executable, processes, first_at, last_at, x509, jwt, account"
_WRITTEN = f"{_COLUMNS}, program, size"
_VALUES = ", ".join(f"json_extract(value, '$[{column}]')" for column in range(_WRITTEN.count(",") + 1))
_NOTE = (
    f"INSERT INTO entry_use ({_WRITTEN}) SELECT {_VALUES} FROM json_each(?) WHERE true"  # noqa: S608 - our own names
    f" ON CONFLICT ({_KEY}) DO UPDATE SET processes = max(processes, excluded.processes),"
    " first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at),"
    " x509 = max(x509, excluded.x509), jwt = max(jwt, excluded.jwt), account = excluded.account"
)
_NOTE_LAST = (
    "INSERT INTO entry_last_use (entry_id, at)"
    " SELECT json_extract(value, '$[0]'), max(json_extract(value, '$[9]')) FROM json_each(?) WHERE true GROUP BY 1"
    " ON CONFLICT (entry_id) DO UPDATE SET at = max(at, excluded.at)"
)
_COUNT = "SELECT count(*), coalesce(sum(size), 0) FROM entry_use WHERE node_id = ?"
_ROW_BYTES = 256  # of a row without its executable, with its places in the indexes
_FORGET = (
    "DELETE FROM entry_use WHERE number IN (SELECT number FROM (SELECT number, count(*) OVER taken AS rows, sum(size) OVER taken AS bytes"
    " FROM (SELECT number, size, last_at, sum(size) OVER"
    " (PARTITION BY account ORDER BY last_at DESC, number DESC ROWS UNBOUNDED PRECEDING) AS place"
    " FROM entry_use WHERE node_id = :node_id)"
    " WINDOW taken AS (ORDER BY place, last_at DESC, number DESC ROWS UNBOUNDED PRECEDING))"
    " WHERE rows > :most OR bytes > :most_bytes)"
)
_HELD_ROWS = 8  # of an entry on a node, those that end last: the last of them may have been revoked
_HELD = (
    "SELECT asked.value, max(min(held.not_after, coalesce(revocation.at, held.not_after),"  # noqa: S608 - our own number
    " coalesce(authority.retired_at, held.not_after)))"
    " FROM json_each(:entry_ids) AS asked CROSS JOIN credential AS held ON held.number IN"
    " (SELECT number FROM credential INDEXED BY credential_by_holder"
    f" WHERE entry_id = asked.value AND node_id = :node_id ORDER BY not_after DESC LIMIT {_HELD_ROWS})"
    " LEFT JOIN revocation ON revocation.number = held.revocation"
    " LEFT JOIN authority ON authority.key_id = held.authority_id GROUP BY 1"
)
_Row: TypeAlias = tuple[int, str, str, int, int, int, int, str, int, int, int, int, int, int]


class SQLiteUses:
    """Which processes used which identities."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def note(self, node_id: NodeID, uses: Collection[EntryUse], *, most: int, most_bytes: int) -> None:
        """Add what a node reports to what it reported before.

        Once it has a tenth more rows or bytes than that, keep as many: the last used ones of each account, in turns of equal bytes.
        """
        rows = codec.rows_to_json(
            [
                (
                    use.entry_id,
                    node_id,
                    use.uid,
                    use.gid,
                    use.pid,
                    use.started,
                    use.executable,
                    use.processes,
                    codec.to_micros(use.first_at),
                    codec.to_micros(use.last_at),
                    int(use.x509),
                    int(use.jwt),
                    use.account,
                    program_number(use.executable),
                    _ROW_BYTES + len(use.executable.encode()),
                )
                for use in uses
            ]
        )
        self._connection.execute(_NOTE, (rows,))
        self._connection.execute(_NOTE_LAST, (rows,))
        count, size = self._connection.execute(_COUNT, (node_id,)).fetchone()
        if count > most + most // 10 or size > most_bytes + most_bytes // 10:
            self._connection.execute(_FORGET, {"node_id": node_id, "most": most, "most_bytes": most_bytes})

    def held(self, node_id: NodeID, entry_ids: Collection[EntryID]) -> Mapping[EntryID, datetime]:
        """When what a node got of these entries ended, or will end; without those of which it never got an SVID."""
        asked = {"node_id": node_id, "entry_ids": codec.texts_to_json(entry_ids)}
        return {EntryID(entry_id): codec.from_micros(end) for entry_id, end in self._connection.execute(_HELD, asked)}

    def find(self, where: UseFilter, *, after: int, limit: int) -> Sequence[NotedUse]:
        """A page in the order of numbers, those that follow that number."""
        conditions = ["number > :after"]
        arguments: dict[str, str | int] = {"after": after, "limit": limit}
        if where.entry_ids:
            conditions.append("entry_id IN (SELECT value FROM json_each(:entry_ids))")
            arguments["entry_ids"] = codec.texts_to_json(where.entry_ids)
        if where.node_id is not None:
            conditions.append("node_id = :node_id")
            arguments["node_id"] = where.node_id
        if where.since is not None:
            conditions.append("last_at >= :since")
            arguments["since"] = codec.to_micros(where.since)
        if where.until is not None:
            conditions.append("first_at <= :until")
            arguments["until"] = codec.to_micros(where.until)
        query = (
            f"SELECT number, {_COLUMNS} FROM entry_use WHERE {' AND '.join(conditions)} ORDER BY number LIMIT :limit"  # noqa: S608 - our own names
        )
        return [_noted(row) for row in self._connection.execute(query, arguments)]

    def last(self, entry_ids: Collection[EntryID]) -> Mapping[EntryID, datetime]:
        """When those of these entries that were used were last used."""
        rows = self._connection.execute(
            "SELECT entry_id, at FROM entry_last_use WHERE entry_id IN (SELECT value FROM json_each(?))",
            (codec.texts_to_json(entry_ids),),
        )
        return {EntryID(entry_id): codec.from_micros(at) for entry_id, at in rows}

    def since(self) -> datetime:
        """Since when uses are recorded without a gap."""
        (micros,) = self._connection.execute("SELECT uses_since FROM meta").fetchone()
        return codec.from_micros(int(micros))

    def begin_anew(self, at: datetime) -> None:
        """Note a gap that ended then; what was recorded before stays."""
        self._connection.execute("UPDATE meta SET uses_since = ?", (codec.to_micros(at),))

    def prune(self, *, last_before: datetime) -> None:
        """Forget what was last used before that."""
        before = (codec.to_micros(last_before),)
        self._connection.execute("DELETE FROM entry_use WHERE last_at < ?", before)
        self._connection.execute("DELETE FROM entry_last_use WHERE at < ?", before)


def program_number(executable: str) -> int:
    """A number for a path, which tells it from the others of a node."""
    return int.from_bytes(sha256(executable.encode()).digest()[:8]) >> 1


def _noted(row: _Row) -> NotedUse:
    return NotedUse(
        number=row[0],
        node_id=NodeID(row[2]),
        use=EntryUse(
            entry_id=EntryID(row[1]),
            uid=row[3],
            account=row[13],
            gid=row[4],
            pid=row[5],
            started=row[6],
            executable=row[7],
            processes=row[8],
            first_at=codec.from_micros(row[9]),
            last_at=codec.from_micros(row[10]),
            x509=bool(row[11]),
            jwt=bool(row[12]),
        ),
    )
