"""Every read of the admin socket, and the pages of probes, are answered while no write is possible."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bench.rig.daemons import free_port
from cognomen.wire.pb import admin_pb2 as pb
from tests.flow.issuer_harness import Issuer, entry, running
from tests.flow.test_issuer_join import refusal

SERVICE = pb.DESCRIPTOR.services_by_name["Admin"]
WRITES = {
    "ActivateAuthority", "ApplyEntries", "AwaitRevocation", "BanNode", "ConfirmClock", "CreateEntries", "CreateInvite", "DeleteEntries",
    "EvictNode", "ForgetExport", "LiftRevocation", "PrepareAuthority", "PurgeNodes", "RecordExport",
    "RevokeAuthority", "Revoke", "RotateAuthority", "TaintAuthority", "UnbanNode",
    "UpdateEntries", "RenameNode", "ApplyRulebook", "SuspendAgent", "ResumeAgent",
    "RetireAgent", "ExportAgentReview",
}  # fmt: skip
"""What changes something; AwaitRevocation and ExportAgentReview put on record what came of them."""


@dataclass
class Held:
    """An issuer that cannot write: another process holds its store."""

    issuer: Issuer
    node_id: str
    entry_id: str
    revocation: int
    digest: str
    health_port: int

    def request(self, method: str) -> Message:
        requests: dict[str, Message] = {
            "GetNode": pb.GetNodeRequest(id=self.node_id),
            "GetEntry": pb.GetEntryRequest(id=self.entry_id),
            "GetRevocation": pb.GetRevocationRequest(number=self.revocation),
            "ListBlocked": pb.ListBlockedRequest(node_id=self.node_id),
            "AskAttestors": pb.AskAttestorsRequest(files={"a.toml": ""}, digest=self.digest),
            "NoteFailedExport": pb.NoteFailedExportRequest(name="openai"),
            "Resolve": pb.ResolveRequest(kind="entry", texts=[self.entry_id, self.entry_id[:4], "/web"]),
        }
        asked: Message = GetMessageClass(SERVICE.methods_by_name[method].input_type)()
        return requests.get(method, asked)

    async def page(self, path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.health_port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n")[0]


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Held]:
    port = free_port()
    async with running(tmp_path, health_address=f"127.0.0.1:{port}") as issuer:
        node = await issuer.join()
        made = await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))
        revoke = pb.RevokeRequest(target=pb.RevocationTarget(kind="entry", entry_ids=[made.entries[0].id]))
        revoked = await issuer.admin("Revoke", revoke, pb.RevokeResponse)
        assert isinstance(revoked, pb.RevokeResponse)
        plan = await issuer.admin("PlanRulebook", pb.PlanRulebookRequest(files={"a.toml": ""}), pb.RulebookPlan)
        assert isinstance(plan, pb.RulebookPlan)
        apply = pb.ApplyRulebookRequest(files={"a.toml": ""}, digest=plan.digest)
        await issuer.admin("ApplyRulebook", apply, pb.ApplyRulebookResponse)
        plan = await issuer.admin("PlanRulebook", pb.PlanRulebookRequest(files={"a.toml": ""}), pb.RulebookPlan)
        assert isinstance(plan, pb.RulebookPlan)
        with closing(sqlite3.connect(tmp_path / "state" / "issuer.db", isolation_level=None)) as other:
            # The mark of the clock is due again: whoever notes it when somebody only looks is found out.
            other.execute("UPDATE meta SET clock_mark = clock_mark - 3600000000")
            other.execute("BEGIN IMMEDIATE")
            yield Held(issuer, node.id, made.entries[0].id, revoked.revocation.number, plan.digest, port)
        await node.close()


async def test_every_read_is_answered(held: Held) -> None:
    reads = {method.name: method for method in SERVICE.methods if method.name not in WRITES}
    assert {method.name for method in SERVICE.methods} > WRITES
    refused = {}
    for name, method in reads.items():
        try:
            await held.issuer.admin(name, held.request(name), GetMessageClass(method.output_type))
        except grpc.aio.AioRpcError as e:
            refused[name] = e.details()
    assert refused == {}
    assert await held.page("/ready") == await held.page("/metrics") == b"HTTP/1.1 200 OK"


async def test_a_write_is_refused_meanwhile_and_says_who_is_in_the_way(held: Held) -> None:
    told = (await refusal(held.issuer.invite())).details() or ""
    assert told.startswith("datastore: locked by another process\nstop the other process")
