"""What strangers and nodes try at the issuer's network doors: each was a hole, or nearly one."""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.strangers import half_open
from tests.flow.issuer_harness import entry, new_key, public_der, running
from tests.flow.test_issuer_join import audit_reasons
from tests.flow.test_issuer_join_stream import Asking, begin, door, evidence

DESCRIPTORS = 400
STRANGERS = 60


async def test_joiners_that_say_nothing_keep_nobody_out() -> None:
    asking = Asking()
    async with door(asking, at_a_time=1) as channel:
        silent = [begin(channel) for _ in range(3)]
        for stream in silent:
            await stream.wait_for_connection()
        joiner = begin(channel)
        await joiner.write(evidence())
        asked = await joiner.read()
        for stream in (*silent, joiner):
            stream.cancel()
    assert getattr(asked, "challenge", None) == b"who?"


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("few_descriptors")
async def test_strangers_get_a_share_of_the_descriptors_and_nodes_are_served_meanwhile(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        stored = await issuer.create(entry("/a", node.spiffe_id, "unix:uid:1"))
        with (
            half_open(issuer.bound.join_address, STRANGERS) as strangers,
            half_open(issuer.bound.node_address, STRANGERS),
        ):
            # The others are ended at once, long before one is given up.
            await asyncio.to_thread(strangers.wait_for_ends, DESCRIPTORS // 8 // 3)
            (minted,) = await node.mint((stored.entries[0].id, public_der(new_key())))
        await node.close()
    assert minted.credential.chain


async def test_a_node_cannot_have_each_refusal_of_a_batch_on_record_by_making_them_differ(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        answers = await node.mint_jwt(*[("", ["x" * (1025 + more)]) for more in range(100)])
        await node.close()
    refusals = await audit_reasons(tmp_path)
    assert {answer.refusal.kind for answer in answers} == {"INVALID"}
    assert len(refusals) == 17
    assert "too many reasons to tell apart" in refusals[-1]
    assert '"items":"84"' in refusals[-1]
