from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cognomen.protocol.errors import Kind, Reason, Refused
from cognomen.protocol.names import NodeID, node_spiffe_id
from issuer.decisions.admission import Node, NodeState, Token, with_pending
from issuer.decisions.attestation import (
    ByIdentity,
    ByToken,
    admit_by_identity,
    admit_by_token,
    check_proof,
    label_selectors,
    redeem_token,
)
from issuer.decisions.ledger import Credential, CredentialKind
from svid.keys import KeyID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, a_token, selectors

FIRST, SECOND = "aa" * 32, "bb" * 32
LAST_MOMENT = a_token().expires_at - timedelta(microseconds=1)


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
    assert label_selectors({"team": "travel", "example.org/zone": "a:b"}, attestor="join_token") == selectors(
        "join_token:label:team:travel", "join_token:label:example.org/zone:a:b"
    )


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9._/-]{1,63}", fullmatch=True), st.text(min_size=1), max_size=3))
def test_labels_come_back_from_their_selectors_as_they_went_in(labels: dict[str, str]) -> None:
    assume(all(value.isprintable() and len(value.encode()) <= 256 for value in labels.values()))
    found = {
        tuple(s.value.removeprefix("label:").split(":", 1)) for s in label_selectors(labels, attestor="join_token")
    }
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
        label_selectors(labels, attestor="join_token")


def test_a_new_node_has_its_tokens_id_and_labels() -> None:
    token = a_token(labels={"team": "travel"})
    assert admit_by_token(token, None, attestor="join_token", trust_domain=TRUST_DOMAIN, now=NOW) == Node(
        id=NodeID("n1"),
        spiffe_id=node_spiffe_id(TRUST_DOMAIN, "join_token", NodeID("n1")),
        attestor="join_token",
        selectors=selectors("join_token:label:team:travel"),
        attested_at=NOW,
        svid_not_after=NOW,
    )


def test_a_node_that_repeats_stays_the_same_unless_it_is_banned() -> None:
    known = a_node()
    again = partial(admit_by_token, a_token(), attestor="join_token", trust_domain=TRUST_DOMAIN, now=NOW)
    assert again(known) == known
    with pytest.raises(Refused, match="banned"):
        again(replace(known, state=NodeState.BANNED))


def test_a_token_lets_nobody_in_as_a_node_of_another_attestor() -> None:
    known = replace(a_node(), attestor="hardware", spiffe_id=node_spiffe_id(TRUST_DOMAIN, "hardware", NodeID("n1")))
    with pytest.raises(Refused, match="expected one that join_token attested, found one of hardware") as refused:
        admit_by_token(a_token(), known, attestor="join_token", trust_domain=TRUST_DOMAIN, now=NOW)
    assert refused.value.kind is Kind.DENIED


MACHINE = NodeID("machine-1")
PROOF = ByIdentity(node_id=MACHINE, selectors=selectors("hardware:zone:a"), can_reattest=True)
ONCE = replace(PROOF, can_reattest=False)


def admitted(proof: ByIdentity, known: Node | None, *, pending: Credential | None = None) -> Node:
    return admit_by_identity(
        proof,
        known,
        attestor="hardware",
        pending=pending,
        key_hash=FIRST,
        trust_domain=TRUST_DOMAIN,
        now=NOW,
    )


def pending(key_hash: str) -> Credential:
    node = with_pending(admitted(PROOF, None), serial="aa", not_after=NOW, now=NOW)
    return Credential(
        kind=CredentialKind.NODE,
        serial="aa",
        spiffe_id=node.spiffe_id,
        authority_id=KeyID("x509-1"),
        issued_at=NOW,
        not_after=NOW,
        node_id=node.id,
        key_hash=key_hash,
    )


def test_a_machine_with_an_identity_becomes_a_node_with_its_id_and_what_it_proved() -> None:
    assert admitted(PROOF, None) == Node(
        id=MACHINE,
        spiffe_id=node_spiffe_id(TRUST_DOMAIN, "hardware", MACHINE),
        attestor="hardware",
        selectors=PROOF.selectors,
        attested_at=NOW,
        svid_not_after=NOW,
    )


def test_a_machine_that_proves_itself_again_stays_the_node_with_the_selectors_proved_last() -> None:
    known = replace(admitted(PROOF, None), current_serial="aa", acknowledged=7)
    moved = replace(PROOF, selectors=selectors("hardware:zone:b"))
    assert admitted(moved, known) == replace(known, selectors=moved.selectors)


def test_a_machine_that_may_prove_itself_once_may_repeat_for_a_lost_answer_by_the_same_key() -> None:
    known = replace(admitted(ONCE, None), pending_serial="aa")
    assert admitted(ONCE, known, pending=pending(FIRST)) == known


