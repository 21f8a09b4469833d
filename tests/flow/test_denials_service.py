"""The Denials service on a real socket: what a local process hears of denials, how old they are, and what it says that it enforces."""

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from attestor.flows.serve_denials import ServeDenials
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import Behind, Enforcement, Point
from svid.denials import Denial, unpack
from svid.wire.pb import denials_pb2 as pb
from tests.doubles.clock import FakeClock
from tests.doubles.until import until
from tests.doubles.workloadside import (
    HEADER,
    HOUR,
    TRUST_DOMAIN,
    Answers,
    Metadata,
    WorkloadSide,
    call,
    open_stream,
    serving,
)

SMALLEST_WINDOW = 2**16 - 1  # of HTTP/2
SERVICE = "cognomen.workload.v1.Denials"


@dataclass
class Served:
    """The service over a cache that the test fills, with a clock that the test moves."""

    channel: Channel
    path: Path
    side: WorkloadSide
    flow: ServeDenials
    clock: FakeClock
    heard: list[timedelta] = field(default_factory=lambda: [timedelta()])
    number: int = 0

    def deny(self, *numbers: int, ends: bool = True) -> None:
        """Take a step of the feed that denies these; one that does not end is the first message of a larger one."""
        self.number += ends
        end = self.clock.now() + HOUR
        self.side.cache.denials.put([Denial(number, end) for number in numbers], self.cursor)

    @property
    def cursor(self) -> Cursor:
        return Cursor(incarnation="i", number=self.number)

    def follow(self, metadata: Metadata = HEADER) -> AbstractAsyncContextManager[Answers[pb.Denied]]:
        return open_stream(self.channel, "Follow", pb.FollowRequest(), pb.Denied, metadata=metadata, service=SERVICE)

    async def say(
        self, point: str, number: int, *, incarnation: str = "i", gone: bool = False, metadata: Metadata = HEADER
    ) -> None:
        request = pb.EnforcedRequest(epoch=pb.Epoch(incarnation=incarnation, number=number), point=point, gone=gone)
        await call(self.channel, "Enforced", request, pb.EnforcedResponse, metadata=metadata, service=SERVICE)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    clock = FakeClock()
    side, heard = WorkloadSide(clock=clock), [timedelta()]
    flow = side.denials_flow(lambda: heard[-1])
    async with serving(side.flow(), tmp_path / "api.sock", denials=flow) as channel:
        yield Served(channel, tmp_path / "api.sock", side, flow, clock, heard)


def numbers(word: pb.Denied) -> list[int]:
    return [denial.number for denial in unpack(word.numbers, word.ends)]


async def test_a_follower_hears_everything_first_then_what_comes(served: Served) -> None:
    served.deny(1, 2)
    served.deny(3)
    async with served.follow() as words:
        first = await words.next()
        assert (numbers(first), first.snapshot, first.more) == ([1, 2, 3], True, False)
        assert (first.trust_domain, first.epoch) == (TRUST_DOMAIN.name, pb.Epoch(incarnation="i", number=2))
        assert list(first.ends) == [int((served.clock.now() + HOUR).timestamp())] * 3
        served.deny(4)
        second = await words.next()
        assert (numbers(second), second.snapshot, second.more) == ([4], False, False)
        assert second.epoch.number == 3


async def test_where_nothing_is_denied_a_follower_hears_that(served: Served) -> None:
    served.deny()
    async with served.follow() as words:
        word = await words.next()
        assert (numbers(word), word.snapshot, word.more, word.epoch.number) == ([], True, False, 1)


async def test_what_is_too_much_for_a_message_comes_in_several_of_which_the_last_moves_the_epoch(
    served: Served,
) -> None:
    served.deny(*range(1024 * 2 + 1))
    async with served.follow() as words:
        snapshot = [await words.next() for _ in range(3)]
        served.deny(*range(10_000, 11_025))
        change = [await words.next() for _ in range(2)]
    assert [len(numbers(word)) for word in (*snapshot, *change)] == [1024, 1024, 1, 1024, 1]
    assert [word.more for word in (*snapshot, *change)] == [True, True, False, True, False]
    assert [word.snapshot for word in (*snapshot, *change)] == [True, True, True, False, False]
    assert [word.epoch.number for word in (*snapshot, *change)] == [0, 0, 1, 1, 2]


async def test_a_step_that_came_in_several_messages_moves_the_epoch_with_the_last(served: Served) -> None:
    served.deny()
    async with served.follow() as words:
        await words.next()
        served.deny(1, ends=False)
        first = await words.next()
        served.deny()
        last = await words.next()
    assert (numbers(first), first.epoch.number) == ([1], 1)
    assert (numbers(last), last.epoch.number) == ([], 2)


