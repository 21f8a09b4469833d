"""attestor/decisions/node and minted: which answers of the issuer are taken."""

from dataclasses import replace
from datetime import timedelta

import pytest

from attestor.decisions.minted import take_jwt, take_x509
from attestor.decisions.node import (
    NEW_INVITE,
    REJOIN,
    Joining,
    Node,
    NodeCredential,
    check_trust_domain,
    joined,
    joining,
    renewed,
    resumable,
    token_hash,
    way_back,
    way_in,
)
from attestor.nodeclock import NodeClock
from cognomen.protocol.errors import Kind, Reason, Refused
from cognomen.protocol.readmission import THEN_REJOIN
from svid.errors import JWTSVIDError, X509SVIDError
from svid.keys import KeyKind, PrivateKey, generate_private_key, public_key_to_der
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import Authority, IssuerInMemory
from tests.doubles.project import ROOT

TD, OTHER = TrustDomain("example.org"), TrustDomain("example.net")
CLOCK = FakeClock()
NOW = CLOCK.now()
ISSUER = IssuerInMemory(CLOCK, TD)
INVITE = ISSUER.invite()
HOUR = timedelta(hours=1)
WEB = SpiffeID.parse("spiffe://example.org/web")


def new_key() -> PrivateKey:
    return generate_private_key(KeyKind.EC_P256)


def answer(key: PrivateKey, *, name: str = "a") -> NodeCredential:
    return ISSUER.credential(public_key_to_der(key.public_key()), name=name)


def start(key: PrivateKey) -> Joining:
    return Joining(private_key=key, token_hash=token_hash(INVITE))


def a_node() -> Node:
    key = new_key()
    return joined(INVITE, answer(key), start(key), at=NodeClock(CLOCK).read())


def refused_join(credential: NodeCredential, key: PrivateKey) -> Refused:
    with pytest.raises(Refused) as refused:
        joined(INVITE, credential, start(key), at=NodeClock(CLOCK).read())
    assert refused.value.kind is Kind.INTERNAL
    return refused.value


def test_an_answer_for_another_key_is_refused() -> None:
    assert "key" in refused_join(answer(new_key()), new_key()).detail


def test_an_answer_that_is_no_nodes_svid_is_refused() -> None:
    key = new_key()
    leaf = ISSUER.authority.sign(WEB, key.public_key(), ttl=HOUR)
    credential = NodeCredential(chain=(leaf,), issued_at=NOW)
    assert "expected the ID of a node" in refused_join(credential, key).detail


def test_an_answer_of_an_authority_outside_the_bundle_is_refused() -> None:
    key = new_key()
    stranger = Authority(TD, CLOCK, name="stranger")
    leaf = stranger.sign(a_node().svid.spiffe_id, key.public_key(), ttl=HOUR)
    refused_join(NodeCredential(chain=(leaf,), issued_at=NOW), key)


def test_an_answer_without_a_bundle_is_verified_by_the_invites() -> None:
    key = new_key()
    node = joined(INVITE, replace(answer(key), bundle=None), start(key), at=NodeClock(CLOCK).read())
    assert node.bundle == INVITE.bundle


def test_a_renewal_keeps_what_it_does_not_bring() -> None:
    node, key = a_node(), new_key()
    after = renewed(node, replace(answer(key), bundle=None), key, at=NodeClock(CLOCK).read())
    assert after.svid.private_key is key
    assert replace(after, svid=node.svid) == node


def test_a_renewal_that_makes_it_another_node_is_refused() -> None:
    key = new_key()
    with pytest.raises(Refused, match="expected spiffe://"):
        renewed(a_node(), answer(key, name="b"), key, at=NodeClock(CLOCK).read())


def test_a_node_goes_on_without_an_invite_and_with_the_one_it_joined_by() -> None:
    node = a_node()
    assert resumable(node, None) is node
    assert resumable(node, INVITE) is node


def test_another_invite_makes_another_node_also_of_an_expired_one() -> None:
    other = replace(INVITE, token="other")  # noqa: S106 - no secret
    assert resumable(a_node(), other) is None


def test_a_key_without_its_node_needs_the_invite() -> None:
    assert resumable(start(new_key()), INVITE) is None
    with pytest.raises(Refused) as refused:
        resumable(start(new_key()), None)
    assert refused.value.kind is Kind.NOT_FOUND


def test_a_key_is_used_again_for_the_invite_it_was_made_for_only() -> None:
    kept, key = start(new_key()), new_key()
    assert joining(kept, INVITE, key) is kept
    other = replace(INVITE, token="other")  # noqa: S106 - no secret
    assert joining(kept, other, key) == Joining(private_key=key, token_hash=token_hash(other))


def test_the_node_before_goes_on_when_the_next_invite_was_no_good() -> None:
    node, other = a_node(), replace(INVITE, token="other")  # noqa: S106 - no secret
    kept = joining(joining(node, other, new_key()), replace(INVITE, token="third"), new_key())  # noqa: S106 - no secret
    assert resumable(kept, None) is node
    assert resumable(kept, other) is None


