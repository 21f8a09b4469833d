"""What every server of svid.tls tells of a refusal: one warning, one count, one call of `on_refused`; and its peer learns no more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeAlias

import httpx
import pytest

from bench.rig.loops import accepting, in_own_loop
from svid.tls.authorize import exactly
from svid.tls.context import client_context, server_context
from svid.tls.reports import OnRefused, Reason, Refusal
from tests.contract.refusals import Told, check, counted, hello_app, impostor
from tests.contract.tls_clients import World
from tests.doubles.identity import CLIENT, SERVER, Identity, KnowingIdentity
from tests.doubles.uvicornrunning import uvicorn_on
from tests.doubles.webserver import web_server

Serve: TypeAlias = Callable[[Identity, OnRefused], contextlib.AbstractContextManager[int]]


@contextlib.contextmanager
def on_sockets(me: Identity, on_refused: OnRefused) -> Iterator[int]:
    with web_server(server_context(me, exactly(SERVER), on_refused=on_refused)) as seen:
        yield seen.port


@contextlib.contextmanager
def on_asyncio(me: Identity, on_refused: OnRefused) -> Iterator[int]:
    context = server_context(me, exactly(SERVER), on_refused=on_refused)

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        async with accepting(server) as port:
            yield port

    with in_own_loop(serving) as port:
        yield port


def on_uvicorn(me: Identity, on_refused: OnRefused) -> contextlib.AbstractContextManager[int]:
    return uvicorn_on(hello_app, me, exactly(SERVER), loop="asyncio", on_refused=on_refused)


def on_uvloop(me: Identity, on_refused: OnRefused) -> contextlib.AbstractContextManager[int]:
    return uvicorn_on(hello_app, me, exactly(SERVER), loop="uvloop", on_refused=on_refused)


TLS_SERVERS = pytest.mark.parametrize("serve", [on_sockets, on_asyncio, on_uvicorn, on_uvloop])


def call(me: Identity, port: int) -> None:
    """Shake hands, and ask; TLS 1.3 tells a client of its refusal after its own part."""
    with (
        contextlib.suppress(OSError, httpx.TransportError),
        httpx.Client(verify=client_context(me, lambda _: True)) as one,
    ):
        one.get(f"https://localhost:{port}/")


def check_address(serve: Serve, refusal: Refusal) -> None:
    assert refusal.address.startswith("127.0.0.1:") if serve is not on_uvloop else refusal.address == ""


@TLS_SERVERS
def test_a_server_tells_of_a_caller_that_is_not_allowed(
    serve: Serve, world: World, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("server_context", Reason.NOT_ALLOWED)
    with serve(world.server, told) as port:
        call(world.client, port)
        refusal = told.one()
    assert (refusal.reason, refusal.peer) == (Reason.NOT_ALLOWED, CLIENT)
    assert refusal.detail == f"peer: expected {SERVER}, found {CLIENT}"
    check_address(serve, refusal)
    check(refusal, caplog, before)


@TLS_SERVERS
def test_a_server_tells_of_a_caller_that_is_revoked(
    serve: Serve, world: World, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("server_context", Reason.REVOKED)
    me = KnowingIdentity(world.server.svid, world.domain.bundle)
    me.revoke_svid(world.client.svid)
    with serve(me, told) as port:
        call(world.client, port)
        refusal = told.one()
    assert (refusal.reason, refusal.peer) == (Reason.REVOKED, CLIENT)
    check(refusal, caplog, before)


@TLS_SERVERS
def test_a_server_tells_of_a_caller_that_nobody_vouches_for(
    serve: Serve, world: World, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("server_context", Reason.UNAUTHENTICATED)
    with serve(world.server, told) as port:
        call(impostor(world, "/client"), port)
        refusal = told.one()
    assert (refusal.reason, refusal.peer) == (Reason.UNAUTHENTICATED, None)
    check_address(serve, refusal)
    check(refusal, caplog, before)


@TLS_SERVERS
def test_a_server_without_an_identity_tells_of_whom_it_cannot_admit(
    serve: Serve, world: World, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("server_context", Reason.UNAVAILABLE)
    with serve(world.server, told) as port:
        world.server.deny()
        call(world.client, port)
        refusal = told.one()
    assert (refusal.reason, refusal.detail) == (Reason.UNAVAILABLE, "no identity issued")
    check(refusal, caplog, before)
