"""attestor/decisions/sync: what a step of the feed changes."""

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestor.decisions.sync import Change, diff, keeps_svid, needs_svid
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.feed import BundleIs, CheckpointIs, Cursor, EntryGone, EntryPut, TaintedIs, Update
from cognomen.protocol.selector import Selector
from issuer.decisions.feedsteps import in_order
from svid.bundle import Bundle
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.entries import entry

TD = TrustDomain("example.org")
CURSOR = Cursor(incarnation="a", number=1)
A, B, C = entry("a"), entry("b"), entry("c")


def known(*entries: RegistrationEntry) -> dict[EntryID, RegistrationEntry]:
    return {one.id: one for one in entries}


def change(*entries: RegistrationEntry, snapshot: bool = False, gone: tuple[RegistrationEntry, ...] = ()) -> Change:
    return told(*in_order(gone=[one.id for one in gone], entries=entries), snapshot=snapshot)


def told(*updates: Update, snapshot: bool = False) -> Change:
    return Change(cursor=CURSOR, snapshot=snapshot, updates=updates)


def test_a_snapshot_takes_away_what_it_does_not_name() -> None:
    step = diff(known(A, B), change(B, C, snapshot=True))
    assert step.put == (C,)
    assert step.left == (A,)


def test_a_change_leaves_what_it_does_not_name() -> None:
    step = diff(known(A, B), change(C, gone=(A,)))
    assert step.put == (C,)
    assert step.left == (A,)


def test_the_tainted_authorities_are_those_that_were_named_last_and_in_a_snapshot_no_others() -> None:
    ids = frozenset({"a"})
    assert diff({}, told(TaintedIs(authority_ids=frozenset({"b"})), TaintedIs(authority_ids=ids))).tainted == ids
    assert diff({}, told()).tainted is None
    assert diff({}, told(snapshot=True)).tainted == frozenset()
    assert diff({}, told(TaintedIs(authority_ids=ids), snapshot=True)).tainted == ids


def test_what_is_the_same_is_not_put_again() -> None:
    assert diff(known(A), change(A)).put == ()


def test_what_was_never_known_cannot_leave() -> None:
    assert diff(known(A), change(gone=(B,))).left == ()


def test_an_entry_gone_and_then_named_is_there() -> None:
    step = diff(known(A), change(A, B, gone=(A, B)))
    assert step.put == (B,)
    assert step.left == ()


@pytest.mark.parametrize("snapshot", [False, True])
def test_an_entry_named_and_then_gone_is_gone(snapshot: bool) -> None:  # noqa: FBT001 - a column
    updates: list[Update] = [*(EntryPut(entry=one) for one in (A, B)), *(EntryGone(entry_id=one.id) for one in (A, B))]
    step = diff(known(A), told(*updates, snapshot=snapshot))
    assert step.put == ()
    assert step.left == (A,)


def test_of_several_bundles_the_last_counts_and_none_changes_nothing() -> None:
    updates = [BundleIs(bundle=Bundle(trust_domain=TD, sequence=number)) for number in (1, 2)]
    assert diff({}, told(*updates)).bundle == updates[-1].bundle
    assert diff({}, told()).bundle is None


def test_a_checkpoint_is_no_news_of_entries() -> None:
    assert diff(known(A), told(CheckpointIs(document=b"{}"))) == diff(known(A), told())


def test_only_an_entry_that_was_known_has_a_stale_svid() -> None:
    other = entry("a", dns_names=("a.example.org",))
    step = diff(known(A), change(other, B))
    assert step.put == (other, B)
    assert step.stale == {A.id}


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    changes: dict[str, object]
    keeps: bool


