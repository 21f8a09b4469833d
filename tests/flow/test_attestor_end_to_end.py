"""The attestor against a real issuer: from an invite to SVIDs in the hands of a bare gRPC client."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

import attestor.main
from attestor.config import AttestorConfig
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from cognomen.protocol.selector import Selector
from svid.spiffeid import SpiffeID
from svid.wire.pb import workload_pb2 as pb
from svid.x509svid import X509SVID
from tests.doubles.until import until
from tests.flow.liveissuer import TD, LiveIssuer

SECONDS = 20
HEADER = (("workload.spiffe.io", "true"),)
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)  # else channels of one process share a connection
OWN_UID = frozenset({Selector("unix", f"uid:{os.geteuid()}")})


class LiveAttestor:
    """An attestor in this process and its directories; it may be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        run = directory / "run"
        run.mkdir(mode=0o755)
        self.config = AttestorConfig(
            trust_domain=TD, state_dir=directory / "attestor", workload_socket=run / "api.sock"
        )

    @asynccontextmanager
    async def running(self, invite: Invite | None = None) -> AsyncIterator[SpiffeID]:
        """Run it for as long as the block does; the node's SPIFFE ID."""
        stop = asyncio.Event()
        ready: asyncio.Queue[SpiffeID] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            main = attestor.main.run(self.config, invite=invite, ready=ready.put_nowait, stop=stop)
            group.create_task(main)
            async with asyncio.timeout(SECONDS):
                node = await ready.get()
            try:
                yield node
            finally:
                stop.set()

    @asynccontextmanager
    async def stream(self, *, seconds: float = SECONDS) -> AsyncIterator["Stream"]:
        """FetchX509SVID, as any client calls it: again while there is no identity yet, because the entry is still on its way."""
        async with (
            grpc.aio.insecure_channel(f"unix:{self.config.workload_socket}", options=OWN_CONNECTION) as channel,
            asyncio.timeout(seconds),
        ):
            method: grpc.aio.UnaryStreamMultiCallable[pb.X509SVIDRequest, pb.X509SVIDResponse] = channel.unary_stream(
                "/SpiffeWorkloadAPI/FetchX509SVID",
                request_serializer=pb.X509SVIDRequest.SerializeToString,
                response_deserializer=pb.X509SVIDResponse.FromString,
            )
            while True:
                call = method(pb.X509SVIDRequest(), metadata=HEADER)
                try:
                    first = await call.read()
                    break
                except grpc.aio.AioRpcError as e:
                    if e.code() is not grpc.StatusCode.PERMISSION_DENIED:
                        raise
                await asyncio.sleep(0.02)
            yield Stream(call, first)

    async def jwt(self, audience: str) -> pb.JWTSVIDResponse:
        """FetchJWTSVID, as any client calls it."""
        async with grpc.aio.insecure_channel(f"unix:{self.config.workload_socket}") as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[pb.JWTSVIDRequest, pb.JWTSVIDResponse] = channel.unary_unary(
                "/SpiffeWorkloadAPI/FetchJWTSVID",
                request_serializer=pb.JWTSVIDRequest.SerializeToString,
                response_deserializer=pb.JWTSVIDResponse.FromString,
            )
            return await method(pb.JWTSVIDRequest(audience=[audience]), metadata=HEADER, timeout=SECONDS)


class Stream:
    """What comes over one FetchX509SVID."""

    def __init__(self, call: grpc.aio.UnaryStreamCall[pb.X509SVIDRequest, pb.X509SVIDResponse], first: object) -> None:
        self._call = call
        self._first: object = first

    async def next(self) -> list[X509SVID]:
        """The next message."""
        message, self._first = self._first or await self._call.read(), None
        assert isinstance(message, pb.X509SVIDResponse)
        return [X509SVID.parse(svid.x509_svid, svid.x509_svid_key) for svid in message.svids]


def entry(path: str, node: SpiffeID, *, ttl: timedelta | None = None) -> RegistrationEntry:
    return RegistrationEntry(
        id=EntryID(""),
        spiffe_id=SpiffeID(trust_domain=TD, path=path),
        parent_id=node,
        selectors=OWN_UID,
        x509_svid_ttl=ttl,
        jwt_svid_ttl=None,
        expires_at=None,
        dns_names=(),
        created_at=None,
        labels={},
    )


def paths(svids: list[X509SVID]) -> list[str]:
    return [svid.spiffe_id.path for svid in svids]


async def says_nothing_but(stream: Stream, expected: list[str]) -> None:
    """Read to the end of the stream, which is an error."""
    while True:
        assert paths(await stream.next()) == expected