async def test_every_word_says_how_long_ago_the_issuer_was_heard_and_one_comes_every_five_seconds(
    served: Served,
) -> None:
    served.deny(1)
    async with served.follow() as words:
        assert (await words.next()).age.ToTimedelta() == timedelta()
        await until(lambda: served.clock.sleepers == 1)
        served.heard.append(timedelta(seconds=3.5))
        served.clock.advance(5)
        word = await words.next()
        assert (numbers(word), word.epoch.number, word.more) == ([], 1, False)
        assert word.age.ToTimedelta() == timedelta(seconds=3.5)


async def test_before_the_issuer_was_heard_what_is_kept_is_told_as_a_snapshot_that_goes_on(tmp_path: Path) -> None:
    side = WorkloadSide()
    side.cache.denials.put([Denial(1, side.clock.now() + HOUR)], Cursor(incarnation="i", number=1))
    side.cache.denials.cursor = None  # as after a restart
    async with serving(side.flow(), tmp_path / "api.sock", denials=side.denials_flow()) as channel:
        stream = open_stream(channel, "Follow", pb.FollowRequest(), pb.Denied, service=SERVICE)
        async with stream as words:
            first = await words.next()
            assert (numbers(first), first.snapshot, first.more) == ([1], True, True)
            assert not first.HasField("epoch")
            side.cache.denials.put([], Cursor(incarnation="i", number=7))
            second = await words.next()
            assert (numbers(second), second.snapshot, second.more, second.epoch.number) == ([], True, False, 7)


@pytest.mark.parametrize("metadata", [(), (("workload.spiffe.io", "yes"),)])
async def test_no_call_without_the_header(served: Served, metadata: Metadata) -> None:
    served.deny()
    async with served.follow(metadata) as words:
        assert (await words.refusal()).status is Status.INVALID_ARGUMENT
    with pytest.raises(GRPCError) as refused:
        await served.say("web", 1, metadata=metadata)
    assert refused.value.status is Status.INVALID_ARGUMENT


async def test_what_a_process_enforces_is_known_while_it_follows(served: Served) -> None:
    served.deny(1)
    served.deny(2)
    async with served.follow() as words:
        await words.next()
        await served.say("uvicorn 127.0.0.1:8080", 1)
        await served.say("guard", 2)
        await served.say("guard", 1)  # overtaken on its way
        me = os.getuid(), os.getpid()
        assert dict(served.flow.receipts.all()) == {
            Point(*me, "uvicorn 127.0.0.1:8080"): Cursor(incarnation="i", number=1),
            Point(*me, "guard"): Cursor(incarnation="i", number=2),
        }
    await until(lambda: not dict(served.flow.receipts.all()))


async def test_another_stream_of_the_process_keeps_what_it_enforces(served: Served) -> None:
    served.deny(1)
    async with AsyncExitStack() as streams:
        await (await streams.enter_async_context(served.follow())).next()
        async with served.follow() as second:
            await second.next()
            await served.say("web", 1)
        served.deny(2)
        await served.say("web", 2)
        assert list(dict(served.flow.receipts.all()).values()) == [Cursor(incarnation="i", number=2)]


async def test_one_connection_follows_twice_at_most(served: Served) -> None:
    served.deny(1)
    async with served.follow() as first, served.follow() as second:
        await first.next()
        await second.next()
        async with served.follow() as third:
            refusal = await third.refusal()
        assert refusal.status is Status.RESOURCE_EXHAUSTED
        served.deny(2)
        assert numbers(await first.next()) == [2]
    async with served.follow() as again:
        assert numbers(await again.next()) == [1, 2]


async def test_a_point_that_is_gone_counts_no_more_and_may_come_back(served: Served) -> None:
    served.deny(1)
    async with served.follow() as words:
        await words.next()
        await served.say("server_context", 1)
        await served.say("server_context", 1, gone=True)
        assert not dict(served.flow.receipts.all())
        await served.say("server_context", 1, gone=True)
        await served.say("server_context", 1)
        assert [point.name for point, _ in served.flow.receipts.all()] == ["server_context"]


async def test_points_are_counted_up_to_a_cursor_and_the_slowest_are_named(served: Served) -> None:
    served.deny(1)
    async with served.follow() as words:
        await words.next()
        for count in range(25):
            await served.say(f"point {count:02}", 1)
        served.deny(2)
        await served.say("point 07", 2)
        found = served.flow.receipts.up_to(served.cursor)
        assert (found.number, found.points, found.reached) == (2, 25, 1)
        slowest = [f"point {count:02}" for count in range(25) if count != 7][:20]
        assert [(one.point, one.number) for one in found.behind] == [
            (Point(os.getuid(), os.getpid(), name), 1) for name in slowest
        ]
        served.deny()  # nothing that anybody has to take
        assert served.flow.receipts.up_to(served.cursor).reached == 1
        assert served.flow.receipts.up_to(Cursor(incarnation="i", number=1)) == Enforcement(
            number=1, points=25, reached=25
        )
        of_another = served.flow.receipts.up_to(Cursor(incarnation="another", number=1))
        assert (of_another.reached, of_another.behind[0]) == (
            0,
            Behind(point=Point(os.getuid(), os.getpid(), "point 00"), number=0),
        )


