"""JWT-SVIDs in an Authorization header: what every guard does with the header, whatever the framework.

svid/jwtsvid decides whether a token is valid, and the authorizer whether its SPIFFE ID is allowed. The guard decides how to answer a
refused request (svid/integrations/asgi_guard, svid/integrations/grpc_server).
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

from svid.clock import Clock, SystemClock
from svid.errors import JWTSVIDError, RevokedError, SVIDError
from svid.jwtsvid import JWTSVID
from svid.source import TokenVerifier
from svid.spiffeid import SpiffeID
from svid.tls.authorize import Authorizer, demand_answers_now, strictly
from svid.tls.refusals import ExpiredTokenError
from svid.tls.reports import OnRefused, Reports

__all__ = ["Tell", "bearer", "verify_bearer"]

_CLOCK = SystemClock()
_reports = Reports("verify_bearer")


def verify_bearer(
    header: str,
    source: TokenVerifier,
    *,
    audience: str | Collection[str],
    authorize: Authorizer,
    on_refused: OnRefused | None = None,
) -> JWTSVID:
    """Take a JWT-SVID out of an Authorization header, and check it; a refusal is reported as in LiveContext, without an address.

    Args:
        header: the header's value: `Bearer`, a space, and a token.
        audience: our own names; the token must contain at least one of them.
        on_refused: as in LiveContext.

    Raises:
        TypeError: `authorize` cannot answer.
        JWTSVIDError: there is no token, or it is not valid here and now; if it was revoked, the error is also a RevokedError.
        AuthorizationError: the token is valid, but its SPIFFE ID is not allowed.
        WorkloadAPIError: nothing can be verified now.

    Source: RFC 6750 2.1, SPIFFE JWT-SVID 5
    """
    if on_refused is not None:
        demand_answers_now(on_refused, "on_refused", "a Refusal")
    tell = partial(_reports.tell, on_refused=on_refused)
    return bearer(header, source, audience, strictly(authorize), tell=tell)


class Tell(Protocol):
    """How a guard reports a refusal."""

    def __call__(self, error: Exception, *, peer: SpiffeID | None) -> None:
        """Report it."""


def bearer(
    header: str,
    source: TokenVerifier,
    audience: str | Collection[str],
    demand_wanted: Callable[[SpiffeID], None],
    *,
    tell: Tell,
    demand_fresh: Callable[[], None] = lambda: None,
    clock: Clock = _CLOCK,
) -> JWTSVID:
    """Check an Authorization header as `verify_bearer` does, and report a refusal."""
    token, peer = "", None
    try:
        demand_fresh()
        token = _token(header)
        svid = source.verify(token, audience)
        peer = svid.spiffe_id
        demand_wanted(peer)
    except SVIDError as e:
        shown = None if peer is not None else _shown(token)
        if shown is not None and isinstance(e, RevokedError):  # revocation is checked last, so all else is valid
            tell(e, peer=shown.spiffe_id)
        elif shown is not None and isinstance(e, JWTSVIDError) and shown.expires_at <= clock.now():
            tell(ExpiredTokenError(str(e), clause=e.clause), peer=None)
        else:
            tell(e, peer=peer)
        raise
    return svid


def _token(header: str) -> str:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token or " " in token:
        raise JWTSVIDError("authorization: expected Bearer and a token")
    return token


def _shown(token: str) -> JWTSVID | None:
    """The contents of a refused token, unverified; None if it is not a JWT-SVID."""
    try:
        return JWTSVID.parse_insecure(token)
    except SVIDError:
        return None
