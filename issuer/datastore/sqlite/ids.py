"""Ids by how they begin, in SQLite. Each id is one step in an index, however many rows have it."""

from collections.abc import Sequence

from sqlite_utils import Database

from cognomen.protocol.meaning import Meaning
from svid.spiffeid import SpiffeID

__all__ = ["SQLiteIds"]

_AFTER_ALL = "\U0010ffff"


class SQLiteIds:
    """Ids on record, also of entries and nodes that are gone."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def entries(self, beginning: str, *, limit: int) -> Sequence[Meaning]:
        """Entries that ever changed; their SPIFFE IDs are not known here."""
        return [Meaning(id=one) for one in self._ids("entry_change", "entry_id", beginning, limit)]

    def deleted_entries(self, spiffe_id: SpiffeID, *, limit: int) -> Sequence[Meaning]:
        """Entries that are gone and once had this SPIFFE ID."""
        rows = self._connection.execute(
            "SELECT entry_id FROM entry_spiffe_id WHERE spiffe_id = ?"
            " AND NOT EXISTS (SELECT 1 FROM entry WHERE id = entry_id) ORDER BY entry_id LIMIT ?",
            (str(spiffe_id), limit),
        )
        return [Meaning(id=one, spiffe_id=str(spiffe_id)) for (one,) in rows]

    def nodes(self, beginning: str, *, limit: int) -> Sequence[Meaning]:
        """Nodes for which something was signed."""
        query = "SELECT spiffe_id FROM credential WHERE node_id = ? AND kind = 'node' LIMIT 1"
        found = self._ids("credential", "node_id", beginning, limit)
        rows = ((one, self._connection.execute(query, (one,)).fetchone()) for one in found)
        return [Meaning(id=one, spiffe_id="" if row is None else row[0]) for one, row in rows]

    def credentials(self, beginning: str, *, limit: int) -> Sequence[Meaning]:
        """Serials and jtis."""
        query = "SELECT serial, spiffe_id FROM credential WHERE serial >= ? AND serial < ? ORDER BY serial LIMIT ?"
        rows = self._connection.execute(query, (beginning, beginning + _AFTER_ALL, limit))
        return [Meaning(id=serial, spiffe_id=spiffe_id) for serial, spiffe_id in rows]

    def _ids(self, table: str, column: str, beginning: str, limit: int) -> list[str]:
        within = f"FROM {table} WHERE {column} < :end AND {column}"
        rows = self._connection.execute(
            f"WITH RECURSIVE found (id) AS (SELECT min({column}) {within} >= :beginning UNION ALL"  # noqa: S608 - our own names
            f" SELECT (SELECT min({column}) {within} > found.id) FROM found WHERE found.id IS NOT NULL)"
            " SELECT id FROM found WHERE id IS NOT NULL LIMIT :limit",
            {"beginning": beginning, "end": beginning + _AFTER_ALL, "limit": limit},
        )
        return [found for (found,) in rows]
