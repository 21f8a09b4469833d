"""What stands before every method of the network doors: admission on the node door, and on both the way from exceptions to statuses.

Who is admitted is decided in issuer/flows/admit_call; what an exception means in status.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypeVar, cast

import grpc
from cryptography import x509

from cognomen.daemon.errors import Kind, Refused
from issuer.api.status import answering
from issuer.decisions.admission import Node, Peer
from issuer.decisions.profile import serial_to_text
from svid.spiffeid import SpiffeID

__all__ = ["AdmitNodes", "Admitted", "AnswerRefusals", "admitted"]

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

_Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
_Behaviour: TypeAlias = Callable[[object, _Context], Awaitable[object]]
_Continuation: TypeAlias = (
    "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[RequestT, ReplyT] | None]]"
)
_Make: TypeAlias = "Callable[[_Behaviour, object, object], grpc.RpcMethodHandler[RequestT, ReplyT]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Whose call this is, and until when the SVID lives that it came with."""

    node: Node
    not_after: datetime


_ADMITTED: ContextVar[Admitted] = ContextVar("admitted")


def admitted() -> Admitted:
    """Whose call this is; only calls that came through AdmitNodes have one."""
    return _ADMITTED.get()


class AnswerRefusals(grpc.aio.ServerInterceptor):
    """Turns refusals of a method into statuses."""

    async def intercept_service(
        self, continuation: "_Continuation[RequestT, ReplyT]", handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[RequestT, ReplyT] | None":
        """Wrap the method that was called, if there is one."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _wrapped(handler, self._guard)

    async def enter(self, context: _Context) -> None:
        """Do what comes before the method; here, nothing."""

    def _guard(self, behaviour: _Behaviour) -> _Behaviour:
        async def guarded(request: object, context: _Context) -> object:
            async with answering(context):
                await self.enter(context)
                return await behaviour(request, context)

        return guarded


class AdmitNodes(AnswerRefusals):
    """Lets nodes call, and nobody else."""

    def __init__(self, admit: Callable[[Peer], Awaitable[Node]]) -> None:
        self._admit = admit

    async def enter(self, context: _Context) -> None:
        """Admit the caller, or refuse."""
        peer = _peer(context)
        _ADMITTED.set(Admitted(node=await self._admit(peer), not_after=peer.not_after))


def _wrapped(
    handler: "grpc.RpcMethodHandler[RequestT, ReplyT]", guard: Callable[[_Behaviour], _Behaviour]
) -> "grpc.RpcMethodHandler[RequestT, ReplyT]":
    """Wrap a method's behaviour: all of ours are coroutines, those that stream too."""
    cardinalities = (
        (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
        (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
        (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
        (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
    )
    behaviour, make = next((behaviour, make) for behaviour, make in cardinalities if behaviour is not None)
    guarded = guard(cast("_Behaviour", behaviour))  # grpcio types handlers as those of its synchronous server
    return cast("_Make[RequestT, ReplyT]", make)(guarded, handler.request_deserializer, handler.response_serializer)


def _peer(context: _Context) -> Peer:
    """What TLS proved; a fact that is missing counts as the worse one."""
    facts = context.auth_context()
    pems = list(facts.get("x509_pem_cert", ()))
    if len(pems) != 1:
        raise Refused(Kind.UNAUTHENTICATED, "node SVID: expected a client certificate, found none")
    leaf = x509.load_pem_x509_certificate(pems[0])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise Refused(Kind.UNAUTHENTICATED, f"node SVID: expected 1 URI SAN, found {len(uris)}")
    return Peer(
        tls_version=b"".join(facts.get("ssl_tls_version", ())).decode("ascii", "replace"),
        session_reused=list(facts.get("ssl_session_reused", ())) != [b"false"],
        spiffe_id=SpiffeID.parse(uris[0]),
        serial=serial_to_text(leaf.serial_number),
        not_after=leaf.not_valid_after_utc,
    )
