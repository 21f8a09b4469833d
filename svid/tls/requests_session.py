"""A requests.Session whose https is mutual TLS by SPIFFE IDs, and follows every rotation.

Needs requests (`pip install svid[requests]`). httpx needs nothing of ours: `httpx.Client(verify=client_context(source, authorize))`.
"""

import requests
from requests.adapters import HTTPAdapter

from svid.source import X509Identity
from svid.tls.authorize import Authorizer
from svid.tls.context import LiveContext, client_context

__all__ = ["requests_session"]


class _SVIDAdapter(HTTPAdapter):
    """Connections by a LiveContext; what requests knows of authorities and certificates has no say."""

    def __init__(self, context: LiveContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context, assert_hostname=False)  # type: ignore[arg-type]  # handed on

    def cert_verify(self, conn: object, url: str, verify: object, cert: object) -> None:
        """Leave it all to the context, whatever `verify` and `cert` say."""


def requests_session(source: X509Identity, authorize: Authorizer) -> requests.Session:
    """Make a session: over https the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name, and sees our SVID."""
    session = requests.Session()
    session.mount("https://", _SVIDAdapter(client_context(source, authorize)))
    return session
