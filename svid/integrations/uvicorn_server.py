"""uvicorn behind a LiveContext: `request.state.peer` is the SPIFFE ID of each request's peer.

It needs uvicorn (the extra `svid[uvicorn]`). The authorizer decides at the handshake who may connect.
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
from svid.tls.reports import OnRefused

__all__ = ["PeerProtocol", "UvicornOptions", "uvicorn_mtls"]


class PeerProtocol(H11Protocol):
    """HTTP/1.1 whose requests carry the SPIFFE ID that the connection's peer proved, as `peer` of the ASGI scope's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Note the peer's SPIFFE ID after the handshake."""
        end_when_revoked(transport)
        super().connection_made(transport)
        # A new dict for each connection: uvicorn gives each of its requests a copy.
        self.app_state = {**self.app_state, "peer": peer_id(transport.get_extra_info("ssl_object"))}


class UvicornOptions(TypedDict):
    """Keyword arguments of uvicorn.run and uvicorn.Config."""

    ssl_context_factory: Callable[[object, object], ssl.SSLContext]
    http: type[asyncio.Protocol]
    ws: str


def uvicorn_mtls(
    source: X509Identity,
    authorize: Authorizer,
    *,
    refuse_after: timedelta | None = None,
    on_refused: OnRefused | None = None,
) -> UvicornOptions:
    """Make uvicorn serve over mutual TLS: `uvicorn.run(app, **uvicorn_mtls(source, any_in(trust_domain)))`.

    In the app, Starlette's and FastAPI's `request.state.peer` is the peer's SpiffeID. WebSockets are off, because uvicorn starts them
    without the state of their connection. A connection ends at once when its peer's credential is denied.

    Args:
        refuse_after, on_refused: as in LiveContext; with uvloop, the address is not known.

    Raises:
        TypeError: as LiveContext.
    """
    context = server_context(source, authorize, refuse_after=refuse_after, on_refused=on_refused)
    return UvicornOptions(ssl_context_factory=lambda _config, _default: context, http=PeerProtocol, ws="none")