async def test_an_entry_becomes_an_svid_and_each_change_of_it_is_pushed(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(LiveIssuer(tmp_path).running())
        local = LiveAttestor(tmp_path)
        node = await stack.enter_async_context(local.running(await issuer.invite()))
        (web,) = await issuer.create(entry("/web", node))
        stream = await stack.enter_async_context(local.stream())
        assert paths(await stream.next()) == ["/web"]
        (db,) = await issuer.create(entry("/db", node))
        assert paths(await stream.next()) == ["/web", "/db"]
        await issuer.delete(db.id)
        assert paths(await stream.next()) == ["/web"]
        assert (await local.jwt("reasoning")).svids[0].spiffe_id == "spiffe://example.org/web"
        await issuer.delete(web.id)
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await says_nothing_but(stream, ["/web"])  # the revocation list of what was deleted before comes, too
        assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_newer_entry_becomes_the_default_identity_once_it_is_marked(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(LiveIssuer(tmp_path).running())
        local = LiveAttestor(tmp_path)
        node = await stack.enter_async_context(local.running(await issuer.invite()))
        await issuer.create(entry("/web", node))
        (db,) = await issuer.create(entry("/db", node))
        stream = await stack.enter_async_context(local.stream())
        while paths(found := await stream.next()) != ["/web", "/db"]:
            pass
        await issuer.update(replace(db, default=True))
        assert [svid.chain for svid in await stream.next()] == [
            svid.chain for svid in reversed(found)
        ]  # the same SVIDs
        assert (await local.jwt("reasoning")).svids[0].spiffe_id == "spiffe://example.org/db"


async def test_the_workload_socket_lists_what_it_serves(tmp_path: Path) -> None:
    local = LiveAttestor(tmp_path)
    async with (
        LiveIssuer(tmp_path).running() as issuer,
        local.running(await issuer.invite()),
        grpc.aio.insecure_channel(f"unix:{local.config.workload_socket}") as channel,
    ):
        ask = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        (answer,) = [one async for one in ask(iter([ServerReflectionRequest(list_services="")]))]
    assert [one.name for one in answer.list_services_response.service] == [
        "SpiffeWorkloadAPI",
        "cognomen.attestor.v1.Inspect",
        "cognomen.workload.v1.Callers",
        "cognomen.workload.v1.Denials",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]


async def test_a_restart_needs_no_invite_and_serves_the_same_identities(tmp_path: Path) -> None:
    local = LiveAttestor(tmp_path)
    async with LiveIssuer(tmp_path).running() as issuer:
        async with local.running(await issuer.invite()) as before:
            await issuer.create(entry("/web", before))
        async with local.running() as after, local.stream() as stream:
            assert after == before
            assert paths(await stream.next()) == ["/web"]


async def test_an_issuer_that_restarts_takes_no_identity_away_and_is_followed_again(tmp_path: Path) -> None:
    live, local = LiveIssuer(tmp_path), LiveAttestor(tmp_path)
    async with AsyncExitStack() as stack:
        async with live.running() as issuer:
            node = await stack.enter_async_context(local.running(await issuer.invite()))
            await issuer.create(entry("/web", node))
            stream = await stack.enter_async_context(local.stream())
            assert paths(await stream.next()) == ["/web"]
        async with local.stream() as while_away:
            assert paths(await while_away.next()) == ["/web"]
        issuer = await stack.enter_async_context(live.running())
        await issuer.create(entry("/db", node))
        assert paths(await stream.next()) == ["/web", "/db"]


async def test_svids_of_seconds_are_renewed_over_an_open_stream(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(LiveIssuer(tmp_path).running())
        local = LiveAttestor(tmp_path)
        node = await stack.enter_async_context(local.running(await issuer.invite()))
        await issuer.create(entry("/web", node, ttl=timedelta(seconds=2)))
        stream = await stack.enter_async_context(local.stream())
        serials = {(await stream.next())[0].serial for _ in range(3)}
        assert len(serials) == 3


async def test_a_node_svid_of_seconds_is_renewed_and_promoted(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(LiveIssuer(tmp_path, node_svid_ttl=timedelta(seconds=3)).running())
        local = LiveAttestor(tmp_path)
        node = await stack.enter_async_context(local.running(await issuer.invite()))
        first, _ = await issuer.node_serials(str(node))
        async with asyncio.timeout(SECONDS):
            while (await issuer.node_serials(str(node)))[0] == first:  # noqa: ASYNC110 - another process would ask again, too
                await asyncio.sleep(0.1)
        await issuer.create(entry("/web", node))  # the feed goes on over the new channel
        stream = await stack.enter_async_context(local.stream())
        assert paths(await stream.next()) == ["/web"]


async def test_a_used_invite_ends_the_start_with_the_issuers_word(tmp_path: Path) -> None:
    async with LiveIssuer(tmp_path).running() as issuer:
        invite = await issuer.invite()
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        async with LiveAttestor(tmp_path / "one").running(invite):
            pass
        with pytest.raises(Refused) as refused:
            await attestor.main.run(LiveAttestor(tmp_path / "two").config, invite=invite, stop=asyncio.Event())
        assert refused.value.kind is Kind.DENIED


async def test_a_stop_while_the_issuer_is_away_ends_the_join_at_once(tmp_path: Path) -> None:
    async with LiveIssuer(tmp_path).running() as issuer:
        invite = await issuer.invite()
    stop = asyncio.Event()
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        config = LiveAttestor(tmp_path).config
        running = group.create_task(attestor.main.run(config, invite=invite, stop=stop))
        await until((config.state_dir / "node.state").exists)  # its key is kept before the first call
        assert not running.done()
        stop.set()


async def test_a_socket_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    local = LiveAttestor(tmp_path)
    local.config.workload_socket.parent.chmod(0o777)
    async with LiveIssuer(tmp_path).running() as issuer:
        with pytest.raises(Refused, match="run: expected write access for its owner only, found mode 0777"):
            await attestor.main.run(local.config, invite=await issuer.invite(), stop=asyncio.Event())
