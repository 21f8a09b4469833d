"""The join door: strangers with evidence, nodes that return, and our bundle for anybody.

Here only words are changed; flows/attest_node and flows/readmit_node decide.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import grpc

from cognomen.daemon.errors import Kind, Refused
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import node_pb2 as pb
from issuer.api.interceptors import check_readable
from issuer.datastore.port import Datastore
from issuer.flows.attest_node import AttestNode, Evidence
from issuer.flows.issue_node_svid import NodeCredential
from issuer.flows.readmit_node import ReadmitNode, Shown
from issuer.queries import get_bundle
from svid.spiffeid import TrustDomain

__all__ = ["JoinService", "credential_to_pb"]

_MAX_JOINS = 32
_MAX_EVIDENCE_BYTES = 16 * 1024
_JOIN_SECONDS = 10.0

_Context: TypeAlias = "grpc.aio.ServicerContext[pb.AttestNodeRequest, pb.AttestNodeResponse]"


class JoinService:
    """Serves cognomen.node.v1.Join.

    Args:
        at_a_time: how many may be joining at once, from their evidence on: who says nothing keeps nobody out.
        seconds: how long one may take, its silence and its challenges included.
    """

    def __init__(
        self,
        attest: AttestNode,
        readmit: ReadmitNode,
        datastore: Datastore,
        trust_domain: TrustDomain,
        *,
        at_a_time: int = _MAX_JOINS,
        seconds: float = _JOIN_SECONDS,
    ) -> None:
        self._attest = attest
        self._readmit = readmit
        self._datastore = datastore
        self._trust_domain = trust_domain
        self._at_a_time = at_a_time
        self._seconds = seconds
        self._joining = 0

    async def AttestNode(self, requests: object, context: _Context) -> None:  # noqa: N802 - the protocol's name
        """Evidence, challenges and answers, and the node's credential."""
        del requests
        try:
            async with asyncio.timeout(self._seconds) as deadline:
                shown = _evidence(await _read(context))
                with self._one_more():
                    await self._join(shown, context)
        except TimeoutError as e:
            if not deadline.expired():
                raise
            raise Refused(Kind.EXHAUSTED, f"join: expected it to take at most {self._seconds:g} s") from e

    async def GetBundle(self, request: pb.GetBundleRequest, context: object) -> pb.GetBundleResponse:  # noqa: N802 - as above
        """Our bundle."""
        del request, context
        bundle = await get_bundle(self._datastore, self._trust_domain)
        return pb.GetBundleResponse(bundle=bundle.to_jwks())

    async def BeginReadmission(  # noqa: N802 - as above
        self, request: pb.BeginReadmissionRequest, context: object
    ) -> pb.BeginReadmissionResponse:
        """A nonce for a node that returns."""
        del request, context
        return pb.BeginReadmissionResponse(nonce=self._readmit.begin())

    async def Readmit(self, request: pb.ReadmitRequest, context: object) -> pb.NodeCredential:  # noqa: N802 - as above
        """The next SVID of a node that returns."""
        del context
        shown = Shown(
            certificate=request.certificate,
            nonce=request.nonce,
            public_key=request.public_key,
            signature=request.signature,
        )
        with self._one_more():
            return credential_to_pb(await self._readmit(shown))

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        if self._joining >= self._at_a_time:
            raise Refused(Kind.EXHAUSTED, f"joins: expected at most {self._at_a_time} at a time, found one more")
        self._joining += 1
        try:
            yield
        finally:
            self._joining -= 1

    async def _join(self, shown: Evidence, context: _Context) -> None:
        async def challenge(question: bytes) -> bytes:
            await context.write(pb.AttestNodeResponse(challenge=question))
            answer = await _read(context)
            if answer.WhichOneof("step") != "answer":
                raise Refused(Kind.INVALID, "step: expected an answer, found another")
            return answer.answer

        credential = await self._attest(shown, challenge)
        await context.write(pb.AttestNodeResponse(attested=credential_to_pb(credential)))


def _evidence(first: pb.AttestNodeRequest) -> Evidence:
    if first.WhichOneof("step") != "evidence":
        raise Refused(Kind.INVALID, "step: expected evidence first, found another")
    shown = first.evidence
    if len(shown.evidence) > _MAX_EVIDENCE_BYTES:
        raise Refused(
            Kind.INVALID, f"evidence: expected at most {_MAX_EVIDENCE_BYTES} bytes, found {len(shown.evidence)}"
        )
    return Evidence(attestor=shown.attestor, evidence=shown.evidence, public_key=shown.public_key)


async def _read(context: _Context) -> pb.AttestNodeRequest:
    message = await context.read()
    check_readable(message)
    if not isinstance(message, pb.AttestNodeRequest):
        raise Refused(Kind.INVALID, "step: expected one more message, found the end")
    return message


def credential_to_pb(credential: NodeCredential) -> pb.NodeCredential:
    """Write a node's credential."""
    return pb.NodeCredential(
        chain=credential.chain, issued_at=time_to_pb(credential.issued_at), bundle=credential.bundle.to_jwks()
    )
