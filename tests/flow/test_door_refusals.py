"""What a refusal at a network door of the issuer leaves: a line with the address, bounded, and a row; also where no flow was reached."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from cognomen.wire.pb import admin_pb2, node_pb2
from tests.flow.issuer_harness import Issuer, attest, entry, new_key, public_der, running, secure_channel
from tests.flow.test_issuer_join import audit_reasons, refusal
from tests.flow.test_issuer_join_stream import begin


def refused(logs: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    return [line for line in logs if line["event"] == "refused"]


async def speak_out_of_order(issuer: Issuer) -> grpc.StatusCode:
    invite = await issuer.invite()
    async with secure_channel(issuer.bound.join_address, invite.bundle.to_pem()) as channel:
        stream = begin(channel)
        await stream.write(node_pb2.AttestNodeRequest(answer=b"early"))
        return (await refusal(stream.read())).code()


async def test_a_joiner_that_reaches_no_flow_is_on_record_once(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        with capture_logs(processors=[merge_contextvars]) as logs:
            for _ in range(3):
                assert await speak_out_of_order(issuer) is grpc.StatusCode.INVALID_ARGUMENT
        (line,) = refused(logs)
    (row,) = await audit_reasons(tmp_path)
    assert (line["actor"], line["action"]) == ("stranger", "node attestation")
    assert line["reason"] == "request: not accepted, INVALID"
    assert str(line["peer_address"]).startswith("127.0.0.1:")
    assert "127.0.0.1" not in row  # what a stranger brings along is not on record


async def test_a_joiner_whom_a_flow_refuses_is_on_record_once_and_its_line_says_from_where(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        invite = await issuer.invite()
        with capture_logs(processors=[merge_contextvars]) as logs:
            error = await refusal(attest(invite, new_key(), evidence=b"A" * 43))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        (line,) = refused(logs)
    assert len(await audit_reasons(tmp_path)) == 1
    assert str(line["peer_address"]).startswith("127.0.0.1:")


async def test_who_is_no_node_is_told_of_by_name_and_address(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        stored = await issuer.create(entry("/a", node.spiffe_id, "unix:uid:1"))
        key = new_key()
        (minted,) = await node.mint((stored.entries[0].id, public_der(key)))
        workload = type(node)(
            node.address, key, node_pb2.NodeCredential(chain=minted.credential.chain, bundle=node.credential.bundle)
        )
        with capture_logs(processors=[merge_contextvars]) as logs:
            for _ in range(3):
                assert (await refusal(workload.mint())).code() is grpc.StatusCode.PERMISSION_DENIED
        await workload.close()
        await node.close()
    (line,) = refused(logs)
    assert (line["actor"], line["action"]) == ("spiffe://example.org/a", "node call")
    assert str(line["peer_address"]).startswith("127.0.0.1:")


async def admin_refusals(directory: Path) -> list[tuple[str, str, str, str]]:
    """Action, actor, kind and reason of each refusal on record."""
    rows = map(json.loads, await audit_reasons(directory))
    return [(row["action"], row["actor"], row["facts"]["kind"], row["reason"]) for row in rows]


LONG_AGO = Duration(seconds=10**15)
UNREADABLE: dict[str, tuple[str, Message, type[Message], str]] = {
    "a SPIFFE ID": (
        "CreateEntries",
        admin_pb2.EntriesRequest(entries=[node_pb2.Entry(spiffe_id="nonsense")]),
        admin_pb2.EntriesResponse,
        "entry created",
    ),
    "an empty selector": (
        "UpdateEntries",
        admin_pb2.EntriesRequest(entries=[entry("/a", "/b", ":")]),
        admin_pb2.EntriesResponse,
        "entry updated",
    ),
    "a duration": (
        "CreateInvite",
        admin_pb2.CreateInviteRequest(ttl=LONG_AGO),
        admin_pb2.CreateInviteResponse,
        "invite created",
    ),
    "how long ago": (
        "PurgeNodes",
        admin_pb2.PurgeNodesRequest(expired_for=LONG_AGO),
        admin_pb2.PurgeNodesResponse,
        "node purged",
    ),
    "no kind of revocation": ("Revoke", admin_pb2.RevokeRequest(), admin_pb2.RevokeResponse, "revoked"),
    "a reason": (
        "TaintAuthority",
        admin_pb2.AuthorityCommand(key_id="x509-1", reason="anger"),
        admin_pb2.ListAuthoritiesResponse,
        "authority tainted",
    ),
    "no kind of authority": (
        "RotateAuthority",
        admin_pb2.RotateAuthorityRequest(),
        admin_pb2.ListAuthoritiesResponse,
        "authority rotation asked",
    ),
}


async def test_a_command_that_cannot_be_read_is_on_record_as_one_that_a_flow_refuses(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        for method, request, reply, _ in UNREADABLE.values():
            error = await refusal(issuer.admin(method, request, reply))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, method
        error = await refusal(issuer.admin("EvictNode", admin_pb2.GetNodeRequest(id="n9"), admin_pb2.Node))
        assert error.code() is grpc.StatusCode.NOT_FOUND
    found = await admin_refusals(tmp_path)
    assert [row[:3] for row in found] == [
        *((action, f"uid:{os.getuid()}", "INVALID") for *_, action in UNREADABLE.values()),
        ("node evicted", f"uid:{os.getuid()}", "NOT_FOUND"),
    ]
    assert found[0][3].startswith("entries[0]: spiffe_id: ")


async def test_the_log_says_who_gave_a_command_and_what_became_of_it(tmp_path: Path) -> None:
    one = entry("/agent", "spiffe://example.org/nodes", "unix:uid:1")
    me = f"uid:{os.getuid()}"
    async with running(tmp_path) as issuer:
        with capture_logs() as logs:
            request = admin_pb2.EntriesRequest(entries=[one])
            await issuer.admin("CreateEntries", request, admin_pb2.EntriesResponse)
            await refusal(issuer.admin("CreateEntries", request, admin_pb2.EntriesResponse))
            await refusal(issuer.admin("Revoke", admin_pb2.RevokeRequest(), admin_pb2.RevokeResponse))
            await issuer.admin("ListEntries", admin_pb2.ListEntriesRequest(), admin_pb2.ListEntriesResponse)
    done, again, unreadable = [line for line in logs if str(line["event"]).startswith("command ")]
    assert (done["event"], done["command"], done["actor"]) == ("command carried out", "entry created", me)
    assert (done["count"], done["entries"]) == (1, [one.spiffe_id])
    assert (again["event"], again["command"], again["actor"]) == ("command refused", "entry created", me)
    assert (unreadable["event"], unreadable["command"]) == ("command refused", "revoked")
    assert str(unreadable["reason"]).startswith("kind: ")


async def test_reads_and_what_is_only_tried_are_not_on_record_though_they_cannot_be_read(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        for method, request, reply in (
            ("ListEntries", admin_pb2.ListEntriesRequest(spiffe_id="nonsense"), admin_pb2.ListEntriesResponse),
            ("Revoke", admin_pb2.RevokeRequest(dry_run=True), admin_pb2.RevokeResponse),
            (
                "PurgeNodes",
                admin_pb2.PurgeNodesRequest(dry_run=True, expired_for=LONG_AGO),
                admin_pb2.PurgeNodesResponse,
            ),
        ):
            assert (await refusal(issuer.admin(method, request, reply))).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await admin_refusals(tmp_path) == []


async def test_a_nodes_request_that_cannot_be_read_is_on_record_once_a_minute(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        for _ in range(3):
            assert (await refusal(node.mint())).code() is grpc.StatusCode.INVALID_ARGUMENT
        await node.close()
        spiffe_id = node.spiffe_id
    assert await admin_refusals(tmp_path) == [
        ("node call", spiffe_id, "INVALID", "items: expected 1 to 1000, found 0"),
    ]


async def test_what_one_node_asks_for_in_a_thousand_wrong_ways_takes_the_room_of_one_node(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, other = await issuer.join(), await issuer.join()
        for number in range(40):
            behind = node_pb2.PointBehind(uid=1, pid=1, point="x" * (257 + number))
            told = node_pb2.Enforcement(points=1, behind=[behind])
            assert (await refusal(node.acknowledge(node_pb2.Cursor(), told))).code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await refusal(other.mint())).code() is grpc.StatusCode.INVALID_ARGUMENT
        await node.close()
        await other.close()
    found = await admin_refusals(tmp_path)
    assert len(found) <= 18
    assert found[-1][1] == other.spiffe_id
