"""httpx clients that speak only mutual TLS with SPIFFE IDs, and follow every rotation.

They need httpx (the extra `svid[httpx]`). `httpx.Client(verify=client_context(…))` checks the server only over https, and follows a
redirect to plain http. Here the check is in the transport, which no request can bypass.
"""

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import httpx

from svid.source import X509Identity
from svid.tls.authorize import Authorizer
from svid.tls.connections import CheckedObject
from svid.tls.context import client_context
from svid.tls.refusals import EndedPeerError
from svid.tls.reports import OnRefused

if TYPE_CHECKING:
    import httpcore

__all__ = ["httpx_async_client", "httpx_client"]


class _Transport(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _demand_https(request)
        return super().handle_request(request)


class _AsyncTransport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _demand_https(request)
        sending = _Sending(request)
        while True:
            try:
                response = await super().handle_async_request(request)
            except EndedPeerError as e:
                if sending.begun:
                    raise httpx.NetworkError(str(e), request=request) from e
                # A pooled connection that we ended while it was idle. The error closes it; try again, as a new one may be admitted.
            else:
                if isinstance(response.stream, httpx.AsyncByteStream):
                    response.stream = _Coming(response.stream, request)
                return response


class _Sending:
    """Whether any part of a request was sent; httpx's trace tells, and also announces each connection that it makes for the request."""

    def __init__(self, request: httpx.Request) -> None:
        self.begun = False
        self._plain: httpcore.AsyncNetworkStream | None = None
        self._theirs: Callable[[str, object], Awaitable[None]] | None = request.extensions.get("trace")
        request.extensions = {**request.extensions, "trace": self._note}

    async def _note(self, event: str, info: object) -> None:
        if event.endswith(".send_request_headers.complete"):
            self.begun = True
        if event.endswith(".connect_tcp.complete"):
            self._plain = cast("Mapping[str, httpcore.AsyncNetworkStream]", info)["return_value"]
        if event.endswith(".start_tls.failed") and self._plain is not None:
            await self._plain.aclose()  # httpx leaves it open if the handshake was cancelled
        if event.endswith(".start_tls.complete"):
            _end_when_revoked(cast("Mapping[str, httpcore.AsyncNetworkStream]", info)["return_value"])
        if self._theirs is not None:
            await self._theirs(event, info)


def _end_when_revoked(stream: "httpcore.AsyncNetworkStream") -> None:
    """End a connection at once when its peer is denied, and drop what its loop still holds; the loop's own transport is out of reach."""
    connection, plain = stream.get_extra_info("ssl_object"), stream.get_extra_info("socket")
    if not isinstance(connection, CheckedObject):  # the connection to a proxy
        return

    def end() -> None:
        with contextlib.suppress(OSError):  # already closed
            plain.shutdown(socket.SHUT_RDWR)

    connection.end_by(end)


class _Coming(httpx.AsyncByteStream):
    """The body of a response; if we end the connection, it raises one of httpx's errors, as in a blocking client."""

    def __init__(self, stream: httpx.AsyncByteStream, request: httpx.Request) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._stream:
                yield piece
        except EndedPeerError as e:
            raise httpx.ReadError(str(e), request=self._request) from e

    async def aclose(self) -> None:
        await self._stream.aclose()


def httpx_client(
    source: X509Identity,
    authorize: Authorizer,
    *,
    proxy: str | httpx.Proxy | None = None,
    http2: bool = False,
    refuse_after: timedelta | None = None,
    on_refused: OnRefused | None = None,
) -> httpx.Client:
    """Make a client that shows our SVID; the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name.

    The client refuses plain http, even after a redirect. Environment variables have no effect. Set everything else on the client:
    `client.timeout`, `client.base_url`, `client.headers`, `client.follow_redirects`.

    Args:
        proxy: a proxy to tunnel through; the server is checked inside the tunnel. The TLS to an https proxy is httpx's own, or uses the
            proxy's `ssl_context`.
        http2: offer HTTP/2; needs `httpx[http2]`.
        refuse_after, on_refused: as in LiveContext.

    Raises:
        TypeError: as LiveContext.
    """
    context = client_context(source, authorize, refuse_after=refuse_after, on_refused=on_refused)
    return httpx.Client(transport=_Transport(verify=context, proxy=proxy, http2=http2))


def httpx_async_client(
    source: X509Identity,
    authorize: Authorizer,
    *,
    proxy: str | httpx.Proxy | None = None,
    http2: bool = False,
    refuse_after: timedelta | None = None,
    on_refused: OnRefused | None = None,
) -> httpx.AsyncClient:
    """Make the same for asyncio."""
    context = client_context(source, authorize, refuse_after=refuse_after, on_refused=on_refused)
    return httpx.AsyncClient(transport=_AsyncTransport(verify=context, proxy=proxy, http2=http2))


def _demand_https(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        message = f"url: expected https, found {str(request.url)!r}: only over TLS can the server prove its identity"
        raise httpx.UnsupportedProtocol(message, request=request)
