"""An attestor that starts again, with and without its issuer: what was denied is told before anything else."""

import asyncio
from datetime import timedelta
from pathlib import Path

from grpclib.client import Channel
from grpclib.exceptions import StreamTerminatedError

import attestor.main
from attestor.deniallog import DenialLog
from attestor.state.denialfile import DenialFile
from svid.clock import SystemClock
from svid.denials import Denial, unpack
from svid.wire.pb import denials_pb2 as pb
from tests.doubles.workloadside import open_stream
from tests.flow.liveissuer import LiveIssuer
from tests.flow.test_attestor_end_to_end import SECONDS, LiveAttestor
from tests.flow.test_denials_service import SERVICE

DENIED = 2**127 + 7


async def first_words(path: Path, *, until_epoch: bool) -> list[pb.Denied]:
    """What a follower hears first, as soon as the socket is there: one message, or all up to the first epoch."""
    channel = Channel(path=str(path))
    try:
        while True:
            stream = open_stream(channel, "Follow", pb.FollowRequest(), pb.Denied, service=SERVICE)
            try:
                async with stream as words:
                    heard = [await words.next()]
                    while until_epoch and not heard[-1].HasField("epoch"):
                        heard.append(await words.next())
                    return heard
            except (OSError, StreamTerminatedError):
                await asyncio.sleep(0.02)
    finally:
        channel.close()


async def test_an_attestor_that_starts_without_its_issuer_tells_what_was_denied_and_how_old_that_is(
    tmp_path: Path,
) -> None:
    local = LiveAttestor(tmp_path)
    live = LiveIssuer(tmp_path)
    async with live.running() as issuer, local.running(await issuer.invite()):
        pass
    kept = DenialFile(local.config.state_dir)
    end = (SystemClock().now() + timedelta(hours=1)).replace(microsecond=0)
    kept.replace(DenialLog([Denial(DENIED, end)]).after(0))
    stop = asyncio.Event()
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(attestor.main.run(local.config, stop=stop))
        (alone,) = await first_words(local.config.workload_socket, until_epoch=False)
        assert unpack(alone.numbers, alone.ends) == (Denial(DENIED, end),)
        assert (alone.snapshot, alone.more, alone.HasField("epoch")) == (True, True, False)
        assert alone.age.ToTimedelta() > timedelta()
        async with live.running():
            heard = await first_words(local.config.workload_socket, until_epoch=True)
            assert unpack(heard[0].numbers, heard[0].ends) == (Denial(DENIED, end),), "the issuer knows of none"
            assert not heard[-1].more
            stop.set()
    assert [*kept.load()] == [Denial(DENIED, end)]
