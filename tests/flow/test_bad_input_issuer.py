"""Bad input at the issuer: nothing half-written, no signature without its record, and everybody else goes on."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from bench.rig.daemons import Daemon
from cognomen.protocol.auditlog import broken_link
from cognomen.wire.pb import admin_pb2, node_pb2
from issuer.config import IssuerConfig
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.main import Bound
from tests.doubles.feed import entries_put, updates_of
from tests.doubles.filesize import full_disk
from tests.flow.issuer_harness import TRUST_DOMAIN, Issuer, Node, entry, join, new_key, public_der, running
from tests.flow.test_issuer_join import refusal

BAD_IDS = {
    "newline": "spiffe://example.org/a\n",
    "NUL": "spiffe://example.org/a\0b",
    "percent": "spiffe://example.org/a%2Fb",
    "dot": "spiffe://example.org/a/./b",
    "dots": "spiffe://example.org/a/../b",
    "empty": "spiffe://example.org/a//b",
    "2,049 bytes": "spiffe://example.org/" + "a" * 2028,
    "other trust domain": "spiffe://example.com/a",
    "subdomain": "spiffe://example.org.example.com/a",
    "upper case": "spiffe://Example.org/a",
    "port": "spiffe://example.org:1/a",
    "user": "spiffe://a@example.org/a",
    "query": "spiffe://example.org/a?b",
    "fragment": "spiffe://example.org/a#b",
    "scheme": "https://example.org/a",
    "no scheme": "/a",
    "nothing": "",
    "reserved": "spiffe://example.org/cognomen/a",
    "SPIRE's": "spiffe://example.org/spire/server",
}


async def counts(issuer: Issuer) -> tuple[int, int]:
    """How many entries and credentials there are."""
    listed = await issuer.admin("ListEntries", admin_pb2.ListEntriesRequest(), admin_pb2.ListEntriesResponse)
    assert isinstance(listed, admin_pb2.ListEntriesResponse)
    return len(listed.entries), len(await issuer.ledger())


async def check_unharmed(issuer: Issuer, node: Node) -> None:
    """An entry can be made, comes over a feed, and is minted."""
    made = await issuer.create(entry("/after", node.spiffe_id, "unix:uid:1"))
    (answer,) = await node.mint((made.entries[0].id, public_der(new_key())))
    assert answer.HasField("credential")


@pytest.mark.parametrize("field", ["spiffe_id", "parent_id"])
async def test_a_bad_id_is_refused_by_its_field_with_its_batch_and_nobody_hears_of_it(
    tmp_path: Path, field: str
) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        feed = node.follow()
        assert await feed.read() is not grpc.aio.EOF
        before = (await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))).change
        for name, text in BAD_IDS.items():
            bad = entry("/bad", node.spiffe_id, "unix:uid:1")
            setattr(bad, field, text)
            refused = await refusal(issuer.create(entry("/good", node.spiffe_id, "unix:uid:1"), bad))
            assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT, name
            assert (refused.details() or "").startswith(f"entries[1]: {field}: "), name
            assert " found " in (refused.details() or ""), name
        assert (await counts(issuer))[0] == 1
        assert (await issuer.create(entry("/db", node.spiffe_id, "unix:uid:1"))).change == before + 1
        heard: list[str] = []
        async with asyncio.timeout(20):
            while "spiffe://example.org/db" not in heard:
                change = await feed.read()
                assert isinstance(change, node_pb2.Change)
                heard += [str(one.spiffe_id) for one in entries_put(updates_of(change, TRUST_DOMAIN))]
        assert heard == ["spiffe://example.org/web", "spiffe://example.org/db"]
        feed.cancel()
        await node.close()


async def test_of_two_nodes_with_one_invite_at_once_one_is_known_and_served(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        bystander, invite = await issuer.join(), await issuer.invite()
        outcomes = await asyncio.gather(*(join(invite) for _ in range(8)), return_exceptions=True)
        (winner,) = [one for one in outcomes if isinstance(one, Node)]
        nodes = await issuer.admin("ListNodes", admin_pb2.ListNodesRequest(), admin_pb2.ListNodesResponse)
        assert isinstance(nodes, admin_pb2.ListNodesResponse)
        assert {one.id for one in nodes.nodes} == {bystander.id, winner.id}
        assert len([row for row in await issuer.ledger() if row.kind == "node"]) == 2
        for node in (bystander, winner):
            await check_unharmed(issuer, node)
            await node.close()


@pytest.mark.parametrize("socket", ["join", "node", "admin"])
async def test_garbage_on_one_socket_harms_no_call_that_is_open_on_any(tmp_path: Path, socket: str) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        feed = node.follow()
        assert await feed.read() is not grpc.aio.EOF
        for garbage in (
            b"\x00" * 4096,
            b"\xff" * 4096,
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\xff\xff" + b"a" * 9000,
        ):
            if socket == "admin":
                connecting = asyncio.open_unix_connection(issuer.config.admin_socket)
            else:
                host, _, port = getattr(issuer.bound, f"{socket}_address").rpartition(":")
                connecting = asyncio.open_connection(host, int(port))
            reader, writer = await connecting
            with contextlib.suppress(OSError):  # it may have had enough before it was all sent
                writer.write(garbage)
                writer.write_eof()
                async with asyncio.timeout(15):
                    await reader.read()
            writer.close()
        await check_unharmed(issuer, node)
        assert await feed.read() is not grpc.aio.EOF
        feed.cancel()
        await node.close()


@contextlib.contextmanager
def unwritable_audit(database: Path) -> Iterator[None]:
    """Let everything be written but the audit."""
    other = sqlite3.connect(database, isolation_level=None)
    try:
        other.execute("CREATE TRIGGER no_audit BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")
        yield
        other.execute("DROP TRIGGER no_audit")
    finally:
        other.close()


async def test_without_its_audit_it_signs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, invite = await issuer.join(), await issuer.invite()
        mine = (await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))).entries[0].id
        before = await counts(issuer)
        with unwritable_audit(tmp_path / "state" / "issuer.db"):
            for attempt in (
                node.mint((mine, public_der(new_key()))),
                node.mint_jwt((mine, ["a"])),
                node.renew(),
                join(invite),
                issuer.invite(),
                issuer.create(entry("/db", node.spiffe_id, "unix:uid:1")),
                issuer.delete(mine),
            ):
                assert (await refusal(attempt)).code() in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
        assert await counts(issuer) == before
        await check_unharmed(issuer, node)
        assert (await join(invite)).spiffe_id
        await node.close()
    assert await is_audit_whole(tmp_path / "state")


async def is_audit_whole(state: Path) -> bool:
    store = await SQLiteDatastore.open(state / "issuer.db")
    try:
        return broken_link(await store.read(lambda tx: tx.audit.rows(after=0, limit=1000))) is None
    finally:
        await store.close()


@asynccontextmanager
async def process(directory: Path, *, admin_socket: Path | None = None) -> AsyncIterator[tuple[Issuer, int]]:
    """An issuer in a process of its own."""
    config = IssuerConfig(
        trust_domain=TRUST_DOMAIN,
        state_dir=directory / "state",
        admin_socket=admin_socket or directory / "admin" / "s",
    )
    arguments = ["issuer", "run", "--trust-domain", str(TRUST_DOMAIN), "--state", str(config.state_dir)]
    arguments += ["--admin-socket", str(config.admin_socket), "--log-level", "debug"]
    arguments += ["--node-address", "127.0.0.1:0", "--join-address", "127.0.0.1:0"]
    daemon = Daemon(arguments, log=directory / "log", ready="COGNOMEN_ADMIN_SOCKET=")
    with daemon:
        async with grpc.aio.insecure_channel(f"unix:{config.admin_socket}") as channel:
            yield Issuer(config, Bound(node_address="", join_address=""), channel), daemon.pid


async def test_on_a_full_disk_it_signs_nothing_stays_up_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    async with process(tmp_path) as (issuer, pid):
        node, invite = await issuer.join(), await issuer.invite()
        mine = (await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))).entries[0].id
        before = await counts(issuer)
        with full_disk(pid):
            for attempt in (
                node.mint((mine, public_der(new_key()))),
                node.mint_jwt((mine, ["a"])),
                node.renew(),
                join(invite),
                issuer.invite(),
                issuer.create(entry("/db", node.spiffe_id, "unix:uid:1")),
            ):
                refused = await refusal(attempt)
                assert refused.code() is grpc.StatusCode.UNAVAILABLE
                assert "datastore: " in (refused.details() or "")
            assert await counts(issuer) == before, "what was written can still be read"
        await check_unharmed(issuer, node)
        assert (await join(invite)).spiffe_id
        await node.close()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert await is_audit_whole(tmp_path / "state")


async def test_an_admin_socket_in_the_state_directory_itself_works(tmp_path: Path) -> None:
    async with process(tmp_path, admin_socket=tmp_path / "state" / "s") as (issuer, _):
        assert (await issuer.invite()).trust_domain == TRUST_DOMAIN
