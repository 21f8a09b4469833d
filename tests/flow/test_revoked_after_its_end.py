"""A connection that is older than its peer's SVID, between real daemons: it outlives rotations, and a revocation ends it all the same."""

import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from svid.tls.authorize import exactly
from svid.tls.context import client_context, server_context
from svid.tls.refusals import RevokedPeerError
from svid.workloadapi.sources import X509Source
from tests.flow.twodaemons import World

WEB = "spiffe://example.org/web"


@contextmanager
def reading_from_a_peer_whose_svid_is_over(tmp_path: Path) -> Iterator[tuple[World, str, "Future[bytes]"]]:
    """The daemons, the serial that the peer showed, and a read that waits for it."""
    world = World(tmp_path, "--x509-svid-ttl=5s")
    with world.running(), X509Source(f"unix://{world.workload}") as source, ThreadPoolExecutor(1) as pool:
        serial = f"{source.svid.serial:032x}"
        near, far = connected(source, pool)
        with near, far:
            for _ in range(100):  # each takes its time
                if serial not in (live := live_serials(world)) and live:
                    break
            near.sendall(b"hello")
            assert far.recv(5) == b"hello"
            yield world, serial, pool.submit(far.recv, 1)


def connected(source: X509Source, pool: ThreadPoolExecutor) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    near, far = socket.socketpair()
    accepted = pool.submit(server_context(source, exactly(WEB)).wrap_socket, far, server_side=True)
    return client_context(source, exactly(WEB)).wrap_socket(near), accepted.result(10)


def live_serials(world: World) -> list[str]:
    rows = world.command("svid", "list", "--spiffe-id=/web", "--live", "--kind=x509")["credentials"]
    assert isinstance(rows, list)
    return [row["serial"] for row in rows]


def test_it_ends_when_its_entry_is_revoked(tmp_path: Path) -> None:
    with reading_from_a_peer_whose_svid_is_over(tmp_path) as (world, serial, waiting):
        entries = world.command("entry", "list")["entries"]
        (web,) = [one["id"] for one in entries if one["spiffe_id"] == WEB]  # type: ignore[attr-defined]  # a list of documents
        done = world.run("revoke", "entry", web, "--output=json")
        with pytest.raises(RevokedPeerError):
            waiting.result(10)
        revocation, revoked = json.loads(done.stdout)["revocation"], world.command("svid", "list", "--revoked")
        rows = revoked["credentials"]
        assert isinstance(rows, list)
        assert serial in [row["serial"] for row in rows]
        assert len(rows) == revocation["denied"] + revocation["over"]
        again = world.run("revoke", "svid", serial)
        assert "revocation 2: 0 credentials ended\n" in again.stderr, "it is denied already"


def test_it_ends_by_the_serial_of_the_svid_that_is_over(tmp_path: Path) -> None:
    with reading_from_a_peer_whose_svid_is_over(tmp_path) as (world, serial, waiting):
        done = world.run("revoke", "svid", serial)
        with pytest.raises(RevokedPeerError):
            waiting.result(10)
        assert "revocation 1: 0 credentials ended; 1 that had expired is also denied" in done.stderr
