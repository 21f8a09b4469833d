"""A requests.Session that speaks mutual TLS by SPIFFE IDs and nothing else, and follows every rotation.

Needs requests (the extra `svid[requests]`). A proxy is asked for a tunnel, and in it the server is checked as it is without a proxy.
"""

from collections.abc import Mapping
from datetime import timedelta

import requests
from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.exceptions import InvalidSchema

from svid.source import X509Identity
from svid.tls.authorize import Authorizer
from svid.tls.context import LiveContext, client_context

__all__ = ["requests_session"]


class _SVIDAdapter(HTTPAdapter):
    """Connections by a LiveContext, through a proxy too; what requests knows of authorities and certificates has no say about a server.

    It has one about an https proxy, whose own TLS is the web's: the proxy is no party to what passes through it.
    """

    def __init__(self, context: LiveContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context, assert_hostname=False)  # type: ignore[arg-type]  # handed on

    def proxy_manager_for(self, proxy: str, **_: object) -> object:
        # Nothing else is handed on: urllib3 could be told to have an https proxy speak to the server in our place.
        return super().proxy_manager_for(proxy, ssl_context=self._context, assert_hostname=False)

    def cert_verify(self, conn: object, url: str, verify: object, cert: object) -> None:
        """Leave it all to the context, but for the TLS to an https proxy."""
        if getattr(getattr(conn, "proxy", None), "scheme", "") == "https":
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]  # requests has no types there

    def send(  # noqa: PLR0917 - the library's signature
        self,
        request: PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - the library's signature
        timeout: object = None,
        verify: object = True,  # noqa: FBT002 - the library's signature
        cert: object = None,  # noqa: ARG002 - the library's signature
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Send over https alone, also where somebody mounted this for other URLs; `verify` can name authorities, and switch nothing off."""
        _demand_https(request.url)
        return super().send(request, stream, timeout, verify or True, None, proxies)  # type: ignore[arg-type]  # handed on


class _SVIDSession(requests.Session):
    """A session that has one adapter, and uses no other: neither one for http nor one that is mounted later."""

    def __init__(self, adapter: _SVIDAdapter) -> None:
        super().__init__()
        self.adapters.clear()
        self.mount("https://", adapter)

    def get_adapter(self, url: str) -> BaseAdapter:
        """Find the adapter for a URL; each request of each redirection asks for one."""
        _demand_https(url)
        adapter = super().get_adapter(url)
        if not isinstance(adapter, _SVIDAdapter):
            raise InvalidSchema(f"adapter: expected the session's own, which checks the server, found {adapter!r}")
        return adapter


def requests_session(
    source: X509Identity, authorize: Authorizer, *, refuse_after: timedelta | None = None
) -> requests.Session:
    """Make a session: the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name, and sees our SVID.

    That holds behind a proxy, after a redirection, and whatever `verify` and the variables of the environment say: these name authorities
    for the certificate of an https proxy, which is always verified. Plain http is refused. Other adapters are refused; retries are set by
    `session.get_adapter("https://").max_retries`.

    Args:
        refuse_after: as of LiveContext.

    Raises:
        TypeError: as LiveContext.
    """
    return _SVIDSession(_SVIDAdapter(client_context(source, authorize, refuse_after=refuse_after)))


def _demand_https(url: str | None) -> None:
    if url is None or not url.lower().startswith("https://"):
        raise InvalidSchema(f"url: expected https, by which the server proves who it is, found {url!r}")
