"""JWT-SVIDs at the door of an ASGI app: who has no valid one for us, and is not wanted, does not come in.

Needs nothing but ASGI itself. Whether a token is valid is svid/jwtsvid's; who is wanted, the authorizer's.
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from datetime import timedelta
from typing import Protocol, TypeAlias

from svid.errors import AuthorizationError, JWTSVIDError, SVIDError
from svid.jwtsvid import JWTSVID
from svid.source import TokenVerifier, demand_source
from svid.tls.authorize import Authorizer, strictly
from svid.tls.enforcement import Enforcement

__all__ = ["JWTGuard", "verify_bearer"]

_UNAUTHENTICATED, _DENIED, _UNAVAILABLE = 401, 403, 503
_POLICY_VIOLATION = 1008  # RFC 6455 7.4.1

Message: TypeAlias = MutableMapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class _App(Protocol):
    async def __call__(self, scope: Message, receive: Receive, send: Send, /) -> None: ...


def verify_bearer(
    header: str, source: TokenVerifier, *, audience: str | Collection[str], authorize: Authorizer
) -> JWTSVID:
    """Take a JWT-SVID out of an Authorization header, and check it.

    Args:
        header: its value: `Bearer`, a blank, a token.
        audience: what we are called; one of these must be in the token.

    Raises:
        TypeError: `authorize` cannot answer.
        JWTSVIDError: there is no token, or it is not valid here and now; where it was revoked, a RevokedError, too.
        AuthorizationError: it is valid, and its SPIFFE ID is not wanted.
        WorkloadAPIError: nothing can be verified now.

    Source: RFC 6750 2.1, SPIFFE JWT-SVID 5
    """
    demand_wanted = strictly(authorize)
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token or " " in token:
        raise JWTSVIDError("authorization: expected Bearer and a token")
    svid = source.verify(token, audience)
    demand_wanted(svid.spiffe_id)
    return svid


class JWTGuard:
    """ASGI middleware: `app.add_middleware(JWTGuard, source=source, audience="db", authorize=any_in(trust_domain))`.

    The app finds the token's JWTSVID as `request.state.jwt_svid`. Without a valid one a request is answered 401, with one of somebody who
    is not wanted 403, and 503 while nothing can be verified.

    Args:
        refuse_after: how old the issuer's last word on revocations may be; None: as old as it is, with a warning in the log.

    Raises:
        TypeError: no source of JWT-SVIDs, or an authorizer that cannot answer. Or `refuse_after`, of a source that knows of no revocations.
    """

    def __init__(
        self,
        app: _App,
        *,
        source: TokenVerifier,
        audience: str | Collection[str],
        authorize: Authorizer,
        refuse_after: timedelta | None = None,
    ) -> None:
        demand_source(source, "verify")
        self._enforcement = Enforcement(source, point="JWTGuard", refuse_after=refuse_after)
        self._app = app
        self._source = source
        self._audience = audience
        self._authorize = strictly(authorize)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            self._enforcement.demand_fresh()
            svid = verify_bearer(
                _authorization(scope), self._source, audience=self._audience, authorize=self._authorize
            )
        except AuthorizationError:
            await _refuse(scope, send, _DENIED, b"forbidden")
        except JWTSVIDError:
            await _refuse(scope, send, _UNAUTHENTICATED, b"unauthorized")
        except SVIDError:
            await _refuse(scope, send, _UNAVAILABLE, b"service unavailable")
        else:
            state = scope.setdefault("state", {})
            if isinstance(state, MutableMapping):
                state["jwt_svid"] = svid
            await self._app(scope, receive, send)


def _authorization(scope: Message) -> str:
    """The one Authorization header; of several none can be trusted."""
    headers = scope["headers"]
    found = (
        [value for name, value in headers if name.lower() == b"authorization"]
        if isinstance(headers, list | tuple)
        else []
    )
    return found[0].decode("latin-1") if len(found) == 1 else ""


async def _refuse(scope: Message, send: Send, status: int, text: bytes) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
    if status == _UNAUTHENTICATED:
        headers.append((b"www-authenticate", b'Bearer error="invalid_token"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
