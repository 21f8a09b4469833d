"""An authority is tainted, and revoked, under traffic: everything that it signed is replaced, and nobody's call fails."""

import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from svid.clock import SystemClock
from svid.spiffeid import SpiffeID, TrustDomain
from svid.tls.authorize import any_in
from svid.tls.connections import peer_id
from svid.tls.context import LiveContext, client_context, server_context
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.sources import JWTSource, X509Source
from svid.x509svid import X509SVID, verify
from tests.flow.progress import Progress
from tests.flow.twodaemons import World

TD = TrustDomain("example.org")
SVIDS = 200


def entries(count: int) -> dict[str, object]:
    """Identities of this user's programs, beside /web."""
    common = {"parent_id": f"spiffe://{TD}/nodes", "selectors": [f"unix:uid:{os.getuid()}"]}
    return {"entries": [{**common, "spiffe_id": f"spiffe://{TD}/web/{number}"} for number in range(count)]}


@contextmanager
def echoing(context: LiveContext) -> Iterator[int]:
    """A server that tells each client who it is; what fails at its side fails the client's call, too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                with accepted, context.wrap_socket(accepted, server_side=True) as connection:
                    connection.sendall(f"{peer_id(connection)}\n".encode())
                    connection.recv(1)  # until the client is done

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


class Traffic:
    """What goes on all the time: handshakes, fetches, tokens. Each is one call that either does or raises."""

    def __init__(self, world: World, source: X509Source, tokens: JWTSource, port: int) -> None:
        self._address = f"unix://{world.workload}"
        self._source = source
        self._tokens = tokens
        self._port = port
        self._context: ssl.SSLContext = client_context(source, any_in(TD))

    def shake_hands(self) -> None:
        with (
            socket.create_connection(("127.0.0.1", self._port), timeout=10) as plain,
            self._context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            told = connection.recv(1024).decode().strip()
        assert SpiffeID.parse(told).is_member_of(TD)

    def fetch(self) -> None:
        with WorkloadAPIClient(self._address) as client:
            context = client.fetch_x509_context()
        for svid in context.svids[:3]:
            verify(svid.chain, context.bundles[TD], at=SystemClock().now())

    def show_a_token(self) -> None:
        self._tokens.verify(self._tokens.fetch("db").token, "db")


def signed_by_others(svids: tuple[X509SVID, ...], before: X509SVID) -> bool:
    return len(svids) == SVIDS and all(svid.leaf.issuer != before.leaf.issuer for svid in svids)


def signing(world: World, kind: str) -> str:
    """The key id of the authority that signs."""
    listed = world.command("authority", "list")["authorities"]
    assert isinstance(listed, list)
    return str(next(one["key_id"] for one in listed if (one["kind"], one["state"]) == (kind, "active")))


def test_all_that_a_tainted_authority_signed_is_replaced_under_traffic_and_no_call_fails(tmp_path: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "entries.json").write_text(json.dumps(entries(SVIDS - 1)))
    with world.running():
        world.command("entry", "create", f"--from={tmp_path}/entries.json")
        address = f"unix://{world.workload}"
        with X509Source(address) as mine, X509Source(address) as theirs, JWTSource(address) as tokens:
            while len(mine.context.svids) < SVIDS:
                threading.Event().wait(0.01)
            before, first, first_jwt = mine.svid, signing(world, "x509"), signing(world, "jwt")
            with echoing(server_context(theirs, any_in(TD))) as port:
                traffic = Traffic(world, mine, tokens, port)
                with running([traffic.shake_hands, traffic.fetch, traffic.show_a_token]) as wait_for_all:
                    wait_for_all()
                    # 1. Tainted: what is held is replaced, and accepted until then.
                    world.command("authority", "taint", first, "--reason=keyCompromise")
                    world.command("authority", "taint", first_jwt, "--reason=keyCompromise")
                    for source in (mine, theirs):
                        while not signed_by_others(source.context.svids, before):
                            threading.Event().wait(0.01)
                    wait_for_all()
                    # 2. Nothing in use is its own any more: it goes, and nobody misses it.
                    for authority in (first, first_jwt):
                        while (done := world.run("authority", "revoke", authority)).returncode:
                            assert "expected one whose SVIDs are all replaced" in done.stderr
                    gone = before.chain[0].issuer
                    while any(one.subject == gone for one in mine.bundle_for(TD).x509_authorities):
                        threading.Event().wait(0.01)
                    wait_for_all()
    destroyed = world.directory / "issuer" / "keys" / f"{first}.key"
    assert not destroyed.exists(), "its key is destroyed"


def test_after_a_revocation_at_once_the_node_comes_back_by_its_key_and_everybody_gets_another_svid(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        before, first = source.svid, signing(world, "x509")
        done = world.run("authority", "revoke", first, "--now", "--output=json")
        assert f"{first} left the bundle, and its key is destroyed; {signing(world, 'x509')} signs" in done.stderr
        while source.svid.leaf.issuer == before.leaf.issuer:
            threading.Event().wait(0.01)
        verify(source.svid.chain, source.bundle_for(TD), at=SystemClock().now())
        while "node readmitted" not in world.run("audit", "tail", "--output=json").stdout:
            threading.Event().wait(0.01)


@contextmanager
def running(loads: list[Callable[[], None]]) -> Iterator[Callable[[], None]]:
    """Make each call again and again until the end of the block; what fails in one fails the test.

    Yields:
        Waits until each has been made twice more.
    """
    over, progress = threading.Event(), Progress(len(loads))

    def go_on(number: int) -> int:
        while not over.wait(0.005):
            loads[number]()
            progress.made[number] += 1
        return progress.made[number]

    with ThreadPoolExecutor(len(loads)) as pool:
        futures = [pool.submit(go_on, number) for number in range(len(loads))]
        try:
            yield lambda: progress.wait_for_all(futures)
        finally:
            over.set()
        assert all(future.result() for future in futures)
