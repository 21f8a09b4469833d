"""issuer/decisions/feedsteps: the order of news, and where it is cut."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestor.decisions.crls import documents_of
from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Reason
from cognomen.protocol.feed import (
    BundleIs,
    CheckpointIs,
    CRLIs,
    Cursor,
    DenialsPut,
    EntryGone,
    EntryPut,
    SentAwayIs,
    TaintedIs,
    Update,
)
from cognomen.protocol.selector import Selector
from issuer.decisions.feedsteps import FeedStep, cut, in_order, weight
from svid.denials import Denial
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.feed import denials_told, message_of
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, an_entry
from tests.doubles.issuerclient import IssuerInMemory

MOST_UPDATES, MOST_BYTES, MOST_DENIALS = 1000, 256 * 1024, 4096
LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
BEFORE, AFTER = (Cursor(incarnation="i", number=number) for number in (3, 7))
BUNDLE = IssuerInMemory(FakeClock(), TRUST_DOMAIN).bundle
CHECKPOINT = Checkpoint(
    trust_domain=TRUST_DOMAIN, incarnation="i", count=1, head=bytes(32), at=NOW, public_key=b"k", signature=b"s"
)
ENTRY = replace(
    an_entry(entry_id="e1"),
    selectors=frozenset(Selector("unix", f"path:/{name}" + "x" * 900) for name in "abc"),
    dns_names=("a.example.org", "b.example.org"),
)
CALLED = replace(
    an_entry(entry_id="e2"),
    callers=tuple(SpiffeID(trust_domain=TRUST_DOMAIN, path=f"/{number:03}{'x' * 200}") for number in range(1000)),
)


def test_the_bundle_comes_first_with_what_is_tainted_and_its_lists_then_what_is_lost_what_is_got_the_checkpoint_and_why_it_ends() -> (
    None
):
    gone = [EntryID("g1"), EntryID("g2")]
    news = in_order(
        checkpoint=CHECKPOINT,
        entries=[ENTRY],
        gone=gone,
        crls=[b"c"],
        bundle=BUNDLE,
        tainted=["ab"],
        sent_away=Reason.BANNED,
    )
    assert list(news) == [
        BundleIs(bundle=BUNDLE),
        TaintedIs(authority_ids=frozenset({"ab"})),
        CRLIs(document=b"c"),
        *(EntryGone(entry_id=entry_id) for entry_id in gone),
        EntryPut(entry=ENTRY),
        CheckpointIs(document=CHECKPOINT.to_json()),
        SentAwayIs(reason=Reason.BANNED),
    ]


DENIALS = [Denial(2**127 + number, NOW) for number in range(10_000)]


def test_what_is_denied_comes_before_all_else_in_pieces_that_fit_a_message() -> None:
    told = list(in_order(checkpoint=CHECKPOINT, entries=[ENTRY], bundle=BUNDLE, denials=iter(DENIALS)))
    kinds = [type(update) for update in told]
    assert kinds == [DenialsPut, DenialsPut, DenialsPut, BundleIs, EntryPut, CheckpointIs]
    assert list(denials_told(told)) == DENIALS
    assert all(weight(update) <= MOST_BYTES for update in told)


def test_without_news_there_is_nothing_to_tell() -> None:
    assert list(in_order()) == []


@pytest.mark.parametrize(
    "update",
    [
        *in_order(
            bundle=BUNDLE,
            tainted=[f"{number:040x}" for number in range(3)],
            crls=[bytes(100_000)],
            gone=[EntryID("g" * 255)],
            entries=[ENTRY, an_entry(), CALLED],
            checkpoint=CHECKPOINT,
            sent_away=Reason.EVICTED,
        ),
        *(DenialsPut(denials=(Denial(2**128 - 1, LATEST),) * count) for count in (1, 2, MOST_DENIALS)),
    ],
    ids=lambda update: type(update).__name__,
)
def test_an_update_takes_no_more_bytes_than_its_weight(update: Update) -> None:
    assert message_of(update).ByteSize() <= weight(update)


@given(sizes=st.lists(st.sampled_from([0, 1, 65_535, 65_536, 65_537, 500_000]), max_size=3))
def test_a_revocation_list_is_told_in_parts_of_bounded_size(sizes: list[int]) -> None:
    documents = [bytes([number]) * size for number, size in enumerate(sizes)]
    told = list(in_order(crls=documents))
    assert all(isinstance(part, CRLIs) and len(part.document) <= 65_536 for part in told)
    assert list(documents_of(told)) == documents


def of_bytes(size: int) -> Update:
    return CheckpointIs(document=bytes(size))


small = st.tuples(st.sampled_from([0, 1, 300]), st.sampled_from([1, 2, 999, 1000, 1001]))
large = st.tuples(st.sampled_from([MOST_BYTES // 3, MOST_BYTES // 2, MOST_BYTES, MOST_BYTES + 1]), st.integers(1, 3))
runs = st.lists(small | large, max_size=4)


@given(runs.map(lambda runs: [update for size, count in runs for update in [of_bytes(size)] * count]))
def test_what_is_cut_is_whole_in_order_and_bounded_and_cut_only_where_it_must_be(news: list[Update]) -> None:
    chunks = [step.updates for step in cut(iter(news), before=BEFORE, after=AFTER)]
    assert [update for chunk in chunks for update in chunk] == news
    for chunk in chunks:
        assert len(chunk) <= MOST_UPDATES
        assert len(chunk) <= 1 or sum(map(weight, chunk)) <= MOST_BYTES
    for chunk, following in pairwise(chunks):
        assert len(chunk) == MOST_UPDATES or sum(map(weight, (*chunk, following[0]))) > MOST_BYTES


@given(sizes=st.lists(st.sampled_from([1, 65_537, 500_000, 1_200_000]), min_size=1, max_size=3))
def test_each_step_of_a_change_holds_revocation_lists_whole(sizes: list[int]) -> None:
    documents = [bytes([number]) * size for number, size in enumerate(sizes)]
    steps = cut(in_order(denials=[Denial(1, LATEST)] * 20_000, crls=documents), before=BEFORE, after=AFTER)
    gathered: list[list[Update]] = [[]]
    for step in steps:
        gathered[-1] += step.updates
        if not step.more:
            gathered.append([])
    assert [document for updates in gathered for document in documents_of(updates)] == documents
    assert len(gathered) > 2, "what need not wait for the lists comes before"
    assert not gathered[-1]


NEWS = [of_bytes(MOST_BYTES) for _ in range(3)]


def test_only_the_last_message_moves_the_cursor() -> None:
    steps = cut(NEWS, before=BEFORE, after=AFTER)
    assert [step.cursor for step in steps] == [BEFORE, BEFORE, AFTER]
    assert not any(step.snapshot or step.more for step in steps)


def test_a_snapshot_leads_to_one_place_and_all_but_its_last_message_say_that_there_is_more() -> None:
    steps = cut(NEWS, before=None, after=AFTER)
    assert [(step.cursor, step.snapshot, step.more) for step in steps] == [
        (AFTER, True, True),
        (AFTER, True, True),
        (AFTER, True, False),
    ]


def test_a_snapshot_of_nothing_is_one_empty_message() -> None:
    assert cut([], before=None, after=AFTER) == [FeedStep(cursor=AFTER, snapshot=True)]
