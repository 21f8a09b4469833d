"""gRPC servers over mutual TLS by SPIFFE IDs: a server with its port, and who is let in at each call.

gRPC's own TLS does the handshakes, each by today's identity. It cannot keep trust domains apart, and knows of no authorizer. So each call
is checked: the peer's chain by today's bundle of its own trust domain, or its JWT-SVID, and whether it is wanted. A port without that check
would serve everybody of every trusted trust domain: so a server and its port are made together, of the check.
Clients: svid/tls/grpc_client.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import lru_cache
from typing import Generic, TypeAlias, TypedDict, TypeVar, Unpack, cast

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from svid.clock import Clock
from svid.denials import KEPT_FOR, number_of_jti
from svid.encoding import MAX_CHAIN_LENGTH, certificates_from_pem
from svid.errors import RevokedError, SVIDError, X509SVIDError
from svid.jwtsvid import JWTSVID
from svid.source import TokenVerifier, X509Identity, demand_source
from svid.spiffeid import SpiffeID
from svid.tls.authorize import Authorizer, strictly
from svid.tls.context import server_context
from svid.tls.enforcement import Enforcement, Peer
from svid.tls.grpc_calls import Admission, Behaviour, Call, guarded, guarded_aio, look_again_on_change
from svid.tls.guard import verify_bearer

__all__ = [
    "BearerCheck",
    "LatestConfiguration",
    "PeerCheck",
    "ServerSettings",
    "grpc_aio_interceptor",
    "grpc_aio_server",
    "grpc_interceptor",
    "grpc_server",
    "guarded_method",
]

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
InterceptorT = TypeVar("InterceptorT")


class LatestConfiguration:
    """The TLS configuration of a port, asked for at each handshake.

    gRPC asks from threads of its own, and is told only what is new: to take a configuration over is not safe beside another handshake
    (grpcio 1.85: told each time, it aborts when many connections come and go at once). So TLS sessions may be resumed, and whoever looks
    at a call refuses one of a resumed session. It admits nobody: who makes credentials of it puts a check before every method.
    """

    def __init__(self, now: Callable[[], grpc.ServerCertificateConfiguration]) -> None:
        self._now = now
        self._taken: grpc.ServerCertificateConfiguration | None = None

    def for_port(self, *, demand_client_certificate: bool) -> grpc.ServerCredentials:
        """What a server's port is added with."""
        self._taken = first = self._now()  # the first handshake takes it without asking
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._news,  # type: ignore[arg-type]  # the stubs do not know that None means unchanged
            require_client_authentication=demand_client_certificate,
        )

    def _news(self) -> grpc.ServerCertificateConfiguration | None:
        now, before = self._now(), self._taken
        self._taken = now
        return None if now is before else now