ROWS = [
    Row(name="spiffe id", changes={"spiffe_id": SpiffeID.parse("spiffe://example.org/x")}, keeps=False),
    Row(name="dns names", changes={"dns_names": ("x",)}, keeps=False),
    Row(name="selectors", changes={"selectors": frozenset({Selector("unix", "uid:1")})}, keeps=False),
    Row(name="hint", changes={"hint": "x"}, keeps=True),
    Row(name="owner", changes={"owner": "x"}, keeps=True),
    Row(name="revision", changes={"revision": 9}, keeps=True),
    Row(name="observe", changes={"observe": True}, keeps=False),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_svid_is_kept_when_neither_its_names_nor_its_holders_change(row: Row) -> None:
    assert keeps_svid(A, entry("a", **row.changes)) is row.keeps


NODE_2 = SpiffeID.parse("spiffe://example.org/cognomen/node/join_token/2")
BEFORE = entry("a", revision=3)
NEXT = BEFORE.revision + 1
SIGNED = [  # `keeps`: whether the SVID of before is as good as a new one
    Row(name="nothing", changes={}, keeps=True),
    Row(name="owner", changes={"owner": "x"}, keeps=True),
    Row(name="labels", changes={"labels": {"team": "x"}}, keeps=True),
    Row(name="hint", changes={"hint": "x"}, keeps=True),
    Row(name="default", changes={"default": True}, keeps=True),
    Row(name="callers", changes={"callers": (NODE_2,)}, keeps=True),
    Row(name="ttl of tokens", changes={"jwt_svid_ttl": timedelta(minutes=1)}, keeps=True),
    Row(name="ttl", changes={"x509_svid_ttl": timedelta(minutes=1)}, keeps=False),
    Row(name="end", changes={"expires_at": datetime(2027, 1, 1, tzinfo=UTC)}, keeps=False),
    Row(name="spiffe id", changes={"spiffe_id": SpiffeID.parse("spiffe://example.org/x")}, keeps=False),
    Row(name="parent", changes={"parent_id": NODE_2}, keeps=False),
    Row(name="selectors", changes={"selectors": frozenset({Selector("unix", "uid:1")})}, keeps=False),
    Row(name="dns names", changes={"dns_names": ("x",)}, keeps=False),
    Row(name="only some audiences", changes={"audiences": ("x",)}, keeps=False),
    Row(name="observe", changes={"observe": True}, keeps=False),
    Row(name="made anew", changes={"created_at": datetime(2025, 1, 1, tzinfo=UTC)}, keeps=False),
    Row(name="changed twice", changes={"revision": BEFORE.revision + 2}, keeps=False),
    Row(name="an earlier revision", changes={"revision": BEFORE.revision - 1}, keeps=False),
    Row(
        name="the same revision, from another issuer", changes={"revision": BEFORE.revision, "owner": "x"}, keeps=False
    ),
]


@pytest.mark.parametrize("row", SIGNED, ids=lambda row: row.name)
def test_an_svid_is_replaced_when_the_issuer_would_sign_another_or_may_have_ended_this_one(row: Row) -> None:
    assert needs_svid(BEFORE, entry("a", **{"revision": NEXT, **row.changes})) is not row.keeps


AUDIENCES = entry("a", revision=3, audiences=("x", "y"))


@pytest.mark.parametrize(
    ("audiences", "is_needed"), [(("x", "y", "z"), False), (None, False), (("x", "z"), True), ((), True)]
)
def test_more_audiences_need_no_other_svid_and_fewer_do(audiences: tuple[str, ...] | None, is_needed: bool) -> None:  # noqa: FBT001 - pytest passes it
    assert needs_svid(AUDIENCES, replace(AUDIENCES, revision=NEXT, audiences=audiences)) is is_needed


def test_every_field_that_nobody_said_is_not_signed_needs_another_svid() -> None:
    unsigned = {row.name for row in SIGNED if row.keeps} - {"nothing"}
    assert len(unsigned) == 6, "and the audiences, of which only fewer need another one"
    assert {one.name for one in fields(RegistrationEntry)} == {
        "id", "spiffe_id", "parent_id", "selectors", "x509_svid_ttl", "jwt_svid_ttl", "federates_with", "admin", "downstream",
        "expires_at", "dns_names", "revision", "store_svid", "hint", "created_at", "owner", "labels", "default", "audiences",
        "callers",
        "observe",
    }, "is the new field signed into an X509-SVID, or does it choose who gets one? add a row"  # fmt: skip


NAMES = st.lists(st.sampled_from("abcdef"), unique=True)


@given(NAMES, NAMES, NAMES, st.booleans())
def test_applying_a_diff_gives_what_the_step_says(
    before: list[str],
    named: list[str],
    gone: list[str],
    snapshot: bool,  # noqa: FBT001 - hypothesis passes it
) -> None:
    had = known(*(entry(name) for name in before))
    new = [entry(name, revision=2) for name in named]
    step = diff(had, change(*new, snapshot=snapshot, gone=tuple(entry(name) for name in gone)))
    after = {**{i: e for i, e in had.items() if e not in step.left}, **known(*step.put)}
    expected = {} if snapshot else {i: e for i, e in had.items() if i not in gone}
    assert after == expected | known(*new)
