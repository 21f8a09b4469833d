"""What happens before every method of the network doors: what TLS proved, admission on the node door, and refusals as statuses.

issuer/flows/admit_call decides who is admitted; status decides what an exception means.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeAlias, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError
from structlog.contextvars import bound_contextvars

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.api.passage import Proof
from issuer.api.peers import host_of, shown
from issuer.api.status import answering
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node, Peer, check_tls
from issuer.decisions.sampling import Principal
from issuer.keepers.refusal_record import RefusalRecord
from svid.errors import SVIDError
from svid.integrations.grpc_calls import Behaviour
from svid.integrations.grpc_server import Parse, guarded_method

__all__ = ["AdmitNodes", "Admitted", "AnswerRefusals", "admitted", "check_readable"]

_JOIN = "/cognomen.node.v1.Join"
_ACTIONS = {
    f"{_JOIN}/AttestNode": Action.NODE_ATTESTATION,
    f"{_JOIN}/GetBundle": Action.NODE_ATTESTATION,
    f"{_JOIN}/BeginReadmission": Action.NODE_READMISSION,
    f"{_JOIN}/Readmit": Action.NODE_READMISSION,
}

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

_Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
_Continuation: TypeAlias = (
    "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[RequestT, ReplyT] | None]]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Whose call this is, and when its SVID expires."""

    node: Node
    not_after: datetime


_ADMITTED: ContextVar[Admitted] = ContextVar("admitted")


def admitted() -> Admitted:
    """Whose call this is; only calls through AdmitNodes have this."""
    return _ADMITTED.get()


class _Unreadable:
    """What a method gets in place of a message that cannot be parsed; gRPC would log a traceback for each."""


def check_readable(message: object) -> None:
    """Refuse a message that could not be parsed; a method that reads a stream calls this for each.

    Raises:
        Refused: INVALID
    """
    if isinstance(message, _Unreadable):
        raise Refused(Kind.INVALID, "message: cannot be parsed")


def _marking(parse: Parse[RequestT] | None) -> Parse[RequestT] | None:
    if parse is None:
        return None

    def mark(raw: bytes) -> RequestT:
        try:
            return parse(raw)
        except DecodeError:
            return cast("RequestT", _Unreadable())  # check_readable keeps it from every method

    return mark


class AnswerRefusals(grpc.aio.ServerInterceptor):
    """Allows calls only through the door's front, and turns refusals of a method into statuses.

    If no flow has recorded a refusal, this records it, with a node's own when a node was admitted.

    Args:
        proof: returns what TLS proved about a peer, by gRPC's name for it.
    """

    def __init__(self, proof: Callable[[str], Proof | None], refusals: RefusalRecord) -> None:
        self._proof = proof
        self._refusals = refusals

    async def intercept_service(
        self, continuation: "_Continuation[RequestT, ReplyT]", handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[RequestT, ReplyT] | None":
        """Wrap the method that was called, if there is one."""
        handler = await continuation(handler_call_details)
        action = _ACTIONS.get(handler_call_details.method, Action.NODE_CALL)
        return guarded_method(handler, partial(self._guard, action), _marking)

    async def enter(self, context: _Context) -> None:
        """Refuse a caller for whom TLS does not vouch."""
        self.proved(context)

    def proved(self, context: _Context) -> Proof:
        """What TLS proved about the caller.

        Raises:
            Refused: UNAUTHENTICATED
        """
        proof = self._proof(context.peer())
        if proof is None:
            raise Refused(Kind.UNAUTHENTICATED, "TLS: the connection is closed")
        check_tls(proof.tls_version, session_reused=proof.session_reused)
        return proof

    def _guard(self, action: Action, behaviour: Behaviour) -> Behaviour:
        async def guarded(request: object, context: object) -> object:
            call = cast("_Context", context)
            proof = self._proof(call.peer())
            async with answering(call):
                with bound_contextvars(
                    peer_address="" if proof is None else proof.address
                ):  # on every log line of this call
                    try:
                        await self.enter(call)
                        check_readable(request)
                        return await cast(
                            "Awaitable[object]", behaviour(request, context)
                        )  # all of ours are coroutines
                    except Refused as refused:
                        await self._record(refused, action)
                        raise
                    except SVIDError as err:  # a value in the request that is invalid
                        invalid = Refused(Kind.INVALID, str(err))
                        await self._record(invalid, action)
                        raise invalid from err

        return guarded

    async def _record(self, refused: Refused, action: Action) -> None:
        if refused.is_on_record or refused.kind is Kind.INTERNAL:
            return
        caller = _ADMITTED.get(None)
        principal, actor = (
            (Principal.STRANGER, Principal.STRANGER.value)
            if caller is None
            else (Principal.NODE, str(caller.node.spiffe_id))
        )
        await self._refusals.record(refused, principal=principal, actor=actor, action=action)


class AdmitNodes(AnswerRefusals):
    """Lets only nodes call.

    Args:
        used: called with each peer whose call was admitted.
        seen: called with the node and the host it called from.
    """

    def __init__(
        self,
        admit: Callable[[Peer], Awaitable[Node]],
        proof: Callable[[str], Proof | None],
        refusals: RefusalRecord,
        *,
        used: Callable[[str], None],
        seen: Callable[[NodeID, str], None],
    ) -> None:
        super().__init__(proof, refusals)
        self._admit = admit
        self._used = used
        self._seen = seen

    async def enter(self, context: _Context) -> None:
        """Admit the caller, or refuse it."""
        proof = self.proved(context)
        peer = _peer(proof)
        node = await self._admit(peer)
        _ADMITTED.set(Admitted(node=node, not_after=peer.not_after))
        self._used(context.peer())
        self._seen(node.id, host_of(proof.address))


def _peer(proof: Proof) -> Peer:
    if proof.certificate is None:
        raise Refused(Kind.UNAUTHENTICATED, "node SVID: expected a client certificate, found none")
    try:
        leaf = shown(proof.certificate)
    except SVIDError as e:
        raise Refused(Kind.UNAUTHENTICATED, f"node SVID: {e}") from e
    return Peer(
        tls_version=proof.tls_version,
        session_reused=proof.session_reused,
        spiffe_id=leaf.spiffe_id,
        serial=leaf.serial,
        key_hash=leaf.key_hash,
        not_after=leaf.not_after,
    )
