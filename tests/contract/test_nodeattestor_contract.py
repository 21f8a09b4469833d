"""What every node attestor of the issuer promises."""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognomen.daemon.errors import Kind, Refused
from issuer.nodeattestor.join_token import JoinToken
from issuer.nodeattestor.port import NodeAttestor


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A node attestor, and how to make evidence that it takes."""

    attestor: NodeAttestor
    evidence: Callable[[], bytes]


@pytest.fixture(params=["join_token"])
def case(request: pytest.FixtureRequest) -> Case:
    assert request.param == "join_token"
    return Case(attestor=JoinToken(), evidence=lambda: secrets.token_urlsafe(32).encode())


async def silence(question: bytes) -> bytes:
    del question
    return b""


def test_its_name_is_a_segment_of_a_spiffe_id_and_a_selectors_type(case: Case) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", case.attestor.name)


async def test_good_evidence_names_a_node_or_a_token(case: Case) -> None:
    proof = await case.attestor.attest(case.evidence(), silence)
    assert (proof.node_id is None) is bool(proof.token_hash)


async def test_the_same_evidence_names_the_same(case: Case) -> None:
    evidence = case.evidence()
    assert await case.attestor.attest(evidence, silence) == await case.attestor.attest(evidence, silence)


async def test_other_evidence_names_another(case: Case) -> None:
    assert await case.attestor.attest(case.evidence(), silence) != await case.attestor.attest(case.evidence(), silence)


async def test_its_selectors_bear_its_name(case: Case) -> None:
    proof = await case.attestor.attest(case.evidence(), silence)
    assert {selector.type for selector in proof.selectors} <= {case.attestor.name}


@given(evidence=st.binary(max_size=4096))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_give_a_proof_or_a_refusal_of_the_joiner(case: Case, evidence: bytes) -> None:
    try:
        await case.attestor.attest(evidence, silence)
    except Refused as refused:
        assert refused.kind in {Kind.INVALID, Kind.UNAUTHENTICATED}  # noqa: PT017 - a proof is fine, too
