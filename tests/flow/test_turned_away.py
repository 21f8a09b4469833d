"""Whom the gate turns away hears why: from the command and from the SDK."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cognomen.cli.reach import check_workload_api
from cognomen.gate.caller import Caller
from cognomen.protocol.errors import Kind, Refused
from svid import WorkloadAPIClient, WorkloadAPIError
from tests.doubles.gated import served

REASON = "caller: expected at most 1024 supplementary groups, found 1025"


def refuse(sock: socket.socket, *, accepted_at: float) -> Caller:
    del sock, accepted_at
    raise Refused(Kind.DENIED, REASON, hint="fewer groups")


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    async with served(tmp_path / "s", identify=refuse):
        yield f"unix://{tmp_path}/s"


async def test_the_command_says_why_it_is_turned_away(address: str) -> None:
    with pytest.raises(Refused) as refused:
        await asyncio.to_thread(check_workload_api, address)
    assert refused.value.kind is Kind.DENIED
    assert refused.value.detail.endswith(REASON)


async def test_the_sdk_says_why_it_is_turned_away(address: str) -> None:
    def fetch() -> None:
        with WorkloadAPIClient(address) as client:
            client.fetch_x509_context()

    with pytest.raises(WorkloadAPIError, match=f"turned this process away: {REASON}$"):
        await asyncio.to_thread(fetch)


async def test_whoever_is_let_in_is_asked_for_nothing_more(tmp_path: Path) -> None:
    async with served(tmp_path / "s"):
        assert await asyncio.to_thread(check_workload_api, f"unix://{tmp_path}/s")


async def test_a_server_that_says_nothing_is_left_to_grpc(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        assert await asyncio.to_thread(check_workload_api, f"unix://{tmp_path}/s")
