"""What changes of entries took away, in SQLite: few rows, for a short time.

We read the ledger by its index of entries, or only the part that has been added since. An entry may be on a thousand nodes, so each row
is read once, and not once for each node.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

import msgspec
from sqlite_utils import Database

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from issuer.datastore.sqlite import codec
from issuer.datastore.sqlite.marks import LIVE_FROM
from issuer.decisions.endings import Alike
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.supersession import Holding, Supersession

__all__ = ["SQLiteSupersessions"]

_LIVE = (
    f"held.number >= {LIVE_FROM} AND held.not_after > :now AND held.state <> 'failed' AND held.revocation = 0"
    " AND held.kind IN ('x509', 'jwt')"
)
_ALWAYS = -1  # before every end of a credential
_NUMBERS = "(SELECT value FROM json_each(:numbers))"


class SQLiteSupersessions:
    """What operators' changes of entries took away, until it ends."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def holdings(self, entry_ids: Collection[EntryID], *, now: datetime) -> Sequence[Holding]:
        """What nodes hold for these entries, by entry and node."""
        rows = self._connection.execute(
            "SELECT entry_id, node_id, max(not_after) FROM credential AS held"  # noqa: S608 - our own texts
            f" WHERE {_LIVE} AND entry_id IN (SELECT value FROM json_each(:entry_ids)) GROUP BY entry_id, node_id",
            {"now": codec.to_micros(now), "entry_ids": codec.texts_to_json(entry_ids)},
        )
        return [
            Holding(entry_id=EntryID(entry_id), node_id=NodeID(node_id), ends_at=codec.from_micros(ends_at))
            for entry_id, node_id, ends_at in rows
        ]

    def live(self, supersessions: Sequence[Supersession], *, now: datetime) -> int:
        """How many live credentials these would supersede, if they were added now."""
        beyond: dict[tuple[str, str], int] = {}
        for one in supersessions:
            key = one.entry_id, one.node_id
            end = codec.to_micros(one.beyond) if one.beyond is not None else _ALWAYS
            beyond[key] = min(end, beyond.get(key, end))
        rows = self._connection.execute(
            "SELECT entry_id, node_id, not_after FROM credential AS held"  # noqa: S608 - our own texts
            f" WHERE {_LIVE} AND entry_id IN (SELECT value FROM json_each(:entry_ids))",
            {"now": codec.to_micros(now), "entry_ids": codec.texts_to_json({one.entry_id for one in supersessions})},
        )
        never = codec.MAX_NUMBER
        return sum(ends_at > beyond.get((entry_id, node_id), never) for entry_id, node_id, ends_at in rows)

    def ending(
        self, ended: Collection[EntryID], superseded: Sequence[Supersession], *, now: datetime
    ) -> Iterator[Alike]:
        """What is live for entries that would be deleted, and what these would supersede."""
        deleted = self._connection.execute(
            "SELECT spiffe_id, kind, audiences, count(*), max(not_after) FROM credential AS held"  # noqa: S608 - our own texts
            f" WHERE {_LIVE} AND entry_id IN (SELECT value FROM json_each(:entry_ids)) GROUP BY spiffe_id, kind, audiences",
            {"now": codec.to_micros(now), "entry_ids": codec.texts_to_json(ended)},
        )
        for spiffe_id, kind, audiences, count, ends_at in deleted:
            yield _alike(spiffe_id, kind, audiences, count=count, ends_at=ends_at, is_later=False)
        taken = {(one.entry_id, one.node_id): one for one in superseded}
        rows = self._connection.execute(
            "SELECT spiffe_id, kind, audiences, not_after, entry_id, node_id FROM credential AS held"  # noqa: S608 - our own texts
            f" WHERE {_LIVE} AND entry_id IN (SELECT value FROM json_each(:entry_ids))",
            {"now": codec.to_micros(now), "entry_ids": codec.texts_to_json({one.entry_id for one in superseded})},
        )
        for spiffe_id, kind, audiences, ends_at, entry_id, node_id in rows:
            one = taken.get((entry_id, node_id))
            if one is not None and (one.beyond is None or ends_at > codec.to_micros(one.beyond)):
                yield _alike(spiffe_id, kind, audiences, count=1, ends_at=ends_at, is_later=one.due_at > now)

    def add(self, supersessions: Sequence[Supersession]) -> Sequence[int]:
        """Add some, which apply to what the ledger has now; returns their numbers."""
        added = (
            self._connection.execute(
                "INSERT INTO supersession (entry_id, node_id, up_to, beyond, actor, at, due_at)"
                " VALUES (?, ?, (SELECT coalesce(max(number), 0) FROM credential), ?, ?, ?, ?)",
                (
                    one.entry_id,
                    one.node_id,
                    codec.optional_micros(one.beyond),
                    one.actor,
                    codec.to_micros(one.at),
                    codec.to_micros(one.due_at),
                ),
            )
            for one in supersessions
        )
        return [int(row.lastrowid or 0) for row in added]

    def due(self, *, now: datetime, pushed_by: datetime) -> Sequence[Supersession]:
        """Those that are due, those dated in the future, and those whose SVID was replaced by one issued by the time `pushed_by`."""
        rows = self._connection.execute(
            "SELECT number, entry_id, node_id, beyond, actor, at, due_at FROM supersession"
            " WHERE due_at <= :now OR at > :now OR number IN ("
            "  SELECT was.number FROM credential AS next CROSS JOIN supersession AS was"
            "  ON was.entry_id = next.entry_id AND was.node_id = next.node_id AND was.up_to < next.number"
            "  WHERE next.number > (SELECT min(up_to) FROM supersession)"
            "  AND next.kind = 'x509' AND next.state = 'issued' AND next.issued_at <= :pushed_by) ORDER BY number",
            {"now": codec.to_micros(now), "pushed_by": codec.to_micros(pushed_by)},
        )
        return [
            Supersession(
                number=number,
                entry_id=EntryID(entry_id),
                node_id=NodeID(node_id),
                beyond=codec.optional_moment(beyond),
                actor=actor,
                at=codec.from_micros(at),
                due_at=codec.from_micros(due_at),
            )
            for number, entry_id, node_id, beyond, actor, at, due_at in rows
        ]

    def serials(self, numbers: Collection[int], *, now: datetime) -> Sequence[str]:
        """The live credentials that these supersede."""
        rows = self._connection.execute(
            "SELECT DISTINCT held.serial FROM credential AS held CROSS JOIN supersession AS was"  # noqa: S608 - our own texts
            " ON was.entry_id = held.entry_id AND was.node_id = held.node_id AND was.up_to >= held.number"
            f" WHERE {_LIVE} AND held.entry_id IN (SELECT entry_id FROM supersession WHERE number IN {_NUMBERS})"
            f" AND +was.number IN {_NUMBERS} AND (was.beyond IS NULL OR held.not_after > was.beyond)",
            {"now": codec.to_micros(now), "numbers": msgspec.json.encode(list(numbers)).decode()},
        )
        return [serial for (serial,) in rows]

    def count(self) -> int:
        """How many there are."""
        return int(self._connection.execute("SELECT count(*) FROM supersession").fetchone()[0])

    def delete(self, numbers: Collection[int]) -> None:
        """Remove these."""
        self._connection.execute(
            "DELETE FROM supersession WHERE number IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(list(numbers)).decode(),),
        )


def _alike(spiffe_id: str, kind: str, audiences: str, *, count: int, ends_at: int, is_later: bool) -> Alike:
    return Alike(
        spiffe_id=codec.spiffe_id(spiffe_id),
        kind=CredentialKind(kind),
        count=count,
        is_later=is_later,
        audiences=codec.texts_from_json(audiences),
        ends_at=codec.from_micros(ends_at),
    )
