"""Call the issuer over gRPC: TLS under the issuer's own name at the join door, mutual TLS at the node door.

Decided here: how channels are made and given up, how long a call may take, what a status means. Not decided here: when to call again.
gRPC's Python API does not show callers the peer's certificate. So the issuer is recognised by a host name (ISSUER_DNS_NAME) that no other
SVID of the trust domain carries (issuer/decisions/profile), and only the CAs of this trust domain are trusted.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from attestor.decisions.node import REJOIN, Node, NodeCredential
from attestor.decisions.sync import Change
from attestor.issuerclient.diagnosis import is_about_time, is_cut_off, is_not_trusted, tell_clocks, tell_own_clocks
from attestor.issuerclient.port import Evidence, JWTRequest, MintedJWT, MintedX509, X509Request
from attestor.issuerclient.wire import change_from_pb, credential_from_pb, jwt_from_pb, x509_from_pb
from cognomen.process.exceptions import CancelledByAnotherError, telling_cancellations_apart
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.invite import Invite
from cognomen.protocol.possession import Purpose, possession_bytes
from cognomen.protocol.questions import Answer
from cognomen.protocol.readmission import readmission_bytes
from cognomen.protocol.receipts import Enforcement
from cognomen.protocol.status import REASON, kind_of_status, reason_of_text
from cognomen.protocol.uses import EntryUse, ReportedUses
from cognomen.wire.feed import cursor_to_pb
from cognomen.wire.node import time_from_pb
from cognomen.wire.pb import node_pb2 as pb
from cognomen.wire.pb.node_pb2_grpc import JoinStub, NodeStub
from cognomen.wire.questions import answer_to_pb
from cognomen.wire.receipts import enforcement_to_pb
from cognomen.wire.uses import reported_to_pb, use_to_pb
from svid.bundle import Bundle
from svid.errors import SVIDError
from svid.keys import KeyID, LocalSigningKey, PrivateKey, public_key_to_der
from svid.spiffeid import TrustDomain
from svid.x509svid import X509SVID

if TYPE_CHECKING:
    from cognomen.wire.pb.node_pb2_grpc import JoinAsyncStub, NodeAsyncStub

__all__ = ["ISSUER_DNS_NAME", "GRPCIssuerClient"]

ISSUER_DNS_NAME = "issuer.cognomen.internal"

_CALL_SECONDS = 15.0  # longer than it may take to connect
_MINT_SECONDS = 30.0
_STEP_SECONDS = 30.0  # for each message of the feed: an issuer without news sends one every 5 s
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
    # A ping waits behind what a slow link has not delivered yet; gRPC gives a peer whose kernel still acknowledges a minute.
    ("grpc.http2.ping_timeout_ms", int(_STEP_SECONDS * 1000)),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel means a new connection, with the current credentials
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)

_UNKNOWN_AUTHORITY = "issuer: this node does not know its authority, or another server answers"

_NODE = KeyID("node")

Item = TypeVar("Item")
_Feed: TypeAlias = "grpc.aio.UnaryStreamCall[pb.FollowRequest, pb.Change]"


class _Link:
    """A channel to the node door for one node; after it is given up, it closes when its last call has ended."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._calls = 0
        self._feeds: set[_Feed] = set()
        self._is_given_up = False
        self._channel = _channel(node.node_address, node.bundle, key=node.svid.key_pem(), chain=node.svid.chain_pem())
        self._stub: NodeAsyncStub = NodeStub(self._channel)

    @asynccontextmanager
    async def calling(self) -> "AsyncGenerator[NodeAsyncStub, None]":
        """Call over this channel; failures are raised as refusals."""
        self._calls += 1
        try:
            async with _asking(self.node.node_address, self.node.bundle, self.node.svid):
                yield self._stub
        finally:
            self._calls -= 1
            await self._close_when_idle()

    @asynccontextmanager
    async def following(self, cursor: Cursor | None) -> "AsyncGenerator[_Feed, None]":
        """Open the feed; when the channel is given up, the feed ends as if the issuer had ended it."""
        async with self.calling() as stub:
            where = None if cursor is None else cursor_to_pb(cursor)
            feed = stub.Follow(pb.FollowRequest(cursor=where, answers=True))
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
        """End the feed, and let the other calls finish."""
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
    """Calls one issuer, at both of its doors; `join`, `readmit` and `use` say which issuer.

    Args:
        step_seconds: how long the feed may be silent.
    """

    def __init__(self, *, step_seconds: float = _STEP_SECONDS) -> None:
        self._current: _Link | None = None
        self._step_seconds = step_seconds

    async def join(self, invite: Invite, evidence: Evidence, key: PrivateKey) -> NodeCredential:
        """Prove this node's identity at the join door."""
        channel = _channel(invite.join_address, invite.bundle)
        shown = pb.Evidence(
            attestor=evidence.attestor,
            evidence=evidence.evidence,
            public_key=public_key_to_der(key.public_key()),
            key_signature=_possession(key, Purpose.JOIN, invite.trust_domain, evidence.evidence),
            node_name=evidence.node_name,
        )
        try:
            async with _asking(invite.join_address, invite.bundle):
                async with asyncio.timeout(_CALL_SECONDS):
                    attested = await _attest(JoinStub(channel), shown, evidence.answer)
                return credential_from_pb(attested, invite.trust_domain)
        finally:
            await channel.close()

    async def readmit(self, node: Node, key: PrivateKey) -> NodeCredential:
        """Come back as this node at the join door."""
        channel = _channel(node.join_address, node.bundle)
        trust_domain = node.bundle.trust_domain
        try:
            async with _asking(node.join_address, node.bundle):
                stub: JoinAsyncStub = JoinStub(channel)
                begun = await stub.BeginReadmission(pb.BeginReadmissionRequest(), timeout=_CALL_SECONDS)
                public_key = public_key_to_der(key.public_key())
                signed = readmission_bytes(trust_domain, begun.nonce, public_key)
                request = pb.ReadmitRequest(
                    certificate=node.svid.leaf.public_bytes(Encoding.DER),
                    nonce=begun.nonce,
                    public_key=public_key,
                    signature=LocalSigningKey(_NODE, node.svid.private_key).sign(signed),
                    key_signature=_possession(key, Purpose.READMISSION, trust_domain, begun.nonce),
                )
                return credential_from_pb(await stub.Readmit(request, timeout=_CALL_SECONDS), trust_domain)
        finally:
            await channel.close()

    async def use(self, node: Node) -> None:
        """Act as this node from now on, over the same channel if TLS would be the same."""
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

    async def renew(self, key: PrivateKey) -> NodeCredential:
        """Get the next node SVID, for a new key."""
        link = self._link()
        trust_domain, serial = link.node.bundle.trust_domain, f"{link.node.svid.leaf.serial_number:x}"
        request = pb.RenewNodeRequest(
            public_key=public_key_to_der(key.public_key()),
            key_signature=_possession(key, Purpose.RENEWAL, trust_domain, serial.encode()),
        )
        async with link.calling() as stub:
            return credential_from_pb(await stub.RenewNode(request, timeout=_CALL_SECONDS), trust_domain)

    async def follow(self, cursor: Cursor | None) -> AsyncGenerator[Change, None]:
        """Follow the feed from that cursor; after a silence, the next call uses a new connection."""
        link = self._link()
        async with link.following(cursor) as feed:
            try:
                async for messages in _steps(feed, self._step_seconds):
                    yield change_from_pb(messages, link.node.bundle.trust_domain)
            except TimeoutError:
                await self._replace(link)
                raise

    async def acknowledge(
        self, cursor: Cursor, enforcement: Enforcement, reported: ReportedUses | None = None
    ) -> datetime | None:
        """Report what has been applied, how far the enforcement points have come, and of which time every use was reported."""
        async with self._link().calling() as stub:
            request = pb.AcknowledgeRequest(
                cursor=cursor_to_pb(cursor),
                enforcement=enforcement_to_pb(enforcement),
                uses=None if reported is None else reported_to_pb(reported),
            )
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

    async def report_uses(self, uses: Sequence[EntryUse], *, last: ReportedUses | None = None) -> bool:
        """Report which processes were given SVIDs; False if the issuer is an older version."""
        request = pb.ReportUsesRequest(
            uses=(use_to_pb(one) for one in uses if not one.is_observed),
            observed=(use_to_pb(one) for one in uses if one.is_observed),
            last=None if last is None else reported_to_pb(last),
        )
        async with self._link().calling() as stub:
            try:
                await stub.ReportUses(request, timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError as e:
                if e.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return False
                raise
        return True

    async def answer(self, question_id: str, answer: Answer) -> bool:
        """Answer a question that came on the feed; False if nobody waits for it any more."""
        async with self._link().calling() as stub:
            taken = await stub.Answer(answer_to_pb(question_id, answer), timeout=_CALL_SECONDS)
        return taken.taken

    async def _replace(self, silent: _Link) -> None:
        """Use a new connection: this one may be dead although the peer's kernel, or something in between, acknowledges it."""
        if self._current is silent:
            self._current = _Link(silent.node)
            await silent.give_up()

    def _link(self) -> _Link:
        if self._current is None:
            raise Refused(Kind.UNAVAILABLE, "issuer: this node has not joined yet")
        return self._current


def _tls_facts(node: Node) -> tuple[object, ...]:
    return node.node_address, node.svid.chain, node.bundle.x509_authorities


def _channel(address: str, bundle: Bundle, *, key: bytes | None = None, chain: bytes | None = None) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(bundle.to_pem(), private_key=key, certificate_chain=chain)
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


def _possession(key: PrivateKey, purpose: Purpose, trust_domain: TrustDomain, bound_to: bytes) -> bytes:
    """Sign to show that we have the key that we want certified."""
    public_key = public_key_to_der(key.public_key())
    return LocalSigningKey(_NODE, key).sign(possession_bytes(purpose, trust_domain, bound_to, public_key))


async def _attest(
    stub: "JoinAsyncStub", shown: pb.Evidence, answer: Callable[[bytes], Awaitable[bytes]]
) -> pb.NodeCredential:
    call = stub.AttestNode()
    request = pb.AttestNodeRequest(evidence=shown)
    while True:
        with suppress(asyncio.InvalidStateError):  # already ended: the read says why
            await call.write(request)
        response = await call.read()
        if not isinstance(response, pb.AttestNodeResponse):
            raise Refused(Kind.UNAVAILABLE, "issuer: it ended the stream without answering the evidence")
        if response.WhichOneof("step") == "attested":
            return response.attested
        request = pb.AttestNodeRequest(answer=await answer(response.challenge))


async def _steps(call: "_Feed", seconds: float) -> AsyncGenerator[list[pb.Change], None]:
    """Gather the messages of each whole step.

    Args:
        seconds: how long each message may take.
    """
    messages: list[pb.Change] = []
    while True:
        async with asyncio.timeout(seconds):
            message = await call.read()
        if not isinstance(message, pb.Change):
            return
        messages.append(message)
        if not message.more:
            yield messages
            messages = []


@asynccontextmanager
async def _asking(address: str, bundle: Bundle, svid: X509SVID | None = None) -> AsyncGenerator[None, None]:
    """Raise what goes wrong on the way to this door, or with its answer, as a refusal.

    Args:
        svid: the SVID that this node presents there.
    """
    try:
        with telling_cancellations_apart():
            yield
    except CancelledByAnotherError as e:
        raise Refused(Kind.UNAVAILABLE, "issuer: the connection was closed without an answer") from e
    except TimeoutError as e:
        raise Refused(Kind.UNAVAILABLE, "issuer: no answer in time") from e
    except grpc.aio.AioRpcError as e:
        detail = e.details() or e.code().name
        clocks = None
        if is_about_time(detail):
            clocks = await tell_clocks(address, bundle, ISSUER_DNS_NAME)
        elif svid is not None and is_cut_off(detail):
            clocks = await tell_own_clocks(address, bundle, ISSUER_DNS_NAME, svid)
        if is_not_trusted(detail):
            raise Refused(Kind.UNAVAILABLE, _UNKNOWN_AUTHORITY, hint=REJOIN) from e
        reason = reason_of_text(e.trailing_metadata().get(REASON))
        raise clocks or Refused(kind_of_status(e.code().name), f"issuer: {detail}").because(reason) from e
    except SVIDError as e:
        raise Refused(Kind.INTERNAL, f"answer of the issuer: {e}") from e


def _as_many(items: Sequence[Item], expected: int) -> Sequence[Item]:
    if len(items) != expected:
        raise Refused(Kind.INTERNAL, f"answer of the issuer: expected {expected} items, found {len(items)}")
    return items
