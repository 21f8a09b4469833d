"""gRPC servers over mutual TLS with SPIFFE IDs: a server with its port, and a check of each call.

gRPC's own TLS does the handshakes, each with the current identity. It cannot keep trust domains apart, and has no authorizer. Nor can it
be limited to TLS 1.3, or be kept from resuming sessions. So we check each call: its TLS version, the peer's chain against the current
bundle of its own trust domain, or its JWT-SVID, and whether the peer is allowed (svid/integrations/grpc_checks). A port without that check
would serve every member of every trusted trust domain, so the functions here make a server and its port together, from the check.
Clients are in svid/integrations/grpc_client.
"""

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeAlias, TypedDict, TypeVar, Unpack, cast

import grpc

from svid.encoding import certificates_to_pem
from svid.errors import SVIDError
from svid.integrations.grpc_calls import Behaviour, guarded, guarded_aio
from svid.integrations.grpc_checks import BearerCheck, PeerCheck
from svid.source import X509Identity
from svid.tls.authorities import readable_authorities

__all__ = [
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


class _LatestConfiguration:
    """The TLS configuration of a port, which gRPC asks for at each handshake.

    gRPC asks from its own threads, and we answer only with what is new: taking over a configuration during another handshake is not safe
    (grpcio 1.85 aborts if it gets one each time while many connections come and go). So TLS sessions may be resumed, and the check of a
    call refuses a resumed session. This class admits nobody: code that makes credentials from it must put a check before every method.
    """

    def __init__(self, now: Callable[[], grpc.ServerCertificateConfiguration]) -> None:
        self._now = now
        self._taken: grpc.ServerCertificateConfiguration | None = None

    def for_port(self) -> grpc.ServerCredentials:
        """Make the credentials to add a server's port with; each client must show a certificate."""
        self._taken = first = self._now()  # the first handshake takes it without asking
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._news,  # type: ignore[arg-type]  # the stubs do not know that None means unchanged
            require_client_authentication=True,
        )

    def _news(self) -> grpc.ServerCertificateConfiguration | None:
        now, before = self._now(), self._taken
        self._taken = now
        return None if now is before else now


class ServerSettings(TypedDict, Generic[InterceptorT], total=False):
    """Other settings of gRPC's servers, under gRPC's own names."""

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
    """Make a server over mutual TLS that checks every call first; return the server and its port.

    A call gets UNAUTHENTICATED if its credentials are invalid, PERMISSION_DENIED if they are valid but the peer is not allowed, and
    UNAVAILABLE if nothing can be verified. That holds for every service that you add, health and reflection included, and for every
    other port: a port without TLS lets nobody in. The check runs before all other `interceptors`.

    Args:
        address: `host:port`, as gRPC's `add_secure_port` takes it; port 0 means a free one.

    Raises:
        RuntimeError: the address cannot be bound.
        SVIDError: as the source; there is no valid SVID to begin with.
        TypeError: `check` is not a PeerCheck.
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
    """Make an interceptor: `grpc_server(…, interceptors=[grpc_interceptor(BearerCheck(…))])`, or for a server behind another TLS.

    A refused call gets the same status as with `grpc_server`.

    Raises:
        TypeError: `check` is neither a BearerCheck nor a PeerCheck.
    """
    _demand_check(check, BearerCheck, PeerCheck)
    return _Interceptor(check)


def grpc_aio_interceptor(check: BearerCheck | PeerCheck) -> grpc.aio.ServerInterceptor:
    """Make the same for a `grpc.aio` server; its methods must be coroutines or asynchronous generators."""
    _demand_check(check, BearerCheck, PeerCheck)
    return _AioInterceptor(check)


def _demand_check(check: object, *wanted: type) -> None:
    if not isinstance(check, wanted):
        names = " or ".join(f"a {one.__name__}" for one in wanted)
        raise TypeError(f"check: expected {names}, found {type(check).__name__}")


def _credentials(source: X509Identity) -> grpc.ServerCredentials:
    """Make credentials whose handshake admits every member of a trusted trust domain: only for a server with a PeerCheck."""
    made: list[tuple[object, object, grpc.ServerCertificateConfiguration]] = []

    def now() -> grpc.ServerCertificateConfiguration:
        try:
            svid, bundles = source.svid, source.bundles
        except SVIDError:
            if not made:
                raise
            return made[0][2]  # handshakes go on with the last one, but each call is refused
        if not made or made[0][0] is not svid or made[0][1] is not bundles:
            roots = certificates_to_pem(readable_authorities(bundles, own=svid.spiffe_id.trust_domain))
            made[:] = [
                (svid, bundles, grpc.ssl_server_certificate_configuration([(svid.key_pem(), svid.chain_pem())], roots))
            ]
        return made[0][2]

    return _LatestConfiguration(now).for_port()


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
    """Wrap the method that was called, if it exists, and the parser of its messages."""
    if handler is None:
        return None
    kind = next(kind for kind in _KINDS if getattr(handler, kind) is not None)
    make = cast("_Make[RequestT, ReplyT]", getattr(grpc, f"{kind}_rpc_method_handler"))
    return make(guard(getattr(handler, kind)), parsing(handler.request_deserializer), handler.response_serializer)
