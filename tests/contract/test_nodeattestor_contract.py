"""What every node attestor promises: the issuer's half, the attestor's half, and both together."""

import itertools
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attestor.nodeattestor.join_token
import issuer.nodeattestor.join_token
from attestor.nodeattestor.port import NodeAttestor as NodeSide
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from issuer.decisions.attestation import ByIdentity, ByToken
from issuer.nodeattestor.port import NodeAttestor as IssuerSide
from svid.bundle import Bundle
from tests.doubles.hardwarekey import HardwareKeys, Machine
from tests.doubles.issuer_values import TRUST_DOMAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A node attestor, and the node's half of one node after the other."""

    issuer: IssuerSide
    nodes: Iterator[NodeSide]


INVITE = Invite(
    trust_domain=TRUST_DOMAIN,
    join_address="127.0.0.1:1",
    node_address="127.0.0.1:2",
    token="",
    bundle=Bundle(trust_domain=TRUST_DOMAIN),
)


def join_token() -> Case:
    invites = (replace(INVITE, token=secrets.token_urlsafe(32)) for _ in itertools.count())
    nodes = (attestor.nodeattestor.join_token.JoinToken(invite) for invite in invites)
    return Case(issuer=issuer.nodeattestor.join_token.JoinToken(), nodes=nodes)


def hardware_key() -> Case:
    keys = {f"machine-{number}": ec.generate_private_key(ec.SECP256R1()) for number in range(3)}
    known = HardwareKeys({machine: key.public_key() for machine, key in keys.items()})
    return Case(issuer=known, nodes=(Machine(machine, key) for machine, key in keys.items()))


CASES: tuple[Callable[[], Case], ...] = (join_token, hardware_key)


@pytest.fixture(params=CASES, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param()
    return made


async def proved(case: Case, node: NodeSide) -> ByToken | ByIdentity:
    return await case.issuer.attest(await node.evidence(), node.answer)


async def silence(question: bytes) -> bytes:
    del question
    return b""


def test_its_name_is_a_segment_of_a_spiffe_id_and_a_selectors_type(case: Case) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", case.issuer.name)


def test_its_halves_have_one_name(case: Case) -> None:
    assert next(case.nodes).name == case.issuer.name


async def test_good_evidence_proves_a_token_or_an_identity(case: Case) -> None:
    match await proved(case, next(case.nodes)):
        case ByToken(token_hash=found):
            assert re.fullmatch("[0-9a-f]{64}", found)
        case ByIdentity(node_id=found):
            assert found


async def test_the_same_node_proves_the_same(case: Case) -> None:
    node = next(case.nodes)
    assert await proved(case, node) == await proved(case, node)


async def test_another_node_proves_another(case: Case) -> None:
    assert await proved(case, next(case.nodes)) != await proved(case, next(case.nodes))


async def test_its_selectors_bear_its_name(case: Case) -> None:
    proof = await proved(case, next(case.nodes))
    found = proof.selectors if isinstance(proof, ByIdentity) else frozenset()
    assert {selector.type for selector in found} <= {case.issuer.name}


@given(evidence=st.binary(max_size=4096))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_give_a_proof_or_a_refusal_of_the_joiner(case: Case, evidence: bytes) -> None:
    try:
        await case.issuer.attest(evidence, silence)
    except Refused as refused:
        assert refused.kind in {Kind.INVALID, Kind.UNAUTHENTICATED}  # noqa: PT017 - a proof is fine, too


async def test_the_evidence_of_a_node_stays_the_same(case: Case) -> None:
    node = next(case.nodes)
    assert await node.evidence() == await node.evidence()


@given(challenge=st.binary(max_size=4096))
@settings(max_examples=50, deadline=None)
async def test_any_challenge_gives_an_answer_or_a_refusal_of_the_issuer(challenge: bytes) -> None:
    for make in CASES:
        try:
            assert await next(make().nodes).answer(challenge)
        except Refused as refused:
            assert refused.kind is Kind.INVALID  # noqa: PT017 - an answer is fine, too
