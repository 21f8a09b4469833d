"""What stands before every method of the network doors: admission on the node door, and on both the way from exceptions to statuses.

Who is admitted is decided in issuer/flows/admit_call; what an exception means in status.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TypeAlias, TypeVar, cast

import grpc
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.message import DecodeError

from cognomen.daemon.errors import Kind, Refused
from issuer.api.status import answering
from issuer.decisions.admission import Node, Peer
from issuer.decisions.profile import serial_to_text
from svid.encoding import certificates_from_pem
from svid.errors import SVIDError, X509SVIDError
from svid.keys import thumbprint
from svid.spiffeid import SpiffeID
from svid.tls.grpc_calls import Behaviour
from svid.tls.grpc_server import Parse, guarded_method
from svid.x509svid import check_leaf

__all__ = ["AdmitNodes", "Admitted", "AnswerRefusals", "admitted", "check_readable"]

_CERTIFICATES = 1024  # each call of a connection shows the same

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

_Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
_Continuation: TypeAlias = (
    "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[RequestT, ReplyT] | None]]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Whose call this is, and until when the SVID lives that it came with."""

    node: Node
    not_after: datetime


_ADMITTED: ContextVar[Admitted] = ContextVar("admitted")


def admitted() -> Admitted:
    """Whose call this is; only calls that came through AdmitNodes have one."""
    return _ADMITTED.get()


class _Unreadable:
    """What a method gets instead of a message that cannot be parsed: gRPC would log a traceback for each."""


def check_readable(message: object) -> None:
    """Refuse a message that was not one; a method that reads a stream asks for each.

    Raises:
        Refused: INVALID
    """
    if isinstance(message, _Unreadable):
        raise Refused(Kind.INVALID, "message: expected one that can be parsed, found other bytes")


def _marking(parse: Parse[RequestT] | None) -> Parse[RequestT] | None:
    if parse is None:
        return None

    def mark(raw: bytes) -> RequestT:
        try:
            return parse(raw)
        except DecodeError:
            return cast("RequestT", _Unreadable())  # check_readable lets no method have it

    return mark


class AnswerRefusals(grpc.aio.ServerInterceptor):
    """Turns refusals of a method into statuses."""

    async def intercept_service(
        self, continuation: "_Continuation[RequestT, ReplyT]", handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[RequestT, ReplyT] | None":
        """Wrap the method that was called, if there is one."""
        handler = await continuation(handler_call_details)
        return guarded_method(handler, self._guard, _marking)

    async def enter(self, context: _Context) -> None:
        """Do what comes before the method; here, nothing."""

    def _guard(self, behaviour: Behaviour) -> Behaviour:
        async def guarded(request: object, context: object) -> object:
            call = cast("_Context", context)
            async with answering(call):
                await self.enter(call)
                check_readable(request)
                return await cast("Awaitable[object]", behaviour(request, context))  # all of ours are coroutines

        return guarded


class AdmitNodes(AnswerRefusals):
    """Lets nodes call, and nobody else."""

    def __init__(self, admit: Callable[[Peer], Awaitable[Node]]) -> None:
        self._admit = admit

    async def enter(self, context: _Context) -> None:
        """Admit the caller, or refuse."""
        peer = _peer(context)
        _ADMITTED.set(Admitted(node=await self._admit(peer), not_after=peer.not_after))


def _peer(context: _Context) -> Peer:
    """What TLS proved; a fact that is missing counts as the worse one."""
    facts = context.auth_context()
    pems = list(facts.get("x509_pem_cert", ()))
    if len(pems) != 1:
        raise Refused(Kind.UNAUTHENTICATED, "node SVID: expected a client certificate, found none")
    try:
        shown = _shown(pems[0])
    except SVIDError as e:
        raise Refused(Kind.UNAUTHENTICATED, f"node SVID: {e}") from e
    return Peer(
        tls_version=b"".join(facts.get("ssl_tls_version", ())).decode("ascii", "replace"),
        session_reused=list(facts.get("ssl_session_reused", ())) != [b"false"],
        spiffe_id=shown.spiffe_id,
        serial=shown.serial,
        key_hash=shown.key_hash,
        not_after=shown.not_after,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What a certificate says."""

    spiffe_id: SpiffeID
    serial: str
    key_hash: str
    not_after: datetime


@lru_cache(maxsize=_CERTIFICATES)
def _shown(pem: bytes) -> _Shown:
    (leaf,) = certificates_from_pem(pem, limit=1, error=X509SVIDError)
    return _Shown(
        spiffe_id=check_leaf(leaf),
        serial=serial_to_text(leaf.serial_number),
        key_hash=thumbprint(leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        not_after=leaf.not_valid_after_utc,
    )
