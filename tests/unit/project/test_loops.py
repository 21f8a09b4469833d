"""The loops of benches and tests leave nothing open, whatever their servers were doing when they ended."""

import asyncio
import contextlib
import gc
import socket
import time
import warnings
from collections.abc import AsyncIterator, Callable

import pytest

from bench.rig.loops import accepting, in_own_loop
from svid.tls.authorize import exactly
from svid.tls.context import client_context, server_context
from tests.doubles.identity import CLIENT, SERVER, Identity

STEPS = 50
STEP_SECONDS = 0.0001  # so that a loop ends while it accepts, shakes hands, or answers


def say_nothing(plain: socket.socket, _: Identity) -> socket.socket:
    return plain


def begin_to_greet(plain: socket.socket, _: Identity) -> socket.socket:
    plain.sendall(b"\x16\x03\x01")
    return plain


def shake_hands(plain: socket.socket, client: Identity) -> socket.socket:
    return client_context(client, exactly(SERVER)).wrap_socket(plain)


@pytest.mark.parametrize("call", [say_nothing, begin_to_greet, shake_hands])
def test_a_loop_that_ends_leaves_nothing_open_whatever_it_was_doing(
    call: Callable[[socket.socket, Identity], socket.socket], client: Identity, server: Identity
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await reader.read()

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        context = server_context(server, exactly(CLIENT))
        async with accepting(await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)) as port:
            yield port

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        for step in range(STEPS):
            with contextlib.ExitStack() as leaving, in_own_loop(serving) as port:
                plain = socket.create_connection(("127.0.0.1", port))
                leaving.enter_context(call(plain, client))
                time.sleep(step * STEP_SECONDS)
        gc.collect()
    assert [str(one.message) for one in warned] == []


def test_what_fails_as_it_begins_is_raised_to_who_began_it() -> None:
    @contextlib.asynccontextmanager
    async def failing() -> AsyncIterator[int]:
        yield int("no port")

    with pytest.raises(ValueError, match="no port"), in_own_loop(failing):
        raise AssertionError("it never began")
