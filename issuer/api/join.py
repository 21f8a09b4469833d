"""The join door: strangers with evidence, nodes that return, and our bundle for anybody.

This only translates messages; flows/attest_node and flows/readmit_node decide, and joinroom whose turn it is.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias, TypeVar

import grpc

from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import node_pb2 as pb
from issuer.api.interceptors import check_readable
from issuer.api.joinroom import JoinRoom, Visit
from issuer.flows.attest_node import AttestNode, Evidence
from issuer.flows.readmit_node import ReadmitNode, Shown
from issuer.keepers.node_svids import NodeCredential
from issuer.queries import Queries

__all__ = ["JoinService", "credential_to_pb"]

_MAX_EVIDENCE_BYTES = 16 * 1024

_Context: TypeAlias = "grpc.aio.ServicerContext[pb.AttestNodeRequest, pb.AttestNodeResponse]"


RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")


class JoinService:
    """Serves cognomen.node.v1.Join.

    Args:
        address: returns the address of one of gRPC's peers, as crowd counts addresses; None: its connection has ended.
    """

    def __init__(
        self,
        attest: AttestNode,
        readmit: ReadmitNode,
        queries: Queries,
        room: JoinRoom,
        address: Callable[[str], bytes | None],
    ) -> None:
        self._attest = attest
        self._readmit = readmit
        self._queries = queries
        self._room = room
        self._address = address

    async def AttestNode(self, requests: object, context: _Context) -> None:  # noqa: N802 - the protocol's name
        """Exchange evidence, challenges and answers for the node's credential."""
        del requests
        async with self._room.visit(self._address_of(context)) as visit:
            shown = _evidence(await _read(context))
            async with visit.at_work():
                credential = await self._attest(shown, partial(_challenge, context, visit))
            await context.write(pb.AttestNodeResponse(attested=credential_to_pb(credential)))

    async def GetBundle(self, request: pb.GetBundleRequest, context: object) -> pb.GetBundleResponse:  # noqa: N802 - as above
        """Return our bundle."""
        del request, context
        bundle = await self._queries.get_bundle()
        return pb.GetBundleResponse(bundle=bundle.to_jwks())

    async def BeginReadmission(  # noqa: N802 - as above
        self, request: pb.BeginReadmissionRequest, context: object
    ) -> pb.BeginReadmissionResponse:
        """Return a nonce for a node that comes back."""
        del request, context
        return pb.BeginReadmissionResponse(nonce=self._readmit.begin())

    async def Readmit(  # noqa: N802 - as above
        self, request: pb.ReadmitRequest, context: "grpc.aio.ServicerContext[pb.ReadmitRequest, pb.NodeCredential]"
    ) -> pb.NodeCredential:
        """Return the next SVID of a node that comes back."""
        shown = Shown(
            certificate=request.certificate,
            nonce=request.nonce,
            public_key=request.public_key,
            signature=request.signature,
            key_signature=request.key_signature,
        )
        async with self._room.visit(self._address_of(context)) as visit, visit.at_work():
            return credential_to_pb(await self._readmit(shown))

    def _address_of(self, context: "grpc.aio.ServicerContext[RequestT, ReplyT]") -> bytes:
        address = self._address(context.peer())
        if address is None:
            raise Refused(Kind.UNAUTHENTICATED, "TLS: the connection is closed")
        return address


async def _challenge(context: _Context, visit: Visit, question: bytes) -> bytes:
    async with visit.owing():
        await context.write(pb.AttestNodeResponse(challenge=question))
        answer = await _read(context)
    if answer.WhichOneof("step") != "answer":
        raise Refused(Kind.INVALID, "step: expected an answer, found another message")
    return answer.answer


def _evidence(first: pb.AttestNodeRequest) -> Evidence:
    if first.WhichOneof("step") != "evidence":
        raise Refused(Kind.INVALID, "step: expected evidence first, found another message")
    shown = first.evidence
    if len(shown.evidence) > _MAX_EVIDENCE_BYTES:
        raise Refused(
            Kind.INVALID, f"evidence: expected at most {_MAX_EVIDENCE_BYTES} bytes, found {len(shown.evidence)}"
        )
    return Evidence(
        attestor=shown.attestor,
        evidence=shown.evidence,
        public_key=shown.public_key,
        key_signature=shown.key_signature,
        node_name=shown.node_name,
    )


async def _read(context: _Context) -> pb.AttestNodeRequest:
    message = await context.read()
    check_readable(message)
    if not isinstance(message, pb.AttestNodeRequest):
        raise Refused(Kind.INVALID, "step: expected one more message, found the end")
    return message


def credential_to_pb(credential: NodeCredential) -> pb.NodeCredential:
    """Translate a node's credential."""
    return pb.NodeCredential(
        chain=credential.chain, issued_at=time_to_pb(credential.issued_at), bundle=credential.bundle.to_jwks()
    )
