from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cognomen.daemon.errors import Kind, Refused
from issuer.decisions.admission import (
    Node,
    NodeState,
    Peer,
    Token,
    admit_call,
    admit_node,
    label_selectors,
    redeem_token,
    with_pending,
)
from issuer.decisions.audit import NodeID
from issuer.decisions.names import node_spiffe_id
from svid.selector import Selector
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, a_token, selectors

FIRST, SECOND = "aa" * 32, "bb" * 32
LAST_MOMENT = a_token().expires_at - timedelta(microseconds=1)
PEER = Peer(
    tls_version="TLSv1.3",
    session_reused=False,
    spiffe_id=a_node().spiffe_id,
    serial="aa",
    key_hash="11",
    not_after=NOW + timedelta(hours=1),
)


def test_the_first_key_takes_the_token() -> None:
    assert redeem_token(a_token(), key_hash=FIRST, now=LAST_MOMENT) == replace(
        a_token(), key_hash=FIRST, used_at=LAST_MOMENT
    )


def test_the_same_key_may_repeat_and_changes_nothing() -> None:
    taken = a_token(key_hash=FIRST)
    assert redeem_token(taken, key_hash=FIRST, now=LAST_MOMENT) == taken


@pytest.mark.parametrize(
    ("token", "now", "kind", "reason"),
    [
        (None, NOW, Kind.UNAUTHENTICATED, "unknown"),
        (a_token(), a_token().expires_at, Kind.UNAUTHENTICATED, "expired"),
        (a_token(key_hash=SECOND), a_token().expires_at, Kind.UNAUTHENTICATED, "expired"),
        (a_token(key_hash=FIRST), NOW, Kind.DENIED, "another key"),
    ],
)
def test_an_unknown_an_expired_and_a_taken_token_are_refused(
    token: Token | None, now: datetime, kind: Kind, reason: str
) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        redeem_token(token, key_hash=SECOND, now=now)
    assert refused.value.kind is kind
    assert a_token().hash not in str(refused.value.facts)


