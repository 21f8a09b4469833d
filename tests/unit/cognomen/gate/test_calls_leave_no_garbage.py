"""A call that is over leaves nothing to the garbage collector, however it ended: it stops everybody while it looks for that."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
import uvloop

from cognomen.gate.call import Call
from cognomen.gate.gate import Limits
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.garbage import Caller, End, Headers, garbage_of
from tests.doubles.gated import Act, answer, never, served

CALLS = 1000


async def refuse(call: Call) -> None:
    await call.recv_message()
    refused = Refused(Kind.DENIED, "not you")
    raise refused  # which this frame keeps


async def fail(call: Call) -> None:
    await call.recv_message()
    try:
        dict[str, str]()["none"]
    except KeyError as e:
        failed = RuntimeError("our fault")
        raise failed from e


async def wait(call: Call) -> None:
    await call.recv_message()
    async with asyncio.timeout(60):
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("method", "act", "end", "headers"),
    [
        pytest.param("Do", answer, End.BY_SERVER, (), id="answered"),
        pytest.param("Do", refuse, End.BY_SERVER, (), id="refused"),
        pytest.param("Do", fail, End.BY_SERVER, (), id="failed"),
        pytest.param("Other", answer, End.BY_SERVER, (), id="unknown method"),
        pytest.param("Do", answer, End.BY_SERVER, (("grpc-timeout", "soon"),), id="malformed"),
        pytest.param("Do", wait, End.BY_SERVER, (("grpc-timeout", "10m"),), id="deadline"),
        pytest.param("Stream", never, End.RESET_AT_ONCE, (), id="reset at once"),
        pytest.param("Stream", never, End.RESET, (), id="reset"),
        pytest.param("Stream", never, End.CONNECTION_LOST, (), id="connection lost"),
    ],
)
def test_a_call_that_is_over_leaves_no_garbage(
    tmp_path: Path, method: str, act: Act, end: End, headers: Headers
) -> None:
    async def measure() -> Counter[str]:
        async with served(tmp_path / "s", act, limits=Limits(rate=10**9)) as server:
            caller = Caller(tmp_path / "s", lambda: server.calls, f"test.Doing/{method}", headers=headers)
            return await garbage_of(lambda count: caller.call(end, count), CALLS)

    left = uvloop.run(measure())  # a transport of asyncio's own loop is a cycle by itself
    assert left.total() < CALLS / 10, left
