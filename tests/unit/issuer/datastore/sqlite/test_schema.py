"""What a migration makes of rows that an earlier release wrote."""

import json
from pathlib import Path

from cognomen.protocol.entry import EntryID
from issuer.datastore.sqlite.entries import SQLiteEntries
from issuer.datastore.sqlite.schema import connect, migrate


def test_changes_of_entries_that_were_recorded_before_are_found(tmp_path: Path) -> None:
    path = tmp_path / "issuer.db"
    path.touch()
    database = connect(path)
    migrate(database)
    database.execute("DROP TABLE entry_change")
    database.execute("DELETE FROM _sqlite_migrations WHERE name = '0005'")
    bodies = [
        json.dumps({"action": "entry created", "facts": {"entry": "e1"}}),
        json.dumps({"action": "x509 issued", "facts": {"entry": "e1"}}),
        "[",
        json.dumps({"action": "entry deleted", "facts": {"kind": "NOT_FOUND"}}),
        json.dumps({"action": "entry updated", "facts": {"entry": "e2"}}),
    ]
    for number, body in enumerate(bodies, start=1):
        database.execute("INSERT INTO audit (number, body, hash) VALUES (?, ?, x'')", (number, body.encode()))
    migrate(database)
    assert database.execute("SELECT entry_id, number FROM entry_change").fetchall() == [("e1", 1), ("e2", 5)]
    database.conn.close()


def test_entries_of_earlier_releases_are_not_default(tmp_path: Path) -> None:
    path = tmp_path / "issuer.db"
    path.touch()
    database = connect(path)
    migrate(database)
    database.execute("ALTER TABLE entry DROP COLUMN is_default")
    database.execute("DELETE FROM _sqlite_migrations WHERE name = '0006'")
    database.execute(
        "INSERT INTO entry (id, spiffe_id, parent_id, selectors, dns_names, revision, hint, owner, labels, fingerprint)"
        """ VALUES ('e1', 'spiffe://example.org/a', 'spiffe://example.org/b', '["unix:uid:1"]', '[]', 1, '', '', '{}', x'00')"""
    )
    migrate(database)
    (found,) = SQLiteEntries(database).get([EntryID("e1")]).values()
    assert not found.default
    database.conn.close()
