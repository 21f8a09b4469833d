"""An opener of urllib that speaks mutual TLS by SPIFFE IDs and nothing else, and follows every rotation.

`urllib.request.urlopen(url, context=client_context(…))` is checked over https alone: it follows a redirection to plain http.
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

__all__ = ["urllib_opener"]


class _HTTPSOnly(BaseHandler):
    """Refuses what is not https before any other handler sees it, those that are added later included."""

    def default_open(self, request: Request) -> HTTPResponse | None:
        if request.type != "https":
            raise URLError(f"url: expected https, by which the server proves who it is, found {request.full_url!r}")
        return None


def urllib_opener(
    source: X509Identity,
    authorize: Authorizer,
    *,
    proxies: Mapping[str, str] | None = None,
    refuse_after: timedelta | None = None,
) -> OpenerDirector:
    """Make an opener: the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name, and sees our SVID.

    Plain http is refused, after a redirection too.

    Args:
        proxies: as ProxyHandler takes them, `{"https": "http://…"}`; without them the variables of the environment count. A proxy is
            asked for a tunnel, in which the server is checked; urllib knows of no https proxies.
        refuse_after: as of LiveContext.

    Raises:
        TypeError: as LiveContext.
    """
    opener = OpenerDirector()
    for handler in (
        _HTTPSOnly(),
        ProxyHandler(None if proxies is None else dict(proxies)),
        HTTPSHandler(context=client_context(source, authorize, refuse_after=refuse_after)),
        HTTPRedirectHandler(),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener
