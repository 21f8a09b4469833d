"""A requests.Session that speaks only mutual TLS with SPIFFE IDs, and follows every rotation.

It needs requests (the extra `svid[requests]`). It tunnels through a proxy, and checks the server inside the tunnel as it does without one.
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
from svid.tls.reports import OnRefused

__all__ = ["requests_session"]


class _SVIDAdapter(HTTPAdapter):
    """Connects with a LiveContext, directly or through a proxy; requests' own authorities and certificates do not matter for a server.

    They do matter for an https proxy, which uses web TLS: the proxy cannot see what passes through the tunnel.
    """

    def __init__(self, context: LiveContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context, assert_hostname=False)  # type: ignore[arg-type]  # handed on

    def proxy_manager_for(self, proxy: str, **_: object) -> object:
        # We pass nothing else on: an option of urllib3 can make an https proxy speak to the server in our place.
        return super().proxy_manager_for(proxy, ssl_context=self._context, assert_hostname=False)

    def cert_verify(self, conn: object, url: str, verify: object, cert: object) -> None:
        """Leave everything to the context, except the TLS to an https proxy."""
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
        """Send only over https, even if this was mounted for other URLs; `verify` can name authorities, but cannot turn anything off."""
        _demand_https(request.url)
        return super().send(request, stream, timeout, verify or True, None, proxies)  # type: ignore[arg-type]  # handed on


class _SVIDSession(requests.Session):
    """A session with exactly one adapter: it uses none for http, and none that is mounted later."""

    def __init__(self, adapter: _SVIDAdapter) -> None:
        super().__init__()
        self.adapters.clear()
        self.mount("https://", adapter)

    def get_adapter(self, url: str) -> BaseAdapter:
        """Find the adapter for a URL; every request asks for one, after a redirect as well."""
        _demand_https(url)
        adapter = super().get_adapter(url)
        if not isinstance(adapter, _SVIDAdapter):
            raise InvalidSchema(f"adapter: expected the session's own, which checks the server, found {adapter!r}")
        return adapter


def requests_session(
    source: X509Identity,
    authorize: Authorizer,
    *,
    refuse_after: timedelta | None = None,
    on_refused: OnRefused | None = None,
) -> requests.Session:
    """Make a session that shows our SVID; the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name.

    That holds behind a proxy, after a redirect, and whatever `verify` and the environment variables say: these only name authorities for
    the certificate of an https proxy, which is always verified. The session refuses plain http and other adapters. To set retries, use
    `session.get_adapter("https://").max_retries`.

    Args:
        refuse_after, on_refused: as in LiveContext.

    Raises:
        TypeError: as LiveContext.
    """
    context = client_context(source, authorize, refuse_after=refuse_after, on_refused=on_refused)
    return _SVIDSession(_SVIDAdapter(context))


def _demand_https(url: str | None) -> None:
    if url is None or not url.lower().startswith("https://"):
        raise InvalidSchema(f"url: expected https, found {url!r}: only over TLS can the server prove its identity")