def test_labels_become_node_selectors() -> None:
    assert label_selectors({"team": "travel", "example.org/zone": "a:b"}) == selectors(
        "join_token:label:team:travel", "join_token:label:example.org/zone:a:b"
    )


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9._/-]{1,63}", fullmatch=True), st.text(min_size=1), max_size=3))
def test_labels_come_back_from_their_selectors_as_they_went_in(labels: dict[str, str]) -> None:
    assume(all(value.isprintable() and len(value.encode()) <= 256 for value in labels.values()))
    found = {tuple(s.value.removeprefix("label:").split(":", 1)) for s in label_selectors(labels)}
    assert found == set(labels.items())


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"a:b": "c"}, "labels: expected keys"),
        ({"": "c"}, "labels: expected keys"),
        ({"a\n": "c"}, "labels: expected keys"),
        ({"k": ""}, "labels: k: expected 1 to 256 bytes, found 0"),
        ({"k": "ä" * 129}, "labels: k: expected 1 to 256 bytes, found 258"),
        ({"k": "\ud800"}, "labels: k: selector: expected printable"),
        ({"k": "a\x00"}, "labels: k: selector: expected printable"),
        ({f"k{i}": "v" for i in range(65)}, "labels: expected at most 64, found 65"),
    ],
)
def test_a_label_that_is_none_is_refused(labels: dict[str, str], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        label_selectors(labels)


def test_a_new_node_has_its_tokens_id_and_labels_and_what_it_proved() -> None:
    token = a_token(labels={"team": "travel"})
    proved = frozenset({Selector("join_token", "zone:a")})
    assert admit_node(token, None, trust_domain=TRUST_DOMAIN, proved=proved, now=NOW) == Node(
        id=NodeID("n1"),
        spiffe_id=node_spiffe_id(TRUST_DOMAIN, "join_token", NodeID("n1")),
        attestor="join_token",
        selectors=selectors("join_token:label:team:travel", "join_token:zone:a"),
        attested_at=NOW,
        svid_not_after=NOW,
    )


def test_a_node_that_repeats_stays_the_same_unless_it_is_banned() -> None:
    known = a_node()
    assert admit_node(a_token(), known, trust_domain=TRUST_DOMAIN, proved=frozenset(), now=NOW) == known
    with pytest.raises(Refused, match="banned"):
        admit_node(
            a_token(), replace(known, state=NodeState.BANNED), trust_domain=TRUST_DOMAIN, proved=frozenset(), now=NOW
        )


def test_a_new_svid_is_pending_beside_the_current_one() -> None:
    later = a_node().svid_not_after + timedelta(hours=1)
    node = with_pending(a_node(), serial="bb", not_after=later, now=NOW)
    assert (node.current_serial, node.pending_serial, node.svid_not_after) == ("aa", "bb", later)


def test_an_svid_of_a_slow_clock_takes_nothing_from_the_latest_end() -> None:
    assert (
        with_pending(a_node(), serial="bb", not_after=NOW - timedelta(days=8), now=NOW).svid_not_after
        == a_node().svid_not_after
    )


def test_a_call_with_the_current_serial_is_admitted_and_changes_nothing() -> None:
    node = with_pending(a_node(), serial="bb", not_after=NOW, now=NOW)
    assert admit_call(PEER, node, is_recorded=True, trust_domain=TRUST_DOMAIN, now=NOW) == node


def test_a_call_with_the_pending_serial_makes_it_current_and_ends_the_other() -> None:
    node = with_pending(a_node(), serial="bb", not_after=NOW, now=NOW)
    promoted = admit_call(replace(PEER, serial="bb"), node, is_recorded=True, trust_domain=TRUST_DOMAIN, now=NOW)
    assert (promoted.current_serial, promoted.pending_serial, promoted.current_since) == ("bb", "", NOW)
    with pytest.raises(Refused, match="superseded"):
        admit_call(PEER, promoted, is_recorded=True, trust_domain=TRUST_DOMAIN, now=NOW)


@pytest.mark.parametrize(
    ("peer", "node", "kind", "reason"),
    [
        (replace(PEER, tls_version="TLSv1.2"), a_node(), Kind.UNAUTHENTICATED, "expected TLSv1.3, found 'TLSv1.2'"),
        (replace(PEER, session_reused=True), a_node(), Kind.UNAUTHENTICATED, "resumed session"),
        (replace(PEER, not_after=NOW), a_node(), Kind.UNAUTHENTICATED, "expired at"),
        (
            replace(PEER, spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/web")),
            a_node(),
            Kind.DENIED,
            "expected the ID of a node of example.org, found spiffe://example.org/web",
        ),
        (
            replace(PEER, spiffe_id=replace(PEER.spiffe_id, trust_domain=TrustDomain("other.org"))),
            a_node(),
            Kind.DENIED,
            "expected the ID of a node of example.org",
        ),
        (PEER, None, Kind.DENIED, "expected one that attested"),
        (PEER, a_node("n2"), Kind.DENIED, "expected one that attested"),
        (PEER, replace(a_node(), state=NodeState.BANNED), Kind.DENIED, "banned"),
        (replace(PEER, serial="cc"), a_node(), Kind.DENIED, "superseded"),
    ],
)
def test_every_other_call_is_refused_for_its_own_reason(peer: Peer, node: Node | None, kind: Kind, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        admit_call(peer, node, is_recorded=True, trust_domain=TRUST_DOMAIN, now=NOW)
    assert refused.value.kind is kind


def test_after_a_restore_an_svid_that_the_ledger_does_not_know_is_the_nodes_and_only_the_first_of_them() -> None:
    restored = replace(a_node(), is_unconfirmed=True)
    later = replace(PEER, serial="cc")
    node = admit_call(later, restored, is_recorded=False, trust_domain=TRUST_DOMAIN, now=NOW)
    assert (node.current_serial, node.is_unconfirmed) == ("cc", False)
    for peer, row, is_recorded in ((later, restored, True), (replace(PEER, serial="dd"), node, False)):
        with pytest.raises(Refused, match="suspected clone"):
            admit_call(peer, row, is_recorded=is_recorded, trust_domain=TRUST_DOMAIN, now=NOW)


def test_after_a_restore_the_current_serial_confirms_the_row() -> None:
    node = admit_call(
        PEER, replace(a_node(), is_unconfirmed=True), is_recorded=True, trust_domain=TRUST_DOMAIN, now=NOW
    )
    assert node == a_node()
