"""Clients of httpx that speak mutual TLS by SPIFFE IDs and nothing else, and follow every rotation.

Needs httpx (the extra `svid[httpx]`). `httpx.Client(verify=client_context(…))` is checked over https alone, and follows a redirection to
plain http. Here the check is in the transport, which no request gets past.
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
                # One that was kept, and that was ended here meanwhile: each of these is closed by this, and a new one may be admitted.
            else:
                if isinstance(response.stream, httpx.AsyncByteStream):
                    response.stream = _Coming(response.stream, request)
                return response


class _Sending:
    """Whether anything of a request was sent; httpx tells by its trace, and of each connection that it makes for it."""

    def __init__(self, request: httpx.Request) -> None:
        self.begun = False
        self._theirs: Callable[[str, object], Awaitable[None]] | None = request.extensions.get("trace")
        request.extensions = {**request.extensions, "trace": self._note}

    async def _note(self, event: str, info: object) -> None:
        if event.endswith(".send_request_headers.complete"):
            self.begun = True
        if event.endswith(".start_tls.complete"):
            _end_when_revoked(cast("Mapping[str, httpcore.AsyncNetworkStream]", info)["return_value"])
        if self._theirs is not None:
            await self._theirs(event, info)


def _end_when_revoked(stream: "httpcore.AsyncNetworkStream") -> None:
    """Have a connection end at once, and what its loop still holds go nowhere; the loop's own transport is out of reach."""
    connection, plain = stream.get_extra_info("ssl_object"), stream.get_extra_info("socket")
    if not isinstance(connection, CheckedObject):  # that to a proxy
        return

    def end() -> None:
        with contextlib.suppress(OSError):  # it is closed already
            plain.shutdown(socket.SHUT_RDWR)

    connection.end_by(end)


class _Coming(httpx.AsyncByteStream):
    """The body of a response, whose end from our side is an error of httpx's, as it is in a blocking client."""

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
) -> httpx.Client:
    """Make a client: the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name, and sees our SVID.

    Plain http is refused, after a redirection too. The variables of the environment have no effect. All else is set on the client:
    `client.timeout`, `client.base_url`, `client.headers`, `client.follow_redirects`.

    Args:
        proxy: is asked for a tunnel, in which the server is checked. The TLS to an https proxy is httpx's own, or by its `ssl_context`.
        http2: offer HTTP/2; needs `httpx[http2]`.
        refuse_after: as of LiveContext.

    Raises:
        TypeError: as LiveContext.
    """
    context = client_context(source, authorize, refuse_after=refuse_after)
    return httpx.Client(transport=_Transport(verify=context, proxy=proxy, http2=http2))


def httpx_async_client(
    source: X509Identity,
    authorize: Authorizer,
    *,
    proxy: str | httpx.Proxy | None = None,
    http2: bool = False,
    refuse_after: timedelta | None = None,
) -> httpx.AsyncClient:
    """Make the same for asyncio."""
    context = client_context(source, authorize, refuse_after=refuse_after)
    return httpx.AsyncClient(transport=_AsyncTransport(verify=context, proxy=proxy, http2=http2))


def _demand_https(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        message = f"url: expected https, by which the server proves who it is, found {str(request.url)!r}"
        raise httpx.UnsupportedProtocol(message, request=request)
