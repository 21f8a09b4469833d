from dataclasses import replace
from datetime import timedelta

import pytest

from cognomen.protocol.errors import Kind, Reason, Refused
from issuer.decisions.admission import (
    Node,
    NodeState,
    Peer,
    admit_call,
    state_of,
    with_pending,
)
from issuer.decisions.ledger import Credential, CredentialKind
from svid.keys import KeyID
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node

PEER = Peer(
    tls_version="TLSv1.3",
    session_reused=False,
    spiffe_id=a_node().spiffe_id,
    serial="aa",
    key_hash="11",
    not_after=NOW + timedelta(hours=1),
)
RECORDED = Credential(
    kind=CredentialKind.NODE,
    serial="aa",
    spiffe_id=PEER.spiffe_id,
    authority_id=KeyID("x509-1"),
    issued_at=NOW,
    not_after=PEER.not_after,
    key_hash=PEER.key_hash,
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
    assert admit_call(PEER, node, recorded=RECORDED, trust_domain=TRUST_DOMAIN, now=NOW) == node


def test_a_call_with_the_pending_serial_makes_it_current_and_ends_the_other() -> None:
    node = with_pending(a_node(), serial="bb", not_after=NOW, now=NOW)
    promoted = admit_call(replace(PEER, serial="bb"), node, recorded=RECORDED, trust_domain=TRUST_DOMAIN, now=NOW)
    assert (promoted.current_serial, promoted.pending_serial, promoted.current_since) == ("bb", "", NOW)
    with pytest.raises(Refused, match="superseded"):
        admit_call(PEER, promoted, recorded=RECORDED, trust_domain=TRUST_DOMAIN, now=NOW)


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
        admit_call(peer, node, recorded=RECORDED, trust_domain=TRUST_DOMAIN, now=NOW)
    assert refused.value.kind is kind


@pytest.mark.parametrize(
    ("recorded", "reason"),
    [
        (replace(RECORDED, revocation=7), Reason.EVICTED),
        (RECORDED, None),
        (None, None),  # the store was restored from a backup that is older than the node
        (replace(RECORDED, revocation=7, key_hash="22"), None),
    ],
)
def test_a_node_that_an_operator_sent_away_hears_so(recorded: Credential | None, reason: Reason | None) -> None:
    with pytest.raises(Refused, match="expected one that attested") as refused:
        admit_call(PEER, None, recorded=recorded, trust_domain=TRUST_DOMAIN, now=NOW)
    assert refused.value.reason is reason


def test_after_a_restore_an_svid_that_the_ledger_does_not_know_is_the_nodes_and_only_the_first_of_them() -> None:
    restored = replace(a_node(), is_unconfirmed=True)
    later = replace(PEER, serial="cc")
    node = admit_call(later, restored, recorded=None, trust_domain=TRUST_DOMAIN, now=NOW)
    assert (node.current_serial, node.is_unconfirmed) == ("cc", False)
    for peer, row, recorded in ((later, restored, RECORDED), (replace(PEER, serial="dd"), node, None)):
        with pytest.raises(Refused, match="suspected clone"):
            admit_call(peer, row, recorded=recorded, trust_domain=TRUST_DOMAIN, now=NOW)


def test_after_a_restore_the_current_serial_confirms_the_row() -> None:
    node = admit_call(
        PEER, replace(a_node(), is_unconfirmed=True), recorded=RECORDED, trust_domain=TRUST_DOMAIN, now=NOW
    )
    assert node == a_node()


def test_a_node_is_lost_once_its_last_svid_expired_while_it_was_away() -> None:
    node, end = a_node(), a_node().svid_not_after
    before = end - timedelta(microseconds=1)
    assert state_of(node, connected=False, now=before) == "active"
    assert state_of(node, connected=False, now=end) == "lost"
    assert state_of(node, connected=True, now=end) == "active"
    assert state_of(replace(node, state=NodeState.BANNED), connected=False, now=end) == "banned"
