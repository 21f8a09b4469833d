"""Ids are found by steps in an index, whatever the tables hold."""

from issuer.datastore.sqlite.connection import connect
from issuer.datastore.sqlite.ids import SQLiteIds
from issuer.datastore.sqlite.migrations import migrate
from svid.spiffeid import SpiffeID


def test_no_table_is_scanned_for_an_id() -> None:
    database = connect(None)
    migrate(database)
    database.execute(
        "INSERT INTO credential (kind, serial, spiffe_id, entry_revision, node_id, authority_id, audiences, issued_at, not_after, state)"
        " VALUES ('node', 'aa', 'spiffe://example.org/n', 0, 'aa', 'x', '[]', 0, 0, 'issued')"
    )
    statements: list[str] = []
    database.conn.set_trace_callback(statements.append)
    ids = SQLiteIds(database)
    assert [len(ids.entries("aa", limit=9)), len(ids.nodes("aa", limit=9)), len(ids.credentials("aa", limit=9))] == [
        0,
        1,
        1,
    ]
    assert ids.deleted_entries(SpiffeID.parse("spiffe://example.org/n"), limit=9) == []
    database.conn.set_trace_callback(None)
    assert len(statements) == 5
    steps = [row[3] for one in statements for row in database.execute(f"EXPLAIN QUERY PLAN {one}").fetchall()]
    assert [step for step in steps if step.startswith("SCAN") and step != "SCAN found"] == []
    assert len([step for step in steps if step.startswith("SEARCH")]) >= 8
    database.close()
