"""uvicorn behind a LiveContext: each request knows whose the other end is, as `request.state.peer`.

Needs uvicorn (the extra `svid[uvicorn]`). Who may connect is decided by the authorizer, at the handshake.
"""

import asyncio
import ssl
from collections.abc import Callable
from datetime import timedelta
from typing import TypedDict

from uvicorn.protocols.http.h11_impl import H11Protocol

from svid.source import X509Identity
from svid.tls.authorize import Authorizer
from svid.tls.connections import end_when_revoked, peer_id
from svid.tls.context import server_context

__all__ = ["PeerProtocol", "UvicornOptions", "uvicorn_mtls"]


class PeerProtocol(H11Protocol):
    """HTTP/1.1 whose requests carry the SPIFFE ID that the connection's peer proved, as `peer` of the ASGI scope's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Note who it is: the handshake is over."""
        end_when_revoked(transport)
        super().connection_made(transport)
        # For each connection of its own: uvicorn gives every request of it a copy.
        self.app_state = {**self.app_state, "peer": peer_id(transport.get_extra_info("ssl_object"))}


class UvicornOptions(TypedDict):
    """Keyword arguments of uvicorn.run and uvicorn.Config."""

    ssl_context_factory: Callable[[object, object], ssl.SSLContext]
    http: type[asyncio.Protocol]
    ws: str


def uvicorn_mtls(
    source: X509Identity, authorize: Authorizer, *, refuse_after: timedelta | None = None
) -> UvicornOptions:
    """Make uvicorn serve over mutual TLS: `uvicorn.run(app, **uvicorn_mtls(source, any_in(trust_domain)))`.

    In the app, Starlette's and FastAPI's `request.state.peer` is the peer's SpiffeID. WebSockets are off: uvicorn begins them without the
    state of their connection. A connection ends at once when its peer's credential is denied.

    Args:
        refuse_after: as of LiveContext.

    Raises:
        TypeError: as LiveContext.
    """
    context = server_context(source, authorize, refuse_after=refuse_after)
    return UvicornOptions(ssl_context_factory=lambda _config, _default: context, http=PeerProtocol, ws="none")
