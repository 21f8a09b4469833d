"""The issuer over gRPC: TLS with the issuer's own name at the join door, mutual TLS at the node door.

Decided here: how channels are made and given up, how long a call may take, what a status means. Not decided here: when to call again.
gRPC's Python API shows a caller no peer certificate, so the issuer is known by a host name (ISSUER_DNS_NAME) that no other SVID of the
trust domain carries (issuer/decisions/profile), under the CAs of this trust domain alone.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from attestor.decisions.node import REJOIN, Node, NodeCredential
from attestor.decisions.sync import Change
from attestor.issuerclient.diagnosis import is_about_time, tell_clocks
from attestor.issuerclient.port import Evidence, JWTRequest, MintedJWT, MintedX509, X509Request
from attestor.issuerclient.wire import change_from_pb, credential_from_pb, jwt_from_pb, x509_from_pb
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.invite import Invite
from cognomen.daemon.readmission import readmission_bytes
from cognomen.daemon.status import kind_of_status
from cognomen.daemon.waiting import CancelledByAnotherError, telling_cancellations_apart
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import Enforcement
from cognomen.wire.feed import cursor_to_pb
from cognomen.wire.node import time_from_pb
from cognomen.wire.pb import node_pb2 as pb
from cognomen.wire.pb.node_pb2_grpc import JoinStub, NodeStub
from cognomen.wire.receipts import enforcement_to_pb
from svid.bundle import Bundle
from svid.errors import SVIDError
from svid.keys import KeyID, LocalSigningKey

if TYPE_CHECKING:
    from cognomen.wire.pb.node_pb2_grpc import JoinAsyncStub, NodeAsyncStub

__all__ = ["ISSUER_DNS_NAME", "GRPCIssuerClient"]

ISSUER_DNS_NAME = "issuer.cognomen.internal"

_CALL_SECONDS = 15.0  # longer than a connection may take to be made
_MINT_SECONDS = 30.0
_STEP_SECONDS = 30.0  # for the first message, and for the rest of a step
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_OPTIONS = (
    ("grpc.ssl_target_name_override", ISSUER_DNS_NAME),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # bounds TCP, TLS and SETTINGS as well: 3 or 4 round trips
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A ping waits behind what a thin link has not delivered yet; gRPC gives a peer whose kernel still acknowledges a minute.
    ("grpc.http2.ping_timeout_ms", int(_STEP_SECONDS * 1000)),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, with the credentials of today
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)

_UNKNOWN_AUTHORITY = f"the issuer shows an authority that this node does not know, or somebody else answers; {REJOIN}"

Item = TypeVar("Item")
_Feed: TypeAlias = "grpc.aio.UnaryStreamCall[pb.FollowRequest, pb.Change]"


class _Link:
    """A channel to the node door, as one node; once given up, it is closed when its last call has ended."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._calls = 0
        self._feeds: set[_Feed] = set()
        self._is_given_up = False
        self._channel = _channel(node.node_address, node.bundle, key=node.svid.key_pem(), chain=node.svid.chain_pem())
        self._stub: NodeAsyncStub = NodeStub(self._channel)

    @asynccontextmanager
    async def calling(self) -> "AsyncGenerator[NodeAsyncStub, None]":
        """Call over this channel; what goes wrong is a refusal."""
        self._calls += 1
        try:
            async with _asking(self.node.node_address, self.node.bundle):
                yield self._stub
        finally:
            self._calls -= 1
            await self._close_when_idle()

    @asynccontextmanager
    async def following(self, cursor: Cursor | None) -> "AsyncGenerator[_Feed, None]":
        """Open the feed; given up, it ends like one that the issuer has ended."""
        async with self.calling() as stub:
            feed = stub.Follow(pb.FollowRequest(cursor=None if cursor is None else cursor_to_pb(cursor)))
            self._feeds.add(feed)
            try:
                with telling_cancellations_apart():
                    yield feed
            except CancelledByAnotherError:
                if not self._is_given_up:
                    raise
            finally:
                self._feeds.discard(feed)
                feed.cancel()

    async def give_up(self) -> None:
        """End the feed, let the other calls end as they were."""
        self._is_given_up = True
        for feed in self._feeds:
            feed.cancel()
        await self._close_when_idle()

    async def close(self) -> None:
        """End every call."""
        self._is_given_up = True
        await self._channel.close()

    async def _close_when_idle(self) -> None:
        if self._is_given_up and not self._calls:
            await self._channel.close()