def test_a_trust_domain_is_compared_only_where_one_is_configured() -> None:
    check_trust_domain(None, TD, where="invite")
    check_trust_domain(TD, TD, where="invite")
    with pytest.raises(Refused, match=r"invite: expected the trust domain example\.net, found example\.org"):
        check_trust_domain(OTHER, TD, where="invite")


def test_no_secret_shows_in_a_repr() -> None:
    secrets = token_hash(INVITE)
    assert secrets not in repr(a_node())
    assert secrets not in repr(start(new_key()))


def test_a_minted_svid_is_taken_with_its_key() -> None:
    key = new_key()
    leaf = ISSUER.authority.sign(WEB, key.public_key(), ttl=HOUR)
    svid = take_x509((leaf,), key, bundle=ISSUER.bundle, at=NOW)
    assert (svid.spiffe_id, svid.private_key) == (WEB, key)


def test_a_minted_svid_for_another_key_is_refused() -> None:
    leaf = ISSUER.authority.sign(WEB, new_key().public_key(), ttl=HOUR)
    with pytest.raises(X509SVIDError, match="not for the requested key"):
        take_x509((leaf,), new_key(), bundle=ISSUER.bundle, at=NOW)


def test_a_minted_leaf_that_does_not_keep_the_profile_is_refused() -> None:
    key = new_key()
    leaf = ISSUER.authority.sign(WEB, key.public_key(), ttl=HOUR, extended_usage=False)
    with pytest.raises(X509SVIDError, match="extended key usage: missing on a leaf"):
        take_x509((leaf,), key, bundle=ISSUER.bundle, at=NOW)


def test_a_minted_token_must_have_the_name_and_the_audiences_asked_for() -> None:
    token = ISSUER.authority.token(WEB, ["a", "b"], ttl=HOUR)
    take_jwt(token, spiffe_id=WEB, audiences=["b", "a"])
    with pytest.raises(JWTSVIDError, match="SPIFFE ID"):
        take_jwt(token, spiffe_id=TD.id, audiences=["a", "b"])
    with pytest.raises(JWTSVIDError, match="audiences"):
        take_jwt(token, spiffe_id=WEB, audiences=["a"])


@pytest.mark.parametrize(
    ("reason", "said", "not_said"),
    [
        (Reason.BANNED, "as a new node: cognomen node invite (without --node-id)", "--node-id ID"),
        (Reason.BANNED, "if it proves an identity of its own, cognomen node unban ID", "--node-id ID"),
        (Reason.EVICTED, "as a new node: cognomen node invite (without --node-id)", "unban"),
        (Reason.SUPERSEDED, "end the one that should not be", "for good"),
        (Reason.SVID_EXPIRED, "returns automatically with its key", "invite"),
        (Reason.ATTESTED_BEFORE, "cognomen node invite --node-id ID", "for good"),
        (None, "cognomen node invite --node-id ID", "for good"),
    ],
)
def test_the_way_back_is_one_that_the_issuer_takes(reason: Reason | None, said: str, not_said: str) -> None:
    hint = way_back(Refused(Kind.DENIED, "in the issuer's words").because(reason))
    assert said in hint
    assert not_said not in hint


def test_every_hint_that_leads_to_rejoin_says_all_that_it_needs() -> None:
    assert "while its attestor is stopped" in THEN_REJOIN
    assert "--config CONFIG --invite FILE (without a configuration file: --state DIR)" in THEN_REJOIN
    hints = [way_back(Refused(Kind.DENIED, "no").because(reason)) for reason in (*Reason, None)]
    assert [THEN_REJOIN in hint for hint in hints] == ["attestor rejoin" in hint for hint in hints]
    places = [*ROOT.glob("attestor/**/*.py"), *ROOT.glob("issuer/**/*.py")]
    assert not [str(one) for one in places if "cognomen attestor rejoin" in one.read_text()]


def test_the_issuers_words_choose_no_hint() -> None:
    for words in ("node: banned", "node SVID: expired", "suspected clone"):
        assert way_back(Refused(Kind.DENIED, words)) == REJOIN


def test_a_machine_whose_proof_is_good_once_hears_how_it_is_let_in_again() -> None:
    refused = Refused(Kind.DENIED, "no")
    assert way_in(refused) == NEW_INVITE
    hint = way_in(refused.because(Reason.ATTESTED_BEFORE))
    assert "cognomen node evict ID" in hint
    assert "invite" not in hint


def test_a_state_of_another_node_hears_that_this_node_goes_on_without_the_invite() -> None:
    before = a_node()
    for refused in (Refused(Kind.UNAUTHENTICATED, "join token: unknown"), Refused(Kind.DENIED, "no", hint="ask")):
        hint = way_in(refused, before)
        assert hint.startswith(f"this state belongs to {before.svid.spiffe_id}, which joined with another invite")
        assert "start without --invite" in hint
        assert hint.endswith(f"to join as another node, {way_in(refused)}")
