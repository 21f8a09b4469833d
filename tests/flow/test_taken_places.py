"""A daemon whose socket or address is taken says so before it makes anything: no state, no keys, and no invite is used up."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

import attestor.main
import issuer.main
from attestor.config import AttestorConfig
from cognomen.gate.gate import listen
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from issuer.config import IssuerConfig
from tests.flow.liveissuer import LiveIssuer
from tests.flow.test_attestor_end_to_end import SECONDS, LiveAttestor


@pytest.fixture
def taken() -> Iterator[str]:
    """An address where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def attestor_refusal(config: AttestorConfig, invite: Invite) -> Refused:
    with pytest.raises(Refused) as refused:
        async with asyncio.timeout(SECONDS):
            await attestor.main.run(config, invite=invite, stop=asyncio.Event())
    return refused.value


async def issuer_refusal(config: IssuerConfig) -> Refused:
    with pytest.raises(Refused) as refused:
        async with asyncio.timeout(SECONDS):
            await issuer.main.run(config, stop=asyncio.Event())
    return refused.value


async def test_an_attestor_without_a_place_uses_up_no_invite_and_leaves_nothing_behind(
    tmp_path: Path, taken: str
) -> None:
    local = LiveAttestor(tmp_path)
    path, too_long = local.config.workload_socket, tmp_path / "run" / ("a" * 108)
    async with LiveIssuer(tmp_path).running() as live:
        invite = await live.invite()
        with closing(listen(path, 0o666)):
            assert (await attestor_refusal(local.config, invite)).kind is Kind.EXISTS
        for key, value, kind in (
            ("workload_socket", too_long, Kind.INVALID),
            ("health_address", taken, Kind.UNAVAILABLE),
        ):
            changed = msgspec.structs.replace(local.config, **{key: value})
            assert (await attestor_refusal(changed, invite)).kind is kind, key
        assert not local.config.state_dir.exists()
        async with local.running(invite):
            pass


async def test_a_dead_socket_is_no_server_and_is_replaced(tmp_path: Path) -> None:
    local = LiveAttestor(tmp_path)
    listen(local.config.workload_socket, 0o666).close()
    async with LiveIssuer(tmp_path).running() as live, local.running(await live.invite()):
        pass


@pytest.mark.parametrize("key", ["join_address", "node_address", "health_address"])
async def test_an_issuer_without_an_address_makes_no_state(tmp_path: Path, taken: str, key: str) -> None:
    config = msgspec.structs.replace(LiveIssuer(tmp_path).config, **{key: taken})
    refused = await issuer_refusal(config)
    assert (refused.kind, refused.detail.partition(":")[0]) == (Kind.UNAVAILABLE, key)
    assert not config.state_dir.exists()
    assert not config.admin_socket.parent.exists()


async def test_an_issuer_with_one_address_for_two_doors_makes_no_state(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    config = msgspec.structs.replace(LiveIssuer(tmp_path).config, join_address=address, node_address=address)
    assert (await issuer_refusal(config)).kind is Kind.UNAVAILABLE
    assert not config.state_dir.exists()
    assert not config.admin_socket.parent.exists()


async def test_an_issuer_whose_socket_is_served_makes_no_state(tmp_path: Path) -> None:
    config = LiveIssuer(tmp_path).config
    config.admin_socket.parent.mkdir(mode=0o700)
    with closing(listen(config.admin_socket, 0o600)):
        assert (await issuer_refusal(config)).kind is Kind.EXISTS
    assert not config.state_dir.exists()