class GRPCIssuerClient:
    """Speaks to one issuer, at both of its doors; `join`, `readmit` and `use` say to which."""

    def __init__(self) -> None:
        self._current: _Link | None = None

    async def join(self, invite: Invite, evidence: Evidence, public_key: bytes) -> NodeCredential:
        """Prove this node at the join door."""
        channel = _channel(invite.join_address, invite.bundle)
        try:
            async with _asking(invite.join_address, invite.bundle):
                async with asyncio.timeout(_CALL_SECONDS):
                    attested = await _attest(JoinStub(channel), evidence, public_key)
                return credential_from_pb(attested, invite.trust_domain)
        finally:
            await channel.close()

    async def readmit(self, node: Node, public_key: bytes) -> NodeCredential:
        """Come back as this node at the join door."""
        channel = _channel(node.join_address, node.bundle)
        trust_domain = node.bundle.trust_domain
        try:
            async with _asking(node.join_address, node.bundle):
                stub: JoinAsyncStub = JoinStub(channel)
                begun = await stub.BeginReadmission(pb.BeginReadmissionRequest(), timeout=_CALL_SECONDS)
                key = LocalSigningKey(KeyID("node"), node.svid.private_key)
                request = pb.ReadmitRequest(
                    certificate=node.svid.leaf.public_bytes(Encoding.DER),
                    nonce=begun.nonce,
                    public_key=public_key,
                    signature=key.sign(readmission_bytes(trust_domain, begun.nonce, public_key)),
                )
                return credential_from_pb(await stub.Readmit(request, timeout=_CALL_SECONDS), trust_domain)
        finally:
            await channel.close()

    async def use(self, node: Node) -> None:
        """Speak as this node from now on; over the same channel where TLS would be the same."""
        before = self._current
        if before is not None and _tls_facts(before.node) == _tls_facts(node):
            return
        self._current = _Link(node)
        if before is not None:
            await before.give_up()

    async def close(self) -> None:
        """End the connection and every call on it."""
        before, self._current = self._current, None
        if before is not None:
            await before.close()

    async def renew(self, public_key: bytes) -> NodeCredential:
        """Get the next node SVID, for a new key."""
        link = self._link()
        async with link.calling() as stub:
            answer = await stub.RenewNode(pb.RenewNodeRequest(public_key=public_key), timeout=_CALL_SECONDS)
            return credential_from_pb(answer, link.node.bundle.trust_domain)

    async def follow(self, cursor: Cursor | None) -> AsyncGenerator[Change, None]:
        """Follow the feed from there."""
        link = self._link()
        async with link.following(cursor) as feed:
            async for messages in _steps(feed):
                yield change_from_pb(messages, link.node.bundle.trust_domain)

    async def acknowledge(self, cursor: Cursor, enforcement: Enforcement) -> datetime | None:
        """Say what has been applied and how far the enforcement points are, and hear what the issuer's clock says."""
        async with self._link().calling() as stub:
            request = pb.AcknowledgeRequest(cursor=cursor_to_pb(cursor), enforcement=enforcement_to_pb(enforcement))
            answer = await stub.Acknowledge(request, timeout=_CALL_SECONDS)
            return time_from_pb(answer.now, "now") if answer.HasField("now") else None

    async def mint_x509(self, requests: Sequence[X509Request]) -> Sequence[MintedX509 | Refused]:
        """Mint a batch, answers in order."""
        items = [pb.MintX509SVID(entry_id=request.entry_id, public_key=request.public_key) for request in requests]
        async with self._link().calling() as stub:
            answer = await stub.MintX509SVIDs(pb.MintX509SVIDsRequest(items=items), timeout=_MINT_SECONDS)
        return [x509_from_pb(item) for item in _as_many(answer.items, len(items))]

    async def mint_jwt(self, requests: Sequence[JWTRequest]) -> Sequence[MintedJWT | Refused]:
        """Mint a batch, answers in order."""
        items = [pb.MintJWTSVID(entry_id=request.entry_id, audiences=request.audiences) for request in requests]
        async with self._link().calling() as stub:
            answer = await stub.MintJWTSVIDs(pb.MintJWTSVIDsRequest(items=items), timeout=_MINT_SECONDS)
        return [jwt_from_pb(item) for item in _as_many(answer.items, len(items))]

    def _link(self) -> _Link:
        if self._current is None:
            raise Refused(Kind.UNAVAILABLE, "issuer: no node to speak as yet")
        return self._current