class PeerCheck:
    """Whether the other end of a call's connection is wanted, by the X509-SVID that it showed.

    Args:
        source: its bundles vouch for peers; a server of this check shows its X509-SVID.
        refuse_after: as of LiveContext, of each new call.

    Raises:
        TypeError: as LiveContext.
    """

    def __init__(
        self,
        source: X509Identity,
        authorize: Authorizer,
        *,
        refuse_after: timedelta | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.source = source
        self._context = server_context(source, authorize, refuse_after=refuse_after, clock=clock)
        self.enforcement = self._context.enforcement
        look_again_on_change(source, self.enforcement)

    def __call__(self, context: Call) -> SpiffeID:
        """Say whose the other end is; a method may ask, too.

        Raises:
            X509SVIDError: it showed none.
            HandshakeRefusedError: its bundle does not vouch for it any more, or it is denied.
            AuthorizationError: it is not wanted.
            SVIDError: nothing can be verified now.
        """
        return self.admit(context).peer.spiffe_id

    def admit(self, context: Call) -> Admission:
        """Do the same, and say how to ask again for as long as the call lasts."""
        facts = cast("Mapping[str, Collection[bytes]]", context.auth_context())
        if list(facts.get("ssl_session_reused", ())) != [b"false"]:
            raise X509SVIDError("peer: expected a full handshake, found a resumed session")
        leaf = list(facts.get("x509_pem_cert", ()))
        if len(leaf) != 1:
            raise X509SVIDError("peer: expected an X509-SVID, found none")
        self.source.svid  # noqa: B018 - raises where our own identity was taken away
        chain = _der(leaf[0], *facts.get("x509_pem_cert_chain", ()))
        return Admission(*self._context.stay(chain))


class BearerCheck:
    """Whether a call brings a JWT-SVID for us, of somebody who is wanted, as `authorization: Bearer …`.

    Args:
        audience: what we are called; one of these must be in the token.
        refuse_after: how old the issuer's last word on revocations may be at a call; None: as old as it is, with a warning in the log.

    Raises:
        TypeError: no source of JWT-SVIDs, or an authorizer that cannot answer. Or `refuse_after`, of a source that knows of no revocations.
    """

    def __init__(
        self,
        source: TokenVerifier,
        *,
        audience: str | Collection[str],
        authorize: Authorizer,
        refuse_after: timedelta | None = None,
        clock: Clock | None = None,
    ) -> None:
        demand_source(source, "verify")
        self.enforcement = Enforcement(source, point="BearerCheck", refuse_after=refuse_after, clock=clock)
        self._source = source
        self._audience = audience
        self._authorize = strictly(authorize)

    def __call__(self, context: Call) -> JWTSVID:
        """Check the token, and say whose it is; raises as `svid.tls.guard.verify_bearer`, and OutdatedError."""
        self.enforcement.demand_fresh()
        metadata = cast("Collection[tuple[str, str | bytes]] | None", context.invocation_metadata()) or ()
        found = [value for name, value in metadata if name == "authorization"]
        header = found[0] if len(found) == 1 else ""  # of several none can be trusted
        return verify_bearer(
            header if isinstance(header, str) else "", self._source, audience=self._audience, authorize=self._authorize
        )

    def admit(self, context: Call) -> Admission:
        """Check the token, and say how to ask again for as long as the call lasts, which is KEPT_FOR longer than the token at most."""
        svid = self(context)
        number = number_of_jti(svid.jti)
        peer = Peer(svid.spiffe_id, () if number is None else (number,), svid.expires_at, KEPT_FOR)

        def recheck() -> None:
            if self.enforcement.is_denied(peer):
                raise RevokedError(f"jti: expected a token that is not revoked, found one of {peer.spiffe_id}")
            self._authorize(peer.spiffe_id)

        return Admission(peer, recheck)


class ServerSettings(TypedDict, Generic[InterceptorT], total=False):
    """What else gRPC's servers can be given, by its own names."""

    handlers: Sequence[grpc.GenericRpcHandler]
    interceptors: Sequence[InterceptorT]
    options: Sequence[tuple[str, object]]
    maximum_concurrent_rpcs: int
    compression: grpc.Compression


def grpc_server(
    address: str,
    check: PeerCheck,
    workers: ThreadPoolExecutor,
    **settings: Unpack[ServerSettings[grpc.ServerInterceptor]],
) -> tuple[grpc.Server, int]:
    """Make a server over mutual TLS whose every call is checked first; and the port that it got.

    Whom the check refuses gets UNAUTHENTICATED; who is valid and not wanted, PERMISSION_DENIED; UNAVAILABLE where nothing can be verified.
    That holds for every service that is added, health and reflection included, and for every other port: on one without TLS nobody is let
    in. Of `interceptors`, the check is the first.

    Args:
        address: `host:port`, as gRPC's `add_secure_port` takes it; port 0: a free one.

    Raises:
        RuntimeError: the address cannot be bound.
        SVIDError: as the source; there is no valid SVID to begin with.
        TypeError: no PeerCheck.
    """
    _demand_check(check, PeerCheck)
    settings["interceptors"] = [_Interceptor(check), *settings.get("interceptors", ())]
    server = grpc.server(workers, **settings)  # type: ignore[arg-type]  # the stubs want lists
    return server, server.add_secure_port(address, _credentials(check.source))


def grpc_aio_server(
    address: str, check: PeerCheck, **settings: Unpack[ServerSettings[grpc.aio.ServerInterceptor]]
) -> tuple[grpc.aio.Server, int]:
    """Make the same for asyncio; its methods must be coroutines or asynchronous generators."""
    _demand_check(check, PeerCheck)
    settings["interceptors"] = [_AioInterceptor(check), *settings.get("interceptors", ())]
    server = grpc.aio.server(**settings)
    return server, server.add_secure_port(address, _credentials(check.source))


def grpc_interceptor(check: BearerCheck | PeerCheck) -> grpc.ServerInterceptor:
    """Make an interceptor: `grpc_server(…, interceptors=[grpc_interceptor(BearerCheck(…))])`, or of a server behind somebody else's TLS.

    Whom the check refuses is answered as by `grpc_server`.

    Raises:
        TypeError: neither a BearerCheck nor a PeerCheck.
    """
    _demand_check(check, BearerCheck, PeerCheck)
    return _Interceptor(check)


def grpc_aio_interceptor(check: BearerCheck | PeerCheck) -> grpc.aio.ServerInterceptor:
    """Make the same for a server of `grpc.aio`; its methods must be coroutines or asynchronous generators."""
    _demand_check(check, BearerCheck, PeerCheck)
    return _AioInterceptor(check)


def _demand_check(check: object, *wanted: type) -> None:
    if not isinstance(check, wanted):
        names = " or ".join(f"a {one.__name__}" for one in wanted)
        raise TypeError(f"check: expected {names}, found {type(check).__name__}")


def _credentials(source: X509Identity) -> grpc.ServerCredentials:
    """Make credentials by which everybody of a trusted trust domain passes the handshake: only for a server that asks a PeerCheck."""
    made: list[tuple[object, object, grpc.ServerCertificateConfiguration]] = []

    def now() -> grpc.ServerCertificateConfiguration:
        try:
            svid, bundles = source.svid, source.bundles
        except SVIDError:
            if not made:
                raise
            return made[0][2]  # it goes on showing what it had; each call is refused
        if not made or made[0][0] is not svid or made[0][1] is not bundles:
            roots = b"".join(
                root.public_bytes(Encoding.PEM) for bundle in bundles.values() for root in bundle.x509_authorities
            )
            made[:] = [
                (svid, bundles, grpc.ssl_server_certificate_configuration([(svid.key_pem(), svid.chain_pem())], roots))
            ]
        return made[0][2]

    return LatestConfiguration(now).for_port(demand_client_certificate=True)


_Handler: TypeAlias = "grpc.RpcMethodHandler[RequestT, ReplyT]"
Parse: TypeAlias = Callable[[bytes], RequestT]
_Make: TypeAlias = "Callable[[Behaviour, object, object], _Handler[RequestT, ReplyT]]"
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class _Interceptor(grpc.ServerInterceptor):
    def __init__(self, check: BearerCheck | PeerCheck) -> None:
        self._check = check

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], _Handler[RequestT, ReplyT] | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler[RequestT, ReplyT] | None":
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        admit, enforcement = self._check.admit, self._check.enforcement
        return guarded_method(handler, lambda behaviour: guarded(behaviour, admit, enforcement, handler))


