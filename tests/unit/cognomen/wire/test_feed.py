"""cognomen/wire/feed: what is written is read back, of every kind."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.entry import MAX_TTL, EntryError, EntryID, RegistrationEntry
from cognomen.protocol.errors import Reason
from cognomen.protocol.feed import (
    BundleIs,
    CheckpointIs,
    CRLIs,
    Cursor,
    DenialsPut,
    EntryGone,
    EntryPut,
    QuestionIs,
    SentAwayIs,
    TaintedIs,
    Update,
)
from cognomen.protocol.selector import Selector
from cognomen.wire.feed import cursor_from_pb, cursor_to_pb, update_from_pb
from cognomen.wire.pb import node_pb2 as pb
from svid.bundle import MAX_SEQUENCE, Bundle
from svid.denials import Denial
from svid.errors import BundleError
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.entries import entry
from tests.doubles.feed import message_of
from tests.doubles.issuerclient import Authority

TD = TrustDomain("example.org")
CERTIFICATES = [Authority(TD, FakeClock(), name=name).certificate for name in ("a", "b")]

uint64s = st.integers(0, 2**64 - 1)
ids = st.text("abcXYZ019._-", max_size=255).map(EntryID)
texts = st.text("abc é", max_size=20)
spiffe_ids = st.sampled_from(["/a", "/b/c"]).map(lambda path: SpiffeID(trust_domain=TD, path=path))
ttls = st.none() | st.integers(1, MAX_TTL // timedelta(seconds=1)).map(lambda seconds: timedelta(seconds=seconds))
moments = st.none() | st.datetimes(timezones=st.just(UTC))
entries = st.builds(
    RegistrationEntry,
    id=ids,
    spiffe_id=spiffe_ids,
    parent_id=spiffe_ids,
    selectors=st.frozensets(st.sampled_from([Selector("unix", "uid:1"), Selector("k8s", "ns:a")]), min_size=1),
    x509_svid_ttl=ttls,
    jwt_svid_ttl=ttls,
    federates_with=st.just(()),
    admin=st.just(False),
    downstream=st.just(False),
    store_svid=st.just(False),
    expires_at=moments,
    created_at=moments,
    dns_names=st.lists(st.sampled_from(["a.example.org", "b"]), unique=True).map(tuple),
    revision=uint64s,
    hint=texts,
    owner=texts,
    labels=st.dictionaries(texts.filter(bool), texts, max_size=3),
)
bundles = st.builds(
    Bundle,
    trust_domain=st.just(TD),
    x509_authorities=st.lists(st.sampled_from(CERTIFICATES), min_size=1, unique=True).map(tuple),
    sequence=st.none() | st.integers(0, MAX_SEQUENCE),
)
since_1970 = st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
ends = since_1970.map(lambda at: at.replace(microsecond=0))
denials = st.lists(st.builds(Denial, st.integers(0, 2**128 - 1), ends)).map(tuple)
KINDS: dict[type[Update], st.SearchStrategy[Update]] = {
    DenialsPut: st.builds(DenialsPut, denials=denials),
    EntryPut: st.builds(EntryPut, entry=entries),
    EntryGone: st.builds(EntryGone, entry_id=ids),
    BundleIs: st.builds(BundleIs, bundle=bundles),
    TaintedIs: st.builds(TaintedIs, authority_ids=st.frozensets(texts)),
    CRLIs: st.builds(CRLIs, document=st.binary(), more=st.booleans()),
    CheckpointIs: st.builds(CheckpointIs, document=st.binary()),
    SentAwayIs: st.builds(SentAwayIs, reason=st.sampled_from(Reason)),
    QuestionIs: st.builds(
        QuestionIs,
        id=texts,
        put=st.lists(entries, max_size=2).map(tuple),
        gone=st.lists(ids, max_size=2).map(tuple),
        more=st.booleans(),
    ),
}


def test_every_kind_is_tried() -> None:
    assert set(KINDS) == set(get_args(Update))


@given(st.one_of(*KINDS.values()))
def test_an_update_is_read_as_it_was_written(update: Update) -> None:
    (message,) = pb.Change.FromString(message_of(update).SerializeToString()).updates
    assert update_from_pb(message, TD) == update


@given(st.builds(Cursor, incarnation=texts, number=uint64s))
def test_a_cursor_is_read_as_it_was_written(cursor: Cursor) -> None:
    assert cursor_from_pb(cursor_to_pb(cursor)) == cursor


def test_a_kind_that_we_do_not_know_is_no_update() -> None:
    assert update_from_pb(pb.Update(), TD) is None
    assert update_from_pb(pb.Update(sent_away="by a newer issuer"), TD) is None


def test_an_entry_of_a_question_that_breaks_a_rule_counts_as_gone_as_it_would_if_it_came() -> None:
    (message,) = message_of(QuestionIs(id="q", put=(entry("a"), entry("b")), gone=(EntryID("c"),))).updates
    message.question.put[0].admin = True
    assert update_from_pb(message, TD) == QuestionIs(
        id="q", put=(entry("b"),), gone=(EntryID("c"), EntryID("a")), more=False
    )


def test_an_entry_that_breaks_a_rule_is_refused() -> None:
    (message,) = message_of(EntryPut(entry=entry("a"))).updates
    message.entry_put.admin = True
    with pytest.raises(EntryError, match="admin"):
        update_from_pb(message, TD)


@pytest.mark.parametrize("document", [b"", b"{}", Bundle(trust_domain=TD).to_jwks()])
def test_a_bundle_that_is_none_or_holds_no_x509_authority_is_refused(document: bytes) -> None:
    with pytest.raises(BundleError):
        update_from_pb(pb.Update(bundle=document), TD)
