"""A real issuer in this process, its doors on free ports, its operator's calls over its admin socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Self, TypeVar

import grpc
import msgspec
from google.protobuf.message import Message

import issuer.main
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.invite import Invite
from cognomen.wire.node import entry_from_pb, entry_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.config import IssuerConfig
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.revocation import Reason, RevocationKind, Target
from issuer.flows.revoke import Revoke
from issuer.keepers.enforcement_watch import EnforcementWatch
from svid.clock import SystemClock
from svid.spiffeid import TrustDomain
from tests.doubles.issuersurroundings import around

TD = TrustDomain("example.org")
START_SECONDS = 20

Reply = TypeVar("Reply")


async def revoke_in(state_dir: Path, *serials: str) -> None:
    """End credentials on the store of an issuer that does not run: it hears of them when it starts."""
    store = await SQLiteDatastore.open(state_dir / "issuer.db")
    try:
        clock = SystemClock()
        revoke = Revoke(datastore=store, around=around(clock), watch=EnforcementWatch(around=around(clock)))
        target = Target(kind=RevocationKind.SVID, serials=serials)
        await revoke(target, reason=Reason.KEY_COMPROMISE, comment="", dry_run=False, actor="uid:0")
    finally:
        await store.close()


class LiveIssuer:
    """One issuer and its state directory; it may be stopped and started again on the same ports."""

    def __init__(self, directory: Path, *, node_svid_ttl: timedelta = timedelta(hours=1)) -> None:
        self.config = IssuerConfig(
            trust_domain=TD,
            state_dir=directory / "issuer",
            admin_socket=directory / "admin" / "issuer.sock",
            node_address="127.0.0.1:0",
            join_address="127.0.0.1:0",
            node_svid_ttl=node_svid_ttl,
            disk_reserve_mib=1,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run it for as long as the block does."""
        stop, bound = asyncio.Event(), asyncio.Event()

        def ready(found: issuer.main.Bound) -> None:
            self.config = msgspec.structs.replace(
                self.config, node_address=found.node_address, join_address=found.join_address
            )
            bound.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(issuer.main.run(self.config, ready=ready, stop=stop))
            async with asyncio.timeout(START_SECONDS):
                await bound.wait()
                while not await self._has_checkpoint():  # which would come amidst what a test hears on a feed
                    pass
            try:
                yield self
            finally:
                stop.set()

    async def invite(self, **labels: str) -> Invite:
        """`cognomen node invite`."""
        request = pb.CreateInviteRequest(labels=labels)
        reply = await self._call("CreateInvite", request, pb.CreateInviteResponse.FromString)
        return Invite.parse(reply.invite)

    async def create(self, *entries: RegistrationEntry) -> list[RegistrationEntry]:
        """`cognomen entry create`."""
        return await self._change("CreateEntries", entries)

    async def update(self, *entries: RegistrationEntry) -> list[RegistrationEntry]:
        """`cognomen entry update`."""
        return await self._change("UpdateEntries", entries)

    async def delete(self, *entry_ids: EntryID) -> None:
        """`cognomen entry delete`."""
        await self._call("DeleteEntries", pb.DeleteEntriesRequest(ids=entry_ids), pb.EntriesResponse.FromString)

    async def revoke_while_stopped(self, *serials: str) -> None:
        """End credentials while it does not run."""
        await revoke_in(self.config.state_dir, *serials)

    async def node_serials(self, node_id: str) -> tuple[str, str]:
        """The current and the pending serial of a node."""
        node = await self.node(node_id)
        return node.current_serial, node.pending_serial

    async def node(self, node_id: str) -> pb.Node:
        """A node, by its id or SPIFFE ID."""
        return await self._call("GetNode", pb.GetNodeRequest(id=node_id), pb.Node.FromString)

    async def _has_checkpoint(self) -> bool:
        request = pb.ListCheckpointsRequest(page_size=1)
        return bool((await self._call("ListCheckpoints", request, pb.ListCheckpointsResponse.FromString)).checkpoints)

    async def _change(self, method: str, entries: tuple[RegistrationEntry, ...]) -> list[RegistrationEntry]:
        request = pb.EntriesRequest(entries=[entry_to_pb(entry) for entry in entries])
        reply = await self._call(method, request, pb.EntriesResponse.FromString)
        return [entry_from_pb(entry) for entry in reply.entries]

    async def _call(self, method: str, request: Message, parse: Callable[[bytes], Reply]) -> Reply:
        async with grpc.aio.insecure_channel(f"unix:{self.config.admin_socket}") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[Message, Reply] = channel.unary_unary(
                f"/cognomen.admin.v1.Admin/{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=parse,
            )
            return await call(request, timeout=START_SECONDS)
