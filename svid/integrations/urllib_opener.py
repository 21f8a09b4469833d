"""A urllib opener that speaks only mutual TLS with SPIFFE IDs, and follows every rotation.

`urllib.request.urlopen(url, context=client_context(…))` checks the server only over https, and follows a redirect to plain http.
"""

from collections.abc import Mapping
from datetime import timedelta
from http.client import HTTPResponse
from urllib.error import URLError
from urllib.request import (
    BaseHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from svid.source import X509Identity
from svid.tls.authorize import Authorizer
from svid.tls.context import client_context
from svid.tls.reports import OnRefused

__all__ = ["urllib_opener"]


class _HTTPSOnly(BaseHandler):
    """Refuses a request that is not https before any other handler sees it, including handlers that are added later."""

    def default_open(self, request: Request) -> HTTPResponse | None:
        if request.type != "https":
            raise URLError(
                f"url: expected https, found {request.full_url!r}: only over TLS can the server prove its identity"
            )
        return None


def urllib_opener(
    source: X509Identity,
    authorize: Authorizer,
    *,
    proxies: Mapping[str, str] | None = None,
    refuse_after: timedelta | None = None,
    on_refused: OnRefused | None = None,
) -> OpenerDirector:
    """Make an opener that shows our SVID; the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name.

    The opener refuses plain http, even after a redirect.

    Args:
        proxies: as ProxyHandler takes them, `{"https": "http://…"}`; the default is the environment variables. The opener tunnels through
            a proxy, and checks the server inside the tunnel; urllib does not support https proxies.
        refuse_after, on_refused: as in LiveContext.

    Raises:
        TypeError: as LiveContext.
    """
    context = client_context(source, authorize, refuse_after=refuse_after, on_refused=on_refused)
    opener = OpenerDirector()
    for handler in (
        _HTTPSOnly(),
        ProxyHandler(None if proxies is None else dict(proxies)),
        HTTPSHandler(context=context),
        HTTPRedirectHandler(),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener
