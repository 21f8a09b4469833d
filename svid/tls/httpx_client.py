"""Clients of httpx that speak mutual TLS by SPIFFE IDs and nothing else, and follow every rotation.

Needs httpx (`pip install svid[httpx]`). `httpx.Client(verify=client_context(…))` is checked over https alone, and follows a redirection to
plain http. Here the check is in the transport, which no request gets past.
"""

import httpx

from svid.source import X509Identity
from svid.tls.authorize import Authorizer
from svid.tls.context import client_context

__all__ = ["httpx_async_client", "httpx_client"]


class _Transport(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _demand_https(request)
        return super().handle_request(request)


class _AsyncTransport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _demand_https(request)
        return await super().handle_async_request(request)


def httpx_client(
    source: X509Identity, authorize: Authorizer, *, proxy: str | httpx.Proxy | None = None, http2: bool = False
) -> httpx.Client:
    """Make a client: the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name, and sees our SVID.

    Plain http is refused, after a redirection too. The variables of the environment have no effect. All else is set on the client:
    `client.timeout`, `client.base_url`, `client.headers`, `client.follow_redirects`.

    Args:
        proxy: is asked for a tunnel, in which the server is checked. The TLS to an https proxy is httpx's own, or by its `ssl_context`.
        http2: offer HTTP/2; needs `httpx[http2]`.

    Raises:
        TypeError: no source, or an authorizer that cannot answer.
    """
    return httpx.Client(transport=_Transport(verify=client_context(source, authorize), proxy=proxy, http2=http2))


def httpx_async_client(
    source: X509Identity, authorize: Authorizer, *, proxy: str | httpx.Proxy | None = None, http2: bool = False
) -> httpx.AsyncClient:
    """Make the same for asyncio."""
    transport = _AsyncTransport(verify=client_context(source, authorize), proxy=proxy, http2=http2)
    return httpx.AsyncClient(transport=transport)


def _demand_https(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        message = f"url: expected https, by which the server proves who it is, found {str(request.url)!r}"
        raise httpx.UnsupportedProtocol(message, request=request)
