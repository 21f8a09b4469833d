"""Exports of the bundle in SQLite."""

from collections.abc import Sequence

from sqlite_utils import Database

from issuer.datastore.sqlite import codec
from issuer.decisions.exports import Export, ExportFormat
from svid.keys import KeyID

__all__ = ["SQLiteExports"]


class SQLiteExports:
    """Copies of the bundle that relying parties have."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> Sequence[Export]:
        """All of them, by name."""
        rows = self._database.query(
            "SELECT name, format, key_ids, digest, at, actor, login FROM bundle_export ORDER BY name"
        )
        return [
            Export(
                name=row["name"],
                format=ExportFormat(row["format"]),
                key_ids=frozenset(map(KeyID, codec.texts_from_json(row["key_ids"]))),
                digest=row["digest"],
                at=codec.from_micros(row["at"]),
                actor=row["actor"],
                login=row["login"],
            )
            for row in rows
        ]

    def put(self, export: Export) -> None:
        """Add an export, or overwrite the one with its name."""
        self._database.execute(
            "INSERT INTO bundle_export (name, format, key_ids, digest, at, actor, login) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET format = excluded.format, key_ids = excluded.key_ids, digest = excluded.digest,"
            " at = excluded.at, actor = excluded.actor, login = excluded.login",
            (
                export.name,
                export.format.value,
                codec.texts_to_json(sorted(export.key_ids)),
                export.digest,
                codec.to_micros(export.at),
                export.actor,
                export.login,
            ),
        )

    def delete(self, name: str) -> None:
        """Remove an export, if it exists."""
        self._database.execute("DELETE FROM bundle_export WHERE name = ?", [name])
