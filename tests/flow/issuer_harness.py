"""A real issuer in this process, on free ports and its real admin socket, and a small client for both doors, for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.message import Message

from cognomen.protocol.invite import Invite
from cognomen.protocol.possession import Purpose
from cognomen.wire.pb import admin_pb2, node_pb2
from cognomen.wire.pb.node_pb2_grpc import NodeStub
from issuer.config import IssuerConfig
from issuer.decisions.profile import ISSUER_DNS_NAME
from issuer.main import Bound, run
from svid.bundle import Bundle
from svid.keys import KeyKind, PrivateKey, generate_private_key, public_key_to_der
from svid.spiffeid import TrustDomain
from tests.doubles.possession import possession

if TYPE_CHECKING:
    from cognomen.wire.pb.node_pb2_grpc import NodeAsyncStub

TRUST_DOMAIN = TrustDomain("example.org")
_OPTIONS = (
    ("grpc.ssl_target_name_override", ISSUER_DNS_NAME),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
)


def new_key() -> PrivateKey:
    return generate_private_key(KeyKind.EC_P256)


def public_der(key: PrivateKey) -> bytes:
    return public_key_to_der(key.public_key())


async def call(channel: grpc.aio.Channel, path: str, request: Message, reply: Callable[[bytes], Message]) -> Message:
    method = channel.unary_unary(path, request_serializer=type(request).SerializeToString, response_deserializer=reply)
    return await method(request, timeout=20)


@dataclass
class Issuer:
    """A running issuer."""

    config: IssuerConfig
    bound: Bound
    admin_channel: grpc.aio.Channel

    async def admin(self, method: str, request: Message, reply: type[Message]) -> Message:
        return await call(self.admin_channel, f"/cognomen.admin.v1.Admin/{method}", request, reply.FromString)

    async def settle(self) -> None:
        """Wait for the first checkpoint, which on a busy machine would come amidst what a test hears on a feed."""
        async with asyncio.timeout(20):
            while not await self._has_checkpoint():
                pass

    async def _has_checkpoint(self) -> bool:
        request = admin_pb2.ListCheckpointsRequest(page_size=1)
        found = await self.admin("ListCheckpoints", request, admin_pb2.ListCheckpointsResponse)
        assert isinstance(found, admin_pb2.ListCheckpointsResponse)
        return bool(found.checkpoints)

    async def invite(self, labels: Mapping[str, str] | None = None, *, ttl: timedelta | None = None) -> Invite:
        request = admin_pb2.CreateInviteRequest(labels=labels or {})
        if ttl is not None:
            request.ttl.FromTimedelta(ttl)
        made = await self.admin("CreateInvite", request, admin_pb2.CreateInviteResponse)
        assert isinstance(made, admin_pb2.CreateInviteResponse)
        return Invite.parse(made.invite)

    async def create(self, *entries: node_pb2.Entry) -> admin_pb2.EntriesResponse:
        made = await self.admin("CreateEntries", admin_pb2.EntriesRequest(entries=entries), admin_pb2.EntriesResponse)
        assert isinstance(made, admin_pb2.EntriesResponse)
        return made

    async def update(self, *entries: node_pb2.Entry) -> admin_pb2.EntriesResponse:
        made = await self.admin("UpdateEntries", admin_pb2.EntriesRequest(entries=entries), admin_pb2.EntriesResponse)
        assert isinstance(made, admin_pb2.EntriesResponse)
        return made

    async def delete(self, *ids: str) -> admin_pb2.EntriesResponse:
        made = await self.admin("DeleteEntries", admin_pb2.DeleteEntriesRequest(ids=ids), admin_pb2.EntriesResponse)
        assert isinstance(made, admin_pb2.EntriesResponse)
        return made

    async def ledger(self) -> Sequence[admin_pb2.Credential]:
        request = admin_pb2.ListCredentialsRequest(page_size=1000)
        found = await self.admin("ListCredentials", request, admin_pb2.ListCredentialsResponse)
        assert isinstance(found, admin_pb2.ListCredentialsResponse)
        return found.credentials

    async def node_row(self, node_id: str) -> admin_pb2.Node:
        found = await self.admin("GetNode", admin_pb2.GetNodeRequest(id=node_id), admin_pb2.Node)
        assert isinstance(found, admin_pb2.Node)
        return found

    async def join(self, labels: Mapping[str, str] | None = None) -> "Node":
        """Invite a node and join as it."""
        return await join(await self.invite(labels))


@dataclass
class Node:
    """An attested node: its credential, and calls to the node door with it."""

    address: str
    key: PrivateKey
    credential: node_pb2.NodeCredential
    _channels: list[grpc.aio.Channel] = field(default_factory=list)

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.credential.chain[0])

    @property
    def spiffe_id(self) -> str:
        names = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)[0]

    @property
    def id(self) -> str:
        return self.spiffe_id.rpartition("/")[2]

    @property
    def serial(self) -> str:
        return f"{self.leaf.serial_number:x}"

    def channel(self) -> grpc.aio.Channel:
        if not self._channels:
            self._channels.append(secure_channel(self.address, roots_of(self.credential.bundle), self.key, self.leaf))
        return self._channels[0]

    async def close(self) -> None:
        while self._channels:
            await self._channels.pop().close()

    async def mint(self, *items: tuple[str, bytes]) -> Sequence[node_pb2.MintedX509SVID]:
        request = node_pb2.MintX509SVIDsRequest(
            items=[node_pb2.MintX509SVID(entry_id=entry_id, public_key=key) for entry_id, key in items]
        )
        reply = await self._call("MintX509SVIDs", request, node_pb2.MintX509SVIDsResponse)
        assert isinstance(reply, node_pb2.MintX509SVIDsResponse)
        return reply.items

    async def mint_jwt(self, *items: tuple[str, Sequence[str]]) -> Sequence[node_pb2.MintedJWTSVID]:
        request = node_pb2.MintJWTSVIDsRequest(
            items=[node_pb2.MintJWTSVID(entry_id=entry_id, audiences=audiences) for entry_id, audiences in items]
        )
        reply = await self._call("MintJWTSVIDs", request, node_pb2.MintJWTSVIDsResponse)
        assert isinstance(reply, node_pb2.MintJWTSVIDsResponse)
        return reply.items

    async def renew(self, key: PrivateKey | None = None) -> "Node":
        """This node with its next SVID."""
        key = key or new_key()
        reply = await self._call(
            "RenewNode",
            node_pb2.RenewNodeRequest(
                public_key=public_der(key), key_signature=possession(key, Purpose.RENEWAL, self.serial.encode())
            ),
            node_pb2.NodeCredential,
        )
        assert isinstance(reply, node_pb2.NodeCredential)
        return Node(self.address, key, reply)

    async def acknowledge(self, cursor: node_pb2.Cursor, enforcement: node_pb2.Enforcement | None = None) -> None:
        request = node_pb2.AcknowledgeRequest(cursor=cursor, enforcement=enforcement)
        await self._call("Acknowledge", request, node_pb2.AcknowledgeResponse)

    def follow(
        self, cursor: node_pb2.Cursor | None = None
    ) -> "grpc.aio.UnaryStreamCall[node_pb2.FollowRequest, node_pb2.Change]":
        stub: NodeAsyncStub = NodeStub(self.channel())
        return stub.Follow(node_pb2.FollowRequest(cursor=cursor))

    async def _call(self, name: str, request: Message, reply: type[Message]) -> Message:
        return await call(self.channel(), f"/cognomen.node.v1.Node/{name}", request, reply.FromString)


def roots_of(jwks: bytes) -> bytes:
    return Bundle.from_jwks(TRUST_DOMAIN, jwks).to_pem()


def secure_channel(
    address: str, roots: bytes, key: PrivateKey | None = None, leaf: x509.Certificate | None = None
) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(
        roots,
        private_key=None if key is None else key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate_chain=None if leaf is None else leaf.public_bytes(Encoding.PEM),
    )
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


async def attest(
    invite: Invite,
    key: PrivateKey,
    *,
    evidence: bytes | None = None,
    public_key: bytes | None = None,
    key_signature: bytes | None = None,
    node_name: str = "",
) -> node_pb2.NodeCredential:
    """Show evidence at the join door."""
    evidence = invite.token.encode() if evidence is None else evidence
    shown = node_pb2.Evidence(
        attestor="join_token",
        evidence=evidence,
        public_key=public_key or public_der(key),
        key_signature=possession(key, Purpose.JOIN, evidence) if key_signature is None else key_signature,
        node_name=node_name,
    )
    async with secure_channel(invite.join_address, invite.bundle.to_pem()) as channel:
        stream = channel.stream_stream(
            "/cognomen.node.v1.Join/AttestNode",
            request_serializer=node_pb2.AttestNodeRequest.SerializeToString,
            response_deserializer=node_pb2.AttestNodeResponse.FromString,
        )(timeout=20)
        await stream.write(node_pb2.AttestNodeRequest(evidence=shown))
        reply = await stream.read()
        assert isinstance(reply, node_pb2.AttestNodeResponse)
        await stream.done_writing()
        return reply.attested


async def join(invite: Invite, key: PrivateKey | None = None) -> Node:
    key = key or new_key()
    return Node(invite.node_address, key, await attest(invite, key))


@asynccontextmanager
async def running(directory: Path, **changes: object) -> AsyncIterator[Issuer]:
    """An issuer on free ports with its state in that directory."""
    config = IssuerConfig(
        trust_domain=TRUST_DOMAIN,
        state_dir=directory / "state",
        admin_socket=directory / "admin" / "s",
        node_address="127.0.0.1:0",
        join_address="127.0.0.1:0",
        **{"disk_reserve_mib": 1, **changes},  # type: ignore[arg-type]  # the tests' own keyword arguments
    )
    stop = asyncio.Event()
    opened: asyncio.Future[Bound] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(config, ready=opened.set_result, stop=stop))
        task.add_done_callback(lambda _: opened.done() or opened.cancel())
        try:
            async with grpc.aio.insecure_channel(f"unix:{config.admin_socket}", options=_OPTIONS[2:]) as admin:
                issuer = Issuer(config, await opened, admin)
                await issuer.settle()
                yield issuer
        finally:
            stop.set()


def entry(path: str, parent: str, *selectors: str, **fields: object) -> node_pb2.Entry:
    """An entry of the test's trust domain."""
    message = node_pb2.Entry(
        spiffe_id=f"spiffe://{TRUST_DOMAIN}{path}",
        parent_id=parent,
        selectors=[
            node_pb2.Selector(type=kind, value=value) for kind, _, value in (s.partition(":") for s in selectors)
        ],
    )
    for name, value in fields.items():
        if isinstance(value, timedelta):
            getattr(message, name).FromTimedelta(value)
        else:
            setattr(message, name, value)
    return message