async def test_it_is_news_that_a_point_came_caught_up_or_left_and_nothing_else_is(served: Served) -> None:
    served.deny(1)
    caught_up, changed = served.flow.receipts.caught_up, served.flow.receipts.changed
    async with served.follow() as words:
        await words.next()
        for said, news in (
            ("come", changed),
            ("again", None),
            ("moved", None),
            ("caught up", caught_up),
            ("left", changed),
        ):
            match said:
                case "come" | "again":
                    await served.say("web", 1)
                case "moved":
                    served.deny()
                    await served.say("web", 2)
                case "caught up":
                    served.deny(2)
                    await served.say("web", 3)
                case "left":
                    await served.say("web", 3, gone=True)
            assert (said, caught_up.is_set()) == (said, news is caught_up)
            assert (said, changed.is_set()) == (said, news is changed)
            caught_up.clear()
            changed.clear()
        await served.say("web", 3)
        changed.clear()
    await until(changed.is_set)
    assert not dict(served.flow.receipts.all())


async def test_two_sources_of_one_process_have_points_of_their_own_and_take_them_along(served: Served) -> None:
    served.deny(1)
    me = os.getuid(), os.getpid()
    other = replace(served, channel=Channel(path=str(served.path)))
    async with served.follow() as words:
        await words.next()
        await served.say("server_context", 1)
        async with other.follow() as others:
            await others.next()
            await other.say("server_context", 1)
            await other.say("guard", 1)
            await served.say("guard", 1, gone=True)
            names = sorted(point.name for point, _ in served.flow.receipts.all())
            assert names == ["guard", "server_context", "server_context"]
        await until(lambda: len(served.flow.receipts.all()) == 1)
        assert served.flow.receipts.all() == [(Point(*me, "server_context"), served.cursor)]
        with pytest.raises(GRPCError) as refused:
            await other.say("server_context", 1)
        assert refused.value.status is Status.ABORTED
    other.channel.close()


@pytest.mark.parametrize(
    ("point", "number", "incarnation", "reason"),
    [
        ("", 1, "i", "point: expected 1 to 256 bytes, found 0"),
        ("ü" * 129, 1, "i", "point: expected 1 to 256 bytes, found 258"),
        ("web", 2, "i", "epoch: unknown"),
        ("web", 1, "another", "epoch: unknown"),
    ],
)
async def test_a_receipt_that_cannot_be_meant_is_refused(
    served: Served, point: str, number: int, incarnation: str, reason: str
) -> None:
    served.deny(1)
    async with served.follow() as words:
        await words.next()
        with pytest.raises(GRPCError) as refused:
            await served.say(point, number, incarnation=incarnation)
    assert (refused.value.status, refused.value.message) == (Status.INVALID_ARGUMENT, reason)
    assert not dict(served.flow.receipts.all())


async def test_a_process_that_does_not_follow_enforces_nothing(served: Served) -> None:
    served.deny(1)
    with pytest.raises(GRPCError) as refused:
        await served.say("web", 1)
    assert refused.value.status is Status.ABORTED


async def test_one_uid_has_a_thousand_points_and_no_more(served: Served) -> None:
    served.deny(1)
    async with served.follow() as words:
        await words.next()
        for count in range(1000):
            await served.say(f"point {count}", 1)
        with pytest.raises(GRPCError) as refused:
            await served.say("one more", 1)
        assert refused.value.status is Status.RESOURCE_EXHAUSTED
        served.deny(2)
        await served.say("point 7", 2)


async def test_a_reader_that_does_not_read_holds_nobody_up_and_finds_all_of_it_in_few_messages(served: Served) -> None:
    steps, each = 1000, 100
    small = Configuration(http2_stream_window_size=SMALLEST_WINDOW, http2_connection_window_size=SMALLEST_WINDOW)
    served.deny()
    sleeper = Channel(path=str(served.path), config=small)
    sleeping = open_stream(sleeper, "Follow", pb.FollowRequest(), pb.Denied, service=SERVICE)
    async with served.follow() as words, sleeping as unread:
        await words.next()
        await unread.next()
        for step in range(steps):
            expected = [*range(step * each, (step + 1) * each)]
            served.deny(*expected)
            assert numbers(await words.next()) == expected
        read: list[int] = []
        messages = 0
        while len(read) < steps * each:
            word = await unread.next()
            read += numbers(word)
            messages += 1
        assert read == [*range(steps * each)]
        assert (word.epoch.number, word.more) == (steps + 1, False)
        assert messages < steps / 2
    sleeper.close()
