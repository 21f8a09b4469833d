"""The Callers service on a real socket: which process is told who may call it, and when."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from grpclib.client import Channel
from grpclib.const import Status

from attestor.decisions.declared import declared_by, length
from cognomen.protocol.entry import RegistrationEntry
from svid.spiffeid import SpiffeID
from svid.wire.callers import read_declared
from svid.wire.pb import callers_pb2 as pb
from tests.doubles.clock import FakeClock
from tests.doubles.until import until
from tests.doubles.workloadside import (
    HEADER,
    TRUST_DOMAIN,
    Answers,
    Metadata,
    WorkloadSide,
    entry,
    open_stream,
    serving,
)

SERVICE = "cognomen.workload.v1.Callers"
UID = f"unix:uid:{os.getuid()}"
DB, WEB, MAIL = (SpiffeID.from_segments(TRUST_DOMAIN, name) for name in ("db", "web", "mail"))


def called(*callers: SpiffeID, name: str = "db", revision: int = 1, selector: str = UID) -> RegistrationEntry:
    return replace(entry(name, selector, path=(name,), revision=revision), callers=callers)


@dataclass
class Served:
    """The service over a cache that the test fills, with a clock that the test moves."""

    channel: Channel
    side: WorkloadSide
    clock: FakeClock
    heard: list[timedelta] = field(default_factory=lambda: [timedelta()])

    def follow(self, metadata: Metadata = HEADER) -> AbstractAsyncContextManager[Answers[pb.DeclaredCallers]]:
        request = pb.FollowCallersRequest()
        return open_stream(self.channel, "Follow", request, pb.DeclaredCallers, metadata=metadata, service=SERVICE)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    clock = FakeClock()
    side, heard = WorkloadSide(clock=clock), [timedelta()]
    flow = side.flow()
    callers = side.callers_flow(flow, age=lambda: heard[-1])
    async with serving(flow, tmp_path / "api.sock", callers=callers) as channel:
        yield Served(channel, side, clock, heard)


async def list_of(words: Answers[pb.DeclaredCallers]) -> Mapping[SpiffeID, frozenset[SpiffeID] | None]:
    """A whole list that comes in one message."""
    message = read_declared(await words.next())
    assert (message.unchanged, message.more) == (False, False)
    return message.callers


async def test_a_process_is_told_who_may_call_each_of_its_identities_and_each_change(served: Served) -> None:
    plain = entry("plain", UID, path=("mail",), revision=1)
    served.side.synchronise(called(WEB), plain, called(WEB, name="other", selector="unix:uid:4000000"))
    async with served.follow() as words:
        assert await list_of(words) == {DB: frozenset({WEB}), MAIL: None}
        served.side.put(called(MAIL, WEB, revision=2), mint=False)
        assert await list_of(words) == {DB: frozenset({WEB, MAIL}), MAIL: None}
        served.side.put(called(revision=3), mint=False)
        assert (await list_of(words))[DB] == frozenset()
        served.side.remove("plain")
        assert await list_of(words) == {DB: frozenset()}


async def test_a_change_that_says_nothing_else_wakes_nobody(served: Served) -> None:
    served.side.synchronise(called(WEB))
    async with served.follow() as words:
        await words.next()
        served.side.put(replace(called(WEB, revision=2), hint="x"))
        served.side.rotate()
        served.side.put(called(MAIL, revision=3))
        assert await list_of(words) == {DB: frozenset({MAIL})}


async def test_every_word_says_how_long_ago_the_issuer_was_heard_and_one_comes_every_five_seconds(
    served: Served,
) -> None:
    served.side.synchronise(called(WEB))
    async with served.follow() as words:
        assert (await words.next()).age.ToTimedelta() == timedelta()
        for seconds in (3.5, 8.5):
            await until(lambda: served.clock.sleepers == 1)
            served.heard.append(timedelta(seconds=seconds))
            served.clock.advance(5)
            word = await words.next()
            assert (word.unchanged, word.more, list(word.identities)) == (True, False, [])
            assert word.age.ToTimedelta() == timedelta(seconds=seconds)


async def test_a_process_without_an_identity_is_refused_now_and_when_it_loses_it(served: Served) -> None:
    served.side.synchronise(called(WEB, selector="unix:uid:4000000"))
    async with served.follow() as words:
        assert (await words.refusal()).status is Status.PERMISSION_DENIED
    served.side.put(called(WEB, name="mine"))
    async with served.follow() as words:
        await words.next()
        served.side.remove("mine")
        assert (await words.refusal()).status is Status.PERMISSION_DENIED


async def test_before_the_first_snapshot_nobody_is_told_anything(served: Served) -> None:
    async with served.follow() as words:
        assert (await words.refusal()).status is Status.UNAVAILABLE


@pytest.mark.parametrize("metadata", [(), (("workload.spiffe.io", "yes"),)])
async def test_no_call_without_the_header(served: Served, metadata: Metadata) -> None:
    served.side.synchronise(called(WEB))
    async with served.follow(metadata) as words:
        assert (await words.refusal()).status is Status.INVALID_ARGUMENT


async def test_what_is_too_much_for_a_message_comes_in_several(served: Served) -> None:
    many = tuple(SpiffeID.from_segments(TRUST_DOMAIN, f"{number:04}{'x' * 80}") for number in range(1024))
    served.side.synchronise(called(*many))
    found: set[SpiffeID] = set()
    async with served.follow() as words:
        for last in (False, False, False, True):
            message = await words.next()
            assert (message.more, message.unchanged, message.ByteSize() < 48 * 1024) == (not last, False, True)
            found |= read_declared(message).callers[DB] or frozenset()
    assert found == set(many)


async def test_an_account_that_was_sent_very_much_waits_for_its_next_list(served: Served) -> None:
    many = tuple(SpiffeID.from_segments(TRUST_DOMAIN, f"{number:04}{'x' * 150}") for number in range(1024))
    entries = [called(*many, name=f"n{number}") for number in range(100)]
    served.side.synchronise(*entries, mint=False)
    size = length(declared_by(entries))
    for _ in range(64 * 2**20 // size + 1):
        async with served.follow() as words:
            await words.next()
    async with served.follow() as words:
        await until(lambda: served.clock.sleepers == 1)  # it owes
        served.heard.append(timedelta(seconds=60))
        served.clock.advance(60)
        assert (await words.next()).age.ToTimedelta() == timedelta(seconds=60)
