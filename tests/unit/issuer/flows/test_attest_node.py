"""A node attestor that takes too long is named, and the joiner's own silence is not held against it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from cognomen.daemon.troubles import Troubles
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.possession import Purpose
from issuer.datastore.port import Datastore
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.attestation import ByToken
from issuer.decisions.sampling import NotProved
from issuer.flows.attest_node import AttestNode, Evidence
from issuer.keepers.node_svids import NodeSVIDs
from issuer.keepers.refusal_record import RefusalRecord
from issuer.keymanager.memory import MemoryKeyManager
from issuer.nodeattestor.port import Challenge
from svid.keys import KeyKind, generate_private_key, public_key_to_der
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import TRUST_DOMAIN
from tests.doubles.issuersurroundings import around
from tests.doubles.possession import possession

Judge = Callable[[Challenge], Awaitable[None]]
NAMED = "node attestor slow"


class Slow:
    """A node attestor that first does what a test says, and knows no node."""

    name = "slow"

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def attest(self, evidence: bytes, challenge: Challenge) -> ByToken:
        del evidence
        await self._judge(challenge)
        return ByToken(token_hash="00")  # noqa: S106 - no secret


@dataclass(frozen=True, slots=True)
class House:
    """The flow, and what it reports."""

    attest: AttestNode
    troubles: Troubles

    async def join(self, judge: Judge, challenge: Challenge) -> Refused:
        """Join with an attestor that does this; returns the refusal."""
        key = generate_private_key(KeyKind.EC_P256)
        shown = Evidence(
            attestor="slow",
            evidence=b"who",
            public_key=public_key_to_der(key.public_key()),
            key_signature=possession(key, Purpose.JOIN, b"who"),
        )
        with pytest.raises(Refused) as refused:
            await replace(self.attest, attestors={"slow": Slow(judge)})(shown, challenge)
        return refused.value


@pytest.fixture
async def store() -> Datastore:
    return await SQLiteDatastore.open(None)


@pytest.fixture
def house(store: Datastore) -> House:
    clock = FakeClock()
    surroundings = around(clock)
    attest = AttestNode(
        datastore=store,
        attestors={},
        node_svids=NodeSVIDs(
            issuance=issuance(store, clock, MemoryKeyManager()),
            around=surroundings,
            trust_domain=TRUST_DOMAIN,
            ttl=timedelta(hours=1),
        ),
        refusals=RefusalRecord(around=surroundings, datastore=store),
        around=surroundings,
        trust_domain=TRUST_DOMAIN,
        judge_seconds=0,
    )
    return House(attest, surroundings.troubles)


async def for_ever(_: Challenge) -> None:
    await asyncio.Event().wait()


async def at_once(_: Challenge) -> None: ...


async def asking(challenge: Challenge) -> None:
    await challenge(b"?")


async def answer_late(_: bytes) -> bytes:
    for _turn in range(5):  # of the loop, in the first of which the time would be over
        await asyncio.sleep(0)
    return b"!"


async def test_an_attestor_that_hangs_is_named_to_the_joiner_in_the_log_and_in_the_status(house: House) -> None:
    with capture_logs() as logs:
        refused = await house.join(for_ever, answer_late)
    assert isinstance(refused, NotProved)
    assert (refused.kind, refused.detail) == (Kind.UNAVAILABLE, f"{NAMED}: no answer within 0 s")
    assert (refused.attestor, refused.said) == ("slow", refused.detail)
    assert ("plugin gave no answer", NAMED) in [(line["event"], line.get("plugin")) for line in logs]
    (trouble,) = house.troubles.all()
    assert (trouble.what, trouble.reason.partition(":")[0]) == (NAMED, "no answer within 0 s")


async def test_it_is_no_trouble_any_more_once_it_judges_again(house: House) -> None:
    await house.join(for_ever, answer_late)
    assert (await house.join(at_once, answer_late)).kind is Kind.UNAUTHENTICATED  # it is judged: no such token
    assert house.troubles.all() == []


async def test_the_time_that_the_joiner_takes_to_answer_is_not_the_attestors(house: House) -> None:
    refused = await house.join(asking, answer_late)
    assert refused.kind is Kind.UNAUTHENTICATED
    assert house.troubles.all() == []


async def test_after_the_answer_its_time_goes_on(house: House) -> None:
    async def hang_then(challenge: Challenge) -> None:
        await asking(challenge)
        await for_ever(challenge)

    refused = await house.join(hang_then, answer_late)
    assert refused.detail == f"{NAMED}: no answer within 0 s"


async def test_a_task_that_it_left_behind_may_ask_and_changes_nothing(house: House) -> None:
    left = list[asyncio.Task[bytes]]()

    async def leave_behind(challenge: Challenge) -> None:
        left.append(asyncio.ensure_future(challenge(b"?")))

    assert (await house.join(leave_behind, answer_late)).kind is Kind.UNAUTHENTICATED
    assert await left[0] == b"!"
