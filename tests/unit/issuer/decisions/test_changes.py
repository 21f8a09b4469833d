from dataclasses import replace
from datetime import timedelta

import pytest

from cognomen.protocol.entry import EntryID
from cognomen.protocol.feed import Cursor
from cognomen.protocol.names import NodeID
from issuer.decisions.changes import (
    Change,
    ChangeKind,
    Meaning,
    can_resume,
    entry_changes,
    may_regroup,
    meaning,
    upserts_and_gone,
)
from issuer.decisions.revocation import Blocks
from svid.spiffeid import SpiffeID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry

MINE = frozenset({a_node().spiffe_id})
OTHER = SpiffeID(trust_domain=TRUST_DOMAIN, path="/other")
HEAD = Cursor(incarnation="i", number=7)


def change(kind: ChangeKind, subject: str = "", *parents: SpiffeID) -> Change:
    return Change(kind=kind, subject=subject, parents=frozenset(parents))


@pytest.mark.parametrize(
    ("cursor", "resumes"),
    [
        (None, False),
        (Cursor(incarnation="i", number=0), True),
        (Cursor(incarnation="i", number=7), True),
        (Cursor(incarnation="i", number=8), False),
        (Cursor(incarnation="j", number=7), False),
    ],
)
def test_a_follower_resumes_from_a_number_this_store_has_given(cursor: Cursor | None, resumes: bool) -> None:  # noqa: FBT001 - a column
    assert can_resume(cursor, HEAD) is resumes


def test_a_change_of_parent_is_logged_for_both_parents() -> None:
    before, after = an_entry(entry_id="e1"), an_entry(entry_id="e1", parent="/other")
    assert entry_changes(before, after) == (change(ChangeKind.ENTRY, "e1", before.parent_id, OTHER),)


def test_entries_that_come_and_leave_are_logged_once() -> None:
    entry = an_entry(entry_id="e1")
    logged = (change(ChangeKind.ENTRY, "e1", entry.parent_id),)
    assert entry_changes(None, entry) == entry_changes(entry, None) == logged


def test_a_group_is_logged_as_a_group_and_both_ways_when_it_becomes_an_entry() -> None:
    group = an_entry("/group", entry_id="e1", parent="/cognomen/issuer", of="join_token:label:a:b")
    entry = an_entry("/group", entry_id="e1")
    assert [c.kind for c in entry_changes(None, group)] == [ChangeKind.GROUP]
    assert {c.kind for c in entry_changes(group, entry)} == {ChangeKind.GROUP, ChangeKind.ENTRY}


def test_groups_and_the_nodes_own_changes_may_regroup_it() -> None:
    assert may_regroup([change(ChangeKind.ENTRY, "e1"), change(ChangeKind.GROUP, "e2")], NodeID("n1"))
    assert may_regroup([change(ChangeKind.NODE, "n1")], NodeID("n1"))
    assert not may_regroup([change(ChangeKind.NODE, "n2"), change(ChangeKind.BUNDLE)], NodeID("n1"))


def test_other_parents_mean_a_snapshot() -> None:
    assert meaning([change(ChangeKind.GROUP)], had=MINE, has=MINE | {OTHER}) == Meaning(snapshot=True)
    assert meaning([change(ChangeKind.GROUP)], had=MINE, has=MINE) == Meaning()


def test_only_entries_below_the_nodes_parents_are_looked_up_each_once() -> None:
    own = a_node().spiffe_id
    log = [
        change(ChangeKind.ENTRY, "e1", own),
        change(ChangeKind.ENTRY, "e2", OTHER),
        change(ChangeKind.ENTRY, "e3", OTHER, own),
        change(ChangeKind.ENTRY, "e1", own),
        change(ChangeKind.NODE, "n2", own),
    ]
    assert meaning(log, had=MINE, has=MINE) == Meaning(entry_ids=(EntryID("e3"), EntryID("e1")))


@pytest.mark.parametrize("kind", ChangeKind)
def test_which_authorities_are_tainted_is_told_when_that_may_have_changed(kind: ChangeKind) -> None:
    may_have = kind in {ChangeKind.AUTHORITY, ChangeKind.BUNDLE}
    assert meaning([change(kind, "1")], had=MINE, has=MINE).tainted is may_have


def test_a_bundle_change_is_everybodys() -> None:
    assert meaning([change(ChangeKind.BUNDLE)], had=MINE, has=MINE).bundle


def test_what_was_looked_up_is_split_into_what_the_node_holds_and_what_not() -> None:
    mine, moved = an_entry("/a", entry_id="e1"), an_entry("/b", entry_id="e2", parent="/other")
    over = replace(an_entry("/c", entry_id="e3"), expires_at=NOW - timedelta(seconds=1))
    ids = [EntryID(name) for name in ("e1", "e2", "e3", "e4")]
    upserts, gone = upserts_and_gone(
        ids, {e.id: e for e in (mine, moved, over)}, parents=MINE, blocks=Blocks(), now=NOW
    )
    assert (upserts, gone) == ((mine,), ("e2", "e3", "e4"))