def _tls_facts(node: Node) -> tuple[object, ...]:
    return node.node_address, node.svid.chain, node.bundle.x509_authorities


def _channel(address: str, bundle: Bundle, *, key: bytes | None = None, chain: bytes | None = None) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(bundle.to_pem(), private_key=key, certificate_chain=chain)
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


async def _attest(stub: "JoinAsyncStub", evidence: Evidence, public_key: bytes) -> pb.NodeCredential:
    call = stub.AttestNode()
    shown = pb.Evidence(attestor=evidence.attestor, evidence=evidence.evidence, public_key=public_key)
    request = pb.AttestNodeRequest(evidence=shown)
    while True:
        with suppress(asyncio.InvalidStateError):  # ended already: the read says why
            await call.write(request)
        response = await call.read()
        if not isinstance(response, pb.AttestNodeResponse):
            raise Refused(Kind.UNAVAILABLE, "issuer: expected an answer to the evidence, found the end of the stream")
        if response.WhichOneof("step") == "attested":
            return response.attested
        request = pb.AttestNodeRequest(answer=await evidence.answer(response.challenge))


async def _steps(call: "_Feed") -> AsyncGenerator[list[pb.Change], None]:
    """Gather the messages of each whole step; between steps keepalive watches over the connection."""
    messages: list[pb.Change] = []
    deadline: float | None = _STEP_SECONDS
    while True:
        async with asyncio.timeout(deadline):
            message = await call.read()
        if not isinstance(message, pb.Change):
            return
        messages.append(message)
        deadline = _STEP_SECONDS if message.more else None
        if not message.more:
            yield messages
            messages = []


@asynccontextmanager
async def _asking(address: str, bundle: Bundle) -> AsyncGenerator[None, None]:
    """Say as a refusal what goes wrong on the way to this door, or with the answer."""
    try:
        with telling_cancellations_apart():
            yield
    except CancelledByAnotherError as e:
        raise Refused(Kind.UNAVAILABLE, "issuer: expected an answer, found the connection closed") from e
    except TimeoutError as e:
        raise Refused(Kind.UNAVAILABLE, "issuer: expected an answer in time, found none") from e
    except grpc.aio.AioRpcError as e:
        detail = e.details() or e.code().name
        clocks = await tell_clocks(address, bundle, ISSUER_DNS_NAME) if is_about_time(detail) else None
        hint = _UNKNOWN_AUTHORITY if "unable to get local issuer certificate" in detail else ""
        raise clocks or Refused(kind_of_status(e.code().name), f"issuer: {detail}", hint=hint) from e
    except SVIDError as e:
        raise Refused(Kind.INTERNAL, f"answer of the issuer: {e}") from e


def _as_many(items: Sequence[Item], expected: int) -> Sequence[Item]:
    if len(items) != expected:
        raise Refused(Kind.INTERNAL, f"answer of the issuer: expected {expected} items, found {len(items)}")
    return items
