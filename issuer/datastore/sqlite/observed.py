"""Entries that only observe, and what they would have given, in SQLite: a row for each process, entry, node and refused audience."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TypeAlias

from sqlite_utils import Database

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from cognomen.protocol.uses import EntryUse
from issuer.datastore.sqlite import codec
from issuer.datastore.sqlite.uses import program_number
from issuer.decisions.observing import ObservedEntry, ObservedProgram
from svid.spiffeid import SpiffeID

__all__ = ["SQLiteObservations"]

_KEY = "entry_id, audience, node_id, uid, gid, pid, started, program"
_WRITTEN = f"{_KEY}, account, size, executable, processes, times, first_at, last_at, x509, jwt"
_VALUES = ", ".join(f"json_extract(value, '$[{column}]')" for column in range(_WRITTEN.count(",") + 1))
_NOTE = (
    f"INSERT INTO observed_use ({_WRITTEN}) SELECT {_VALUES} FROM json_each(?) WHERE true"  # noqa: S608 - our own names
    f" ON CONFLICT ({_KEY}) DO UPDATE SET processes = max(processes, excluded.processes), times = min(times + excluded.times, 1000000000),"
    " first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at),"
    " x509 = max(x509, excluded.x509), jwt = max(jwt, excluded.jwt), account = excluded.account"
)
_ROW_BYTES = 320  # of a row without its texts, with its places in the indexes
_COUNT = "SELECT count(*), coalesce(sum(size), 0) FROM observed_use WHERE node_id = ?"
_FORGET = (
    "DELETE FROM observed_use WHERE number IN"
    " (SELECT number FROM (SELECT number, count(*) OVER taken AS rows, sum(size) OVER taken AS bytes"
    " FROM (SELECT number, size, last_at, sum(size) OVER"
    " (PARTITION BY account ORDER BY last_at DESC, number DESC ROWS UNBOUNDED PRECEDING) AS place"
    " FROM observed_use WHERE node_id = :node_id)"
    " WINDOW taken AS (ORDER BY place, last_at DESC, number DESC ROWS UNBOUNDED PRECEDING))"
    " WHERE rows > :most OR bytes > :most_bytes)"
)
_FIND = (
    "SELECT observed_entry.entry_id, spiffe_id, parent_id, since FROM observed_entry"
    " JOIN entry ON entry.id = observed_entry.entry_id WHERE observed_entry.entry_id > :after"
)
_BELOW = " AND (spiffe_id = :at OR (spiffe_id > :begin AND spiffe_id < :end))"  # `0` follows `/`
_PROGRAMS = (
    "SELECT uid, executable, audience, CASE count(*) WHEN 1 THEN max(pid) ELSE 0 END, count(DISTINCT node_id),"
    " sum(processes), sum(times), min(first_at), max(last_at), max(x509), max(jwt), count(*) OVER ()"
    " FROM observed_use WHERE entry_id = ? AND last_at >= ?"
    " GROUP BY uid, executable, audience ORDER BY max(last_at) DESC, uid, executable, audience LIMIT ?"
)
_IDS = "entry_id IN (SELECT value FROM json_each(?))"
_Program: TypeAlias = tuple[int, str, str, int, int, int, int, int, int, int, int, int]


class SQLiteObservations:
    """What entries that only observe would have given."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def begin(self, entry_ids: Collection[EntryID], at: datetime) -> None:
        """Note that these entries observe since then; what was noted of them before is forgotten."""
        self.end(entry_ids)
        rows = ((entry_id, codec.to_micros(at)) for entry_id in entry_ids)
        self._connection.executemany("INSERT INTO observed_entry (entry_id, since) VALUES (?, ?)", rows)

    def end(self, entry_ids: Collection[EntryID]) -> None:
        """Note that these entries observe no more; what was noted of them is forgotten."""
        if not entry_ids:
            return
        ids = (codec.texts_to_json(entry_ids),)
        self._connection.execute(f"DELETE FROM observed_entry WHERE {_IDS}", ids)  # noqa: S608 - our own names
        self._connection.execute(f"DELETE FROM observed_use WHERE {_IDS}", ids)  # noqa: S608 - our own names

    def note(self, node_id: NodeID, uses: Collection[EntryUse], *, most: int, most_bytes: int) -> None:
        """Add what a node reports to what it reported before.

        Once it has a tenth more rows or bytes than that, keep as many: the last ones of each account, in turns of equal bytes.
        """
        rows = codec.rows_to_json(
            [
                (
                    use.entry_id,
                    use.refused_audience,
                    node_id,
                    use.uid,
                    use.gid,
                    use.pid,
                    use.started,
                    program_number(use.executable),
                    use.account,
                    _ROW_BYTES + len(use.executable.encode()) + 2 * len(use.refused_audience.encode()),
                    use.executable,
                    use.processes,
                    use.times,
                    codec.to_micros(use.first_at),
                    codec.to_micros(use.last_at),
                    int(use.x509),
                    int(use.jwt),
                )
                for use in uses
            ]
        )
        self._connection.execute(_NOTE, (rows,))
        count, size = self._connection.execute(_COUNT, (node_id,)).fetchone()
        if count > most + most // 10 or size > most_bytes + most_bytes // 10:
            self._connection.execute(_FORGET, {"node_id": node_id, "most": most, "most_bytes": most_bytes})

    def find(self, below: SpiffeID | None, *, after: str, limit: int) -> Sequence[ObservedEntry]:
        """A page of the entries that observe in id order, ids greater than `after`.

        Args:
            below: those with this SPIFFE ID or one below it; None: all.
        """
        query, arguments = _FIND, {"after": after, "limit": str(limit)}
        if below is not None:
            query += _BELOW
            arguments |= {"at": str(below), "begin": f"{below}/", "end": f"{below}0"}
        rows = self._connection.execute(
            f"{query} ORDER BY observed_entry.entry_id LIMIT CAST(:limit AS INTEGER)", arguments
        )
        return [
            ObservedEntry(
                entry_id=EntryID(entry_id),
                spiffe_id=codec.spiffe_id(spiffe_id),
                parent_id=codec.spiffe_id(parent_id),
                since=codec.from_micros(since),
            )
            for entry_id, spiffe_id, parent_id, since in rows
        ]

    def programs(self, entry_id: EntryID, *, since: datetime, limit: int) -> tuple[Sequence[ObservedProgram], int]:
        """What an entry would have given to whom until `since` or later, the last ones first, and how many others there are."""
        rows = self._connection.execute(_PROGRAMS, (entry_id, codec.to_micros(since), limit)).fetchall()
        count = rows[0][-1] if rows else 0
        return list(map(_program, rows)), count - len(rows)

    def prune(self, *, last_before: datetime) -> None:
        """Forget what was last seen before that; an entry that observes stays one."""
        self._connection.execute("DELETE FROM observed_use WHERE last_at < ?", (codec.to_micros(last_before),))


def _program(row: _Program) -> ObservedProgram:
    return ObservedProgram(
        uid=row[0],
        executable=row[1],
        refused_audience=row[2],
        pid=row[3],
        nodes=row[4],
        processes=row[5],
        times=row[6],
        first_at=codec.from_micros(row[7]),
        last_at=codec.from_micros(row[8]),
        x509=bool(row[9]),
        jwt=bool(row[10]),
    )
