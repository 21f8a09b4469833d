"""Who called is remembered with what it showed, also if it was refused; who was only asked about is not."""

import os
from collections.abc import Iterator

import pytest

from attestor.flows.explain_identity import ExplainIdentity
from cognomen.gate.caller import Caller, process_of
from cognomen.protocol.errors import Refused
from cognomen.protocol.selector import Selector
from svid.spiffeid import SpiffeID
from tests.doubles.workloadattestor import WorkloadAttestorDouble
from tests.doubles.workloadside import TRUST_DOMAIN, WorkloadSide, entry


@pytest.fixture
def caller() -> Iterator[Caller]:
    found = process_of(os.getpid())
    yield found
    found.process.close()


async def ignore(message: object) -> None:
    del message


async def test_a_caller_that_is_refused_is_remembered(caller: Caller) -> None:
    side = WorkloadSide()
    side.synchronise(entry("web", "test:a", "test:b:1"))
    with pytest.raises(Refused, match="no identity issued"):
        await side.flow(WorkloadAttestorDouble("test:a")).watch_x509(caller, ignore)
    (row,) = side.recent.lately()
    assert (row.pid, row.selectors, row.facts) == (
        os.getpid(),
        frozenset({Selector.parse("test:a")}),
        frozenset({"test:a", "test:b"}),
    )


async def test_a_caller_for_a_token_is_remembered(caller: Caller) -> None:
    side = WorkloadSide()
    side.synchronise(entry("web", "test:a"))
    await side.flow(WorkloadAttestorDouble("test:a")).fetch_jwts(caller, ["x"], None)
    assert [row.pid for row in side.recent.lately()] == [os.getpid()]


async def test_a_process_that_somebody_asks_about_did_not_call(caller: Caller) -> None:
    side = WorkloadSide()
    side.synchronise(entry("web", "test:a"))
    node = SpiffeID.from_segments(TRUST_DOMAIN, "node")
    flow = side.flow(WorkloadAttestorDouble("test:a"))
    explain = ExplainIdentity(cache=side.cache, node=lambda: node, workloads=flow, clock=side.clock)
    await explain(caller, 0, sees_all=True)
    assert list(side.recent.lately()) == []