ONE = admitted(ONCE, None)


@pytest.mark.parametrize(
    ("known", "before", "reason"),
    [
        (replace(ONE, pending_serial="aa"), pending(SECOND), "vouches for a machine only once"),
        (replace(ONE, pending_serial="aa"), None, "vouches for a machine only once"),
        (replace(ONE, current_serial="aa"), None, "vouches for a machine only once"),
        (replace(ONE, current_serial="aa", pending_serial="bb"), pending(FIRST), "vouches for a machine only once"),
        (replace(ONE, state=NodeState.BANNED), pending(FIRST), "banned"),
    ],
)
def test_a_machine_that_may_prove_itself_once_is_refused_another_time(
    known: Node, before: Credential | None, reason: str
) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        admitted(ONCE, known, pending=before)
    assert refused.value.kind is Kind.DENIED


def test_the_hint_for_a_machine_that_comes_another_time_is_one_that_lets_it_in() -> None:
    with pytest.raises(Refused) as refused:
        admitted(ONCE, replace(ONE, current_serial="aa"))
    assert refused.value.hint.endswith(": cognomen node evict machine-1")
    assert refused.value.reason is Reason.ATTESTED_BEFORE


def test_a_proof_may_have_as_many_and_as_long_selectors_as_that() -> None:
    texts = [f"hardware:{number:02}:".ljust(512, "x") for number in range(64)]
    most = replace(PROOF, node_id=NodeID("m" * 255), selectors=selectors(*texts))
    assert admitted(most, None).selectors == most.selectors


def test_a_banned_machine_is_refused_though_it_may_prove_itself_again() -> None:
    with pytest.raises(Refused, match="banned"):
        admitted(PROOF, replace(admitted(PROOF, None), state=NodeState.BANNED))


def test_no_attestor_vouches_for_a_node_of_another() -> None:
    with pytest.raises(Refused, match="expected one that hardware attested, found one of join_token") as refused:
        admitted(PROOF, a_node(MACHINE))
    assert refused.value.kind is Kind.DENIED


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (replace(PROOF, selectors=selectors("unix:uid:0")), "expected selectors of type hardware, found 'unix:uid:0'"),
        (replace(PROOF, node_id=NodeID("a/b")), "expected a node id that fits a SPIFFE ID"),
        (replace(PROOF, node_id=NodeID("")), "expected a node id that fits a SPIFFE ID"),
        (replace(PROOF, node_id=NodeID("m" * 256)), "hardware: expected a node id of at most 255 bytes, found 256"),
        (replace(PROOF, node_id=NodeID("\ud800")), "hardware: expected a node id that fits a SPIFFE ID"),
        (
            replace(PROOF, selectors=selectors(*(f"hardware:n:{number}" for number in range(65)))),
            "node attestor hardware: expected at most 64 selectors, found 65",
        ),
        (
            replace(PROOF, selectors=selectors("hardware:" + "ä" * 252)),
            "node attestor hardware: expected selectors of at most 512 bytes, found 513",
        ),
    ],
)
def test_what_no_attestor_may_prove_is_refused(proof: ByIdentity, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        admitted(proof, None)
    assert refused.value.kind is Kind.UNAVAILABLE
    with pytest.raises(Refused, match=reason):
        check_proof(proof, attestor="hardware", trust_domain=TRUST_DOMAIN)


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (None, "expected ByToken or ByIdentity, found NoneType"),
        (ByToken(token_hash=b"00"), "expected a token hash that is a text, found bytes"),  # type: ignore[arg-type]  # as untyped code may
        (replace(PROOF, node_id=5), "expected node_id of type str, found int"),  # type: ignore[arg-type]  # as above
        (replace(PROOF, selectors=None), "expected selectors of type frozenset, found NoneType"),  # type: ignore[arg-type]  # as above
        (replace(PROOF, selectors=frozenset({"hardware:a:b"})), "expected selectors of type Selector, found str"),  # type: ignore[arg-type]  # as above
        (replace(PROOF, can_reattest="no"), "expected can_reattest of type bool, found str"),  # type: ignore[arg-type]  # as above
    ],
)
def test_what_untyped_code_returns_is_refused_as_the_attestors_fault(proof: object, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        check_proof(proof, attestor="hardware", trust_domain=TRUST_DOMAIN)
    assert (refused.value.kind, refused.value.detail) == (Kind.UNAVAILABLE, f"node attestor hardware: {reason}")


def test_a_fit_proof_passes_unchanged() -> None:
    for proof in (PROOF, ByToken(token_hash="00")):  # noqa: S106 - no secret
        assert check_proof(proof, attestor="hardware", trust_domain=TRUST_DOMAIN) is proof
