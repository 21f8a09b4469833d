"""What a migration makes of rows that an earlier release wrote."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from cognomen.protocol.entry import EntryID
from issuer.datastore.sqlite.connection import connect
from issuer.datastore.sqlite.entries import SQLiteEntries
from issuer.datastore.sqlite.migrations import migrate


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A store of this release."""
    path = tmp_path / "issuer.db"
    path.touch()
    with closing(connect(path)) as database:
        migrate(database)
        yield database


def test_changes_of_entries_that_were_recorded_before_are_found(database: Database) -> None:
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


def test_spiffe_ids_that_entries_had_before_are_found(database: Database) -> None:
    database.execute("DROP TABLE entry_spiffe_id")
    database.execute("DELETE FROM _sqlite_migrations WHERE name = '0009'")
    bodies = [
        ("e1", json.dumps({"subject": "spiffe://example.org/a"})),
        ("e1", json.dumps({"subject": "spiffe://example.org/b"})),
        ("e1", json.dumps({"subject": "spiffe://example.org/b"})),
        ("e2", "["),
        ("e2", json.dumps({"subject": 7})),
        ("e2", json.dumps({"subject": "spiffe://example.org/a"})),
        (None, json.dumps({"subject": "spiffe://example.org/c"})),
    ]
    for number, (entry_id, body) in enumerate(bodies, start=1):
        database.execute("INSERT INTO audit (number, body, hash) VALUES (?, ?, x'')", (number, body.encode()))
        if entry_id is not None:
            database.execute("INSERT INTO entry_change (entry_id, number) VALUES (?, ?)", (entry_id, number))
    migrate(database)
    assert database.execute("SELECT entry_id, spiffe_id FROM entry_spiffe_id ORDER BY 1, 2").fetchall() == [
        ("e1", "spiffe://example.org/a"),
        ("e1", "spiffe://example.org/b"),
        ("e2", "spiffe://example.org/a"),
    ]


def test_nodes_of_an_earlier_release_get_their_short_ids_as_names(database: Database) -> None:
    database.execute("DROP INDEX node_by_name")
    for column in ("name", "address", "seen_at"):
        database.execute(f"ALTER TABLE node DROP COLUMN {column}")
    database.execute("DELETE FROM _sqlite_migrations WHERE name = '0006'")
    long = "n" * 253
    for node_id in (
        "0123456789abcdef",
        "machine-1",
        "machine-2",
        "web",
        "0fedcba9",
        "0fedcba98",
        f"{long}-1",
        f"{long}-2",
    ):
        database.execute(
            "INSERT INTO node (id, spiffe_id, attestor, selectors, attested_at, svid_not_after, state, current_serial,"
            " pending_serial, acknowledged) VALUES (?1, 'spiffe://example.org/' || ?1, 'a', '[]', 1, 1, 'active', '', '', 0)",
            [node_id],
        )
    migrate(database)
    assert dict(database.execute("SELECT id, name FROM node").fetchall()) == {
        "0123456789abcdef": "01234567",
        "machine-1": "machine-1",
        "machine-2": "machine-2",
        "web": "web",
        "0fedcba9": "0fedcba9",
        "0fedcba98": "0fedcba98",
        f"{long}-1": "",
        f"{long}-2": "",
    }


def test_entries_of_earlier_releases_are_not_default(database: Database) -> None:
    database.execute("ALTER TABLE entry DROP COLUMN is_default")
    database.execute("DELETE FROM _sqlite_migrations WHERE name = '0007'")
    database.execute(
        "INSERT INTO entry (id, spiffe_id, parent_id, selectors, dns_names, revision, hint, owner, labels, fingerprint)"
        """ VALUES ('e1', 'spiffe://example.org/a', 'spiffe://example.org/b', '["unix:uid:1"]', '[]', 1, '', '', '{}', x'00')"""
    )
    migrate(database)
    (found,) = SQLiteEntries(database).get([EntryID("e1")]).values()
    assert not found.default
