"""The issuer's own life: how it starts, what keeps it from starting, what it does when its store is not there."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from cognomen.protocol.errors import Kind, Refused
from issuer.config import DatastoreChoice, IssuerConfig
from issuer.main import run
from svid.spiffeid import TrustDomain
from tests.flow.issuer_harness import TRUST_DOMAIN, call, entry, join, new_key, public_der, running
from tests.flow.test_issuer_join import refusal


def config(directory: Path, **changes: object) -> IssuerConfig:
    values: dict[str, object] = {
        "trust_domain": TRUST_DOMAIN,
        "state_dir": directory / "state",
        "admin_socket": directory / "admin" / "s",
        "node_address": "127.0.0.1:0",
        "join_address": "127.0.0.1:0",
        "disk_reserve_mib": 1,
    }
    return IssuerConfig(**(values | changes))  # type: ignore[arg-type]  # the tests' own keyword arguments


async def refused_to_start(directory: Path, **changes: object) -> Refused:
    with pytest.raises(Refused) as refused:
        await run(config(directory, **changes))
    return refused.value


@pytest.mark.parametrize("key", ["node_address", "join_address"])
async def test_a_port_that_is_taken_is_a_clear_error(tmp_path: Path, key: str) -> None:
    async with running(tmp_path / "first") as issuer:
        refused = await refused_to_start(tmp_path / "second", **{key: getattr(issuer.bound, key)})
    assert refused.kind is Kind.UNAVAILABLE
    assert refused.detail.startswith(f"{key}: ")
    assert "another issuer" in refused.hint


@pytest.mark.parametrize("address", ["", "8443", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x", ":0"])
async def test_an_address_that_is_none_is_a_clear_error(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match=f"^join_address: expected host:port such as .*, found {address!r}$"):
        await refused_to_start(tmp_path, join_address=address)


async def test_a_second_issuer_on_the_same_state_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path):
        refused = await refused_to_start(tmp_path, admin_socket=tmp_path / "other" / "s")
    assert refused.kind is Kind.EXISTS
    assert refused.detail.startswith("state_dir: ")


async def test_the_state_of_another_trust_domain_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    refused = await refused_to_start(tmp_path, trust_domain=TrustDomain("other.org"))
    assert refused.kind is Kind.CONFLICT
    assert refused.detail.startswith("trust_domain: ")


async def test_a_state_directory_that_others_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    refused = await refused_to_start(tmp_path)
    assert refused.kind is Kind.INVALID


async def test_an_admin_socket_that_is_served_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path):
        refused = await refused_to_start(tmp_path, state_dir=tmp_path / "other")
    assert refused.kind is Kind.EXISTS


async def test_the_admin_socket_is_its_owners_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        assert issuer.config.admin_socket.stat().st_mode & 0o777 == 0o600
        assert issuer.config.admin_socket.parent.stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_an_issuer_in_memory_leaves_no_state(tmp_path: Path) -> None:
    async with running(tmp_path, datastore=DatastoreChoice.MEMORY, key_manager="memory") as issuer:
        node = await issuer.join()
        assert node.spiffe_id
    assert not (tmp_path / "state").exists()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Keep the issuer from writing."""
    other = sqlite3.connect(database, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


async def test_without_its_store_it_signs_nothing_and_goes_on_when_the_store_is_back(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, invite = await issuer.join(), await issuer.invite()
        mine = (await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))).entries[0].id
        await node.mint((mine, public_der(new_key())))
        before = len(await issuer.ledger())
        with locked(tmp_path / "state" / "issuer.db"):
            attempts = (
                node.mint((mine, public_der(new_key()))),
                node.mint_jwt((mine, ["a"])),
                node.renew(),
                join(invite),
                issuer.invite(),
                issuer.create(entry("/db", node.spiffe_id, "unix:uid:1")),
            )
            refused = await asyncio.gather(*map(refusal, attempts))
            assert {each.code() for each in refused} == {grpc.StatusCode.UNAVAILABLE}
        assert len(await issuer.ledger()) == before
        (answer,) = await node.mint((mine, public_der(new_key())))
        assert answer.HasField("credential")
        await node.close()


@pytest.mark.parametrize(
    ("key", "value"),
    [("x509_svid_ttl", 0), ("x509_svid_ttl", -1), ("x509_svid_ttl", 86_401), ("invite_ttl", 0), ("jwt_svid_ttl", 0.5)],
)
def test_a_ttl_out_of_bounds_is_named(tmp_path: Path, key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{key}: expected whole seconds from 1s to"):
        config(tmp_path, **{key: timedelta(seconds=value)})


async def test_the_admin_socket_says_that_it_serves(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        path, request = "/grpc.health.v1.Health/Check", HealthCheckRequest(service="cognomen.admin.v1.Admin")
        reply = await call(issuer.admin_channel, path, request, HealthCheckResponse.FromString)
        assert reply == HealthCheckResponse(status=HealthCheckResponse.SERVING)


async def test_the_admin_socket_lists_what_it_serves(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        stream = issuer.admin_channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )()
        await stream.write(ServerReflectionRequest(list_services=""))
        reply = await stream.read()
        await stream.done_writing()
        assert isinstance(reply, ServerReflectionResponse)
        assert [one.name for one in reply.list_services_response.service] == [
            "cognomen.admin.v1.Admin",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ]
        assert await stream.read() is grpc.aio.EOF


async def test_without_the_authoritys_key_nothing_is_signed_and_the_ledger_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        mine = (await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))).entries[0].id
        for key in (tmp_path / "state" / "keys").glob("jwt-*"):
            key.unlink()
        refused = await refusal(node.mint_jwt((mine, ["a"])))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        await node.close()
    async with running(tmp_path) as issuer:
        assert [row.state for row in await issuer.ledger() if row.kind == "jwt"] == ["failed"]


@pytest.mark.parametrize("key", ["node_address", "join_address"])
@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_listening_everywhere_needs_an_address_for_invites(tmp_path: Path, key: str, address: str) -> None:
    with pytest.raises(ValueError, match=f"advertised_{key}: expected host:port that nodes can reach"):
        config(tmp_path, **{key: address})
    told = config(tmp_path, **{key: address, f"advertised_{key}": "issuer.example.org:8443"})
    assert getattr(told, key) == address
