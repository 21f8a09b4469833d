"""Entries through the admin socket: batches are one transaction, and every refusal says which entry and why."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from cognomen.wire.pb import admin_pb2, node_pb2
from issuer.datastore.sqlite import SQLiteDatastore
from svid.clock import SystemClock
from tests.flow.issuer_harness import Issuer, entry, running
from tests.flow.test_issuer_join import audit_reasons, refusal

NODE = "spiffe://example.org/cognomen/node/join_token/none"


async def listed(issuer: Issuer, **where: object) -> list[node_pb2.Entry]:
    request = admin_pb2.ListEntriesRequest(**where)  # type: ignore[arg-type]  # the tests' own keyword arguments
    found = await issuer.admin("ListEntries", request, admin_pb2.ListEntriesResponse)
    assert isinstance(found, admin_pb2.ListEntriesResponse)
    return list(found.entries)


def changed(message: node_pb2.Entry, **fields: object) -> node_pb2.Entry:
    copy = node_pb2.Entry()
    copy.CopyFrom(message)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


async def test_a_created_entry_is_stored_as_it_came_with_id_revision_and_age(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        sent = entry(
            "/web", NODE, "unix:uid:1", "unix:gid:2", hint="h", owner="ops", x509_svid_ttl=timedelta(minutes=5)
        )
        made = (await issuer.create(sent)).entries[0]
        assert made.id
        assert made.revision == 1
        assert abs(made.created_at.ToDatetime(tzinfo=SystemClock().now().tzinfo) - SystemClock().now()) < timedelta(
            minutes=1
        )
        got = await issuer.admin("GetEntry", admin_pb2.GetEntryRequest(id=made.id), node_pb2.Entry)
        assert got == made
        assert sorted(each.value for each in made.selectors) == ["gid:2", "uid:1"]
        assert (made.hint, made.owner, made.x509_svid_ttl.seconds) == ("h", "ops", 300)


async def test_one_entry_more_for_programs_that_have_very_many_is_a_warning(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        many = [entry(f"/n{number}", node.spiffe_id, "unix:uid:1") for number in range(1000)]
        assert not (await issuer.create(*many)).warnings
        (warning,) = (await issuer.create(entry("/last", node.spiffe_id, "unix:uid:1"))).warnings
        assert warning.startswith(f"selectors: more than 1000 entries of {node.spiffe_id} have unix:uid:1; ")
        assert not (await issuer.create(entry("/other", node.spiffe_id, "unix:uid:1", "unix:gid:1"))).warnings
        await node.close()


async def test_an_unknown_parent_is_a_warning(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        made = await issuer.create(entry("/web", NODE, "unix:uid:1"))
        assert list(made.warnings) == [f"parent_id: no node or node group is {NODE} yet"]
        node = await issuer.join()
        assert not (await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))).warnings


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: entry("/web", NODE), "selectors"),
        (lambda: entry("/cognomen/issuer", NODE, "unix:uid:1"), "spiffe_id"),
        (lambda: entry("/spire/server", NODE, "unix:uid:1"), "spiffe_id"),
        (lambda: entry("", NODE, "unix:uid:1"), "spiffe_id"),
        (lambda: entry("/web", "spiffe://other.org/node", "unix:uid:1"), "parent_id"),
        (lambda: entry("/web", NODE, "unix:uid:1", x509_svid_ttl=timedelta(days=1, seconds=1)), "x509_svid_ttl"),
        (lambda: entry("/web", NODE, "unix:uid:1", x509_svid_ttl=timedelta(seconds=-1)), "x509_svid_ttl"),
        (lambda: entry("/web", NODE, "unix:uid:1", jwt_svid_ttl=timedelta(0)), "jwt_svid_ttl"),
        (lambda: entry("/web", NODE, "unix:uid:1", downstream=True), "downstream"),
        (lambda: entry("/web\n", NODE, "unix:uid:1"), "spiffe_id: path"),
        (lambda: entry("/a/../b", NODE, "unix:uid:1"), "spiffe_id: path"),
        (lambda: entry("/" + "a" * 2048, NODE, "unix:uid:1"), "spiffe_id: SPIFFE ID"),
        (lambda: entry("/web", NODE, "unix"), "selector"),
        (lambda: changed(entry("/web", NODE, "unix:uid:1"), id="mine"), "id"),
    ],
)
async def test_a_bad_entry_is_refused_with_its_batch(
    tmp_path: Path, make: Callable[[], node_pb2.Entry], field: str
) -> None:
    async with running(tmp_path) as issuer:
        refused = await refusal(issuer.create(entry("/good", NODE, "unix:uid:1"), make()))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (refused.details() or "").startswith(f"entries[1]: {field}")
        assert not await listed(issuer)


async def test_the_same_entry_twice_exists(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        made = (await issuer.create(entry("/web", NODE, "unix:uid:1"))).entries[0]
        refused = await refusal(issuer.create(entry("/db", NODE, "unix:uid:1"), entry("/web", NODE, "unix:uid:1")))
        assert refused.code() is grpc.StatusCode.ALREADY_EXISTS
        assert made.id in (refused.details() or "")
        assert len(await listed(issuer)) == 1
        refused = await refusal(issuer.create(entry("/db", NODE, "unix:uid:1"), entry("/db", NODE, "unix:uid:1")))
        assert refused.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_an_update_bumps_the_revision_and_keeps_the_age(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        made = (await issuer.create(entry("/web", NODE, "unix:uid:1"))).entries[0]
        now = (await issuer.update(changed(made, hint="other"))).entries[0]
        assert (now.revision, now.hint, now.created_at) == (2, "other", made.created_at)


async def test_an_update_of_an_older_revision_is_a_conflict(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        made = (await issuer.create(entry("/web", NODE, "unix:uid:1"))).entries[0]
        await issuer.update(changed(made, hint="other"))
        refused = await refusal(issuer.update(changed(made, hint="mine")))
        assert refused.code() is grpc.StatusCode.ABORTED
        detail, hint = (refused.details() or "").split("\n", 1)
        assert detail == "entries[0]: revision: expected 2, found 1"
        assert "/web was changed after it was read" in hint


async def test_an_unknown_id_spoils_the_batch(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        made = (await issuer.create(entry("/web", NODE, "unix:uid:1"))).entries[0]
        for attempt in (issuer.delete(made.id, "none"), issuer.update(made, changed(made, id="none"))):
            refused = await refusal(attempt)
            assert refused.code() is grpc.StatusCode.NOT_FOUND
            assert (refused.details() or "").startswith("entries[1]: no entry has the id 'none'")
        assert len(await listed(issuer)) == 1


async def test_one_id_twice_in_a_batch_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        made = (await issuer.create(entry("/web", NODE, "unix:uid:1"))).entries[0]
        assert (await refusal(issuer.delete(made.id, made.id))).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_empty_batch_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        assert (await refusal(issuer.create())).details() == "entries: expected 1 to 100000, found 0"


async def test_a_batch_of_100001_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        refused = await refusal(issuer.create(*[entry("/web", NODE, "unix:uid:1")] * 100_001))
        assert refused.details() == "entries: expected at most 100000, found 100001"


async def test_listing_is_paged_and_filtered(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        await issuer.create(*(entry(f"/w{n}", NODE, f"unix:uid:{n}", "unix:gid:1") for n in range(5)))
        request = admin_pb2.ListEntriesRequest(page_size=2)
        seen: list[str] = []
        while True:
            page = await issuer.admin("ListEntries", request, admin_pb2.ListEntriesResponse)
            assert isinstance(page, admin_pb2.ListEntriesResponse)
            seen += [each.id for each in page.entries]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert len(set(seen)) == len(seen) == 5
        assert len(await listed(issuer, spiffe_id="spiffe://example.org/w3")) == 1
        assert len(await listed(issuer, parent_id=NODE)) == 5
        assert len(await listed(issuer, selector=node_pb2.Selector(type="unix", value="uid:4"))) == 1
        refused = await refusal(listed(issuer, page_size=10_001))
        assert refused.details() == "page_size: expected at most 10000, found 10001"


async def test_the_ledger_is_paged_newest_first(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        for _ in range(3):
            await issuer.join()
        request = admin_pb2.ListCredentialsRequest(page_size=2)
        numbers: list[int] = []
        while True:
            page = await issuer.admin("ListCredentials", request, admin_pb2.ListCredentialsResponse)
            assert isinstance(page, admin_pb2.ListCredentialsResponse)
            numbers += [each.number for each in page.credentials]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert numbers == list(range(6, 0, -1))  # two authorities, the issuer, three nodes
        request = admin_pb2.ListCredentialsRequest(page_token="x")  # noqa: S106 - no secret
        refused = await refusal(issuer.admin("ListCredentials", request, admin_pb2.ListCredentialsResponse))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        for attempt in (
            issuer.admin("GetEntry", admin_pb2.GetEntryRequest(id="none"), node_pb2.Entry),
            issuer.node_row("none"),
            issuer.node_row(NODE),
        ):
            assert (await refusal(attempt)).code() is grpc.StatusCode.NOT_FOUND
        refused = await refusal(issuer.node_row("spiffe://example.org/web"))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_actor_on_record_is_the_callers_uid(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        await issuer.create(entry("/web", NODE, "unix:uid:1"))
        await refusal(issuer.delete("none"))
    store = await SQLiteDatastore.open(tmp_path / "state" / "issuer.db")
    rows = await store.read(lambda tx: tx.audit.rows(after=0, limit=100))
    await store.close()
    bodies = [row.body.decode() for row in rows]
    assert any(f'"action":"entry created","actor":"uid:{os.geteuid()}"' in body for body in bodies)
    assert any("no entry has the id" in reason for reason in await audit_reasons(tmp_path))
