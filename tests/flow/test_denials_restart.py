"""Denials between a real issuer and a real attestor, one of which is away: while it is, and after it has come back."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpclib.client import Channel
from grpclib.exceptions import StreamTerminatedError

import attestor.main
from attestor.deniallog import DenialLog, number_of
from attestor.state.denialfile import DenialFile
from svid.clock import SystemClock
from svid.denials import Denial, unpack
from svid.jwtsvid import JWTSVID
from svid.wire.pb import denials_pb2 as pb
from svid.wire.pb import workload_pb2
from tests.doubles.workloadside import open_stream
from tests.flow.liveissuer import LiveIssuer
from tests.flow.test_attestor_end_to_end import HEADER, SECONDS, LiveAttestor, entry
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


async def test_an_attestor_that_missed_a_revocation_replaces_refuses_and_tells_what_was_revoked(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        local, live = LiveAttestor(tmp_path), LiveIssuer(tmp_path)
        issuing = await stack.enter_async_context(AsyncExitStack())
        await issuing.enter_async_context(live.running())
        node = await stack.enter_async_context(local.running(await live.invite()))
        await live.create(entry("/web", node))
        stream = await stack.enter_async_context(local.stream(seconds=3 * SECONDS))
        (before,) = await stream.next()
        token = (await local.jwt("db")).svids[0].svid
        await validate(local, token)
        number = number_of(JWTSVID.parse_insecure(token))
        assert number is not None
        await issuing.aclose()
        await live.revoke_while_stopped(f"{before.serial:032x}", f"{number:032x}")
        await validate(local, token)  # nobody has told the attestor yet
        await issuing.enter_async_context(live.running())
        (after,) = await stream.next()
        assert after.serial != before.serial
        assert after.private_key.public_key() != before.private_key.public_key()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await validate(local, token)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await local.jwt("db")).svids[0].svid != token
        (word,) = await first_words(local.config.workload_socket, until_epoch=True)
        assert {denial.number for denial in unpack(word.numbers, word.ends)} == {before.serial, number}


async def validate(local: LiveAttestor, token: str) -> None:
    """ValidateJWTSVID, as any client calls it."""
    async with grpc.aio.insecure_channel(f"unix:{local.config.workload_socket}") as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[
            workload_pb2.ValidateJWTSVIDRequest, workload_pb2.ValidateJWTSVIDResponse
        ] = channel.unary_unary(
            "/SpiffeWorkloadAPI/ValidateJWTSVID",
            request_serializer=workload_pb2.ValidateJWTSVIDRequest.SerializeToString,
            response_deserializer=workload_pb2.ValidateJWTSVIDResponse.FromString,
        )
        request = workload_pb2.ValidateJWTSVIDRequest(audience="db", svid=token)
        await method(request, metadata=HEADER, timeout=SECONDS)
