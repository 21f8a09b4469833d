"""The SDK's calls leave nothing to the garbage collector of the program that makes them."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from svid.errors import WorkloadAPIError
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.sources import JWTSource, X509Source
from tests.doubles.garbage import garbage_of
from tests.doubles.workloadside import WorkloadSide, entry, served

OURS = (
    "X509Source",
    "Follower",
    "FollowedDenials",
    "KeptStream",
    "Stream",
    "X509SVID",
    "WorkloadAPIError",
    "JWTSource",
    "JWTSVID",
    "KeptFile",
    "FileKeeper",
)
CALLS = 100


def one_message(client: WorkloadAPIClient) -> None:
    stream = client.open_x509_contexts()
    next(iter(stream))
    stream.cancel()


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda client: client.fetch_jwt_svids("db"), id="answered"),
        pytest.param(lambda client: client.fetch_jwt_svids("x" * 2000), id="refused"),
        pytest.param(lambda client: client.validate_jwt_svid("a.b.c", "db"), id="refused with a reason"),
        pytest.param(lambda client: client.fetch_x509_context(), id="one message"),
        pytest.param(one_message, id="stream that is cancelled"),
    ],
)
async def test_a_call_of_a_client_leaves_no_garbage(
    tmp_path: Path, call: Callable[[WorkloadAPIClient], object]
) -> None:
    side = WorkloadSide()
    side.synchronise(entry("a", f"unix:uid:{os.getuid()}"))

    def make(client: WorkloadAPIClient, count: int) -> None:
        for _ in range(count):
            with suppress(WorkloadAPIError):
                call(client)

    async with served(side.flow(), tmp_path / "s"):
        with WorkloadAPIClient(f"unix://{tmp_path / 's'}") as client:
            left = await garbage_of(lambda count: asyncio.to_thread(make, client, count), CALLS)
    assert left.total() < CALLS / 10, left


async def test_a_source_that_is_closed_leaves_nothing_of_ours_nor_a_key(tmp_path: Path) -> None:
    """Its frames, above all, kept the SVID and its key."""
    side = WorkloadSide()
    side.synchronise(entry("a", f"unix:uid:{os.getuid()}"))

    def make(count: int) -> None:
        for _ in range(count):
            X509Source(f"unix://{tmp_path / 's'}").close()

    async with served(side.flow(), tmp_path / "s"):
        left = await garbage_of(lambda count: asyncio.to_thread(make, min(count, 3)), 3)
    assert not [name for name in OURS if left[name]], left


@pytest.mark.parametrize("has_file", [False, True])
async def test_a_source_of_tokens_that_is_closed_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_file: bool
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    side = WorkloadSide()
    side.synchronise(entry("a", f"unix:uid:{os.getuid()}"))

    def make(count: int) -> None:
        for _ in range(count):
            with JWTSource(f"unix://{tmp_path / 's'}") as source:
                source.fetch("db")
                if has_file:
                    source.file("db")

    async with served(side.flow(), tmp_path / "s"):
        left = await garbage_of(lambda count: asyncio.to_thread(make, min(count, 3)), 3)
    assert not [name for name in OURS if left[name]], left