class _AioInterceptor(grpc.aio.ServerInterceptor):
    def __init__(self, check: BearerCheck | PeerCheck) -> None:
        self._check = check

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler[RequestT, ReplyT] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler[RequestT, ReplyT] | None":
        return guarded_method(await continuation(handler_call_details), self._guard)

    def _guard(self, behaviour: Behaviour) -> Behaviour:
        return guarded_aio(behaviour, self._check.admit, self._check.enforcement)


def guarded_method(
    handler: "_Handler[RequestT, ReplyT] | None",
    guard: Callable[[Behaviour], Behaviour],
    parsing: Callable[[Parse[RequestT] | None], Parse[RequestT] | None] = lambda parse: parse,
) -> "_Handler[RequestT, ReplyT] | None":
    """Wrap the method that was called, if there is one, and what parses its messages."""
    if handler is None:
        return None
    kind = next(kind for kind in _KINDS if getattr(handler, kind) is not None)
    make = cast("_Make[RequestT, ReplyT]", getattr(grpc, f"{kind}_rpc_method_handler"))
    return make(guard(getattr(handler, kind)), parsing(handler.request_deserializer), handler.response_serializer)


@lru_cache(maxsize=256)
def _der(leaf: bytes, rest: bytes = b"") -> Sequence[bytes]:
    """Turn what gRPC shows of a peer, the same for each call of it, into DER, leaf first: on a server `rest` is without the leaf."""
    (first,) = certificates_from_pem(leaf, limit=1, error=X509SVIDError)
    others = certificates_from_pem(rest, limit=MAX_CHAIN_LENGTH, error=X509SVIDError) if rest else ()
    return [one.public_bytes(Encoding.DER) for one in (first, *(one for one in others if one != first))]
