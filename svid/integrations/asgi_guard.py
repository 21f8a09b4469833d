"""JWT-SVIDs in front of an ASGI app: only a request with a valid token, for us and from an allowed workload, reaches the app.

It needs nothing but ASGI itself. svid/integrations/bearer checks the tokens.
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeAlias

from svid.errors import AuthorizationError, JWTSVIDError, SVIDError
from svid.integrations.bearer import bearer
from svid.source import TokenVerifier, demand_source
from svid.tls.authorize import Authorizer, strictly
from svid.tls.enforcement import Enforcement
from svid.tls.reports import OnRefused, shown_address

__all__ = ["JWTGuard"]

_UNAUTHENTICATED, _DENIED, _UNAVAILABLE = 401, 403, 503
_POLICY_VIOLATION = 1008  # RFC 6455 7.4.1

Message: TypeAlias = MutableMapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class _App(Protocol):
    async def __call__(self, scope: Message, receive: Receive, send: Send, /) -> None: ...


class JWTGuard:
    """ASGI middleware: `app.add_middleware(JWTGuard, source=source, audience="db", authorize=any_in(trust_domain))`.

    The app finds the token's JWTSVID as `request.state.jwt_svid`. A request without a valid token gets 401, and one from a workload that
    is not allowed gets 403. While tokens cannot be verified, a request gets 503. Each refusal is logged and counted as in LiveContext. The
    address comes from the ASGI server: behind a proxy, it is the proxy's.

    Args:
        refuse_after: how old the issuer's revocation data may be; None means any age, with a warning in the log.
        on_refused: as in LiveContext.

    Raises:
        TypeError: the source cannot verify JWT-SVIDs, or the authorizer cannot answer. Or `refuse_after` is given, and the source knows
            of no revocations.
    """

    def __init__(
        self,
        app: _App,
        *,
        source: TokenVerifier,
        audience: str | Collection[str],
        authorize: Authorizer,
        refuse_after: timedelta | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        demand_source(source, "verify")
        self._enforcement = Enforcement(source, point="JWTGuard", refuse_after=refuse_after, on_refused=on_refused)
        self._app = app
        self._source = source
        self._audience = audience
        self._authorize = strictly(authorize)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on to the app, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            svid = bearer(
                _authorization(scope),
                self._source,
                self._audience,
                self._authorize,
                tell=partial(self._enforcement.reports.tell, address=shown_address(scope.get("client"))),
                demand_fresh=self._enforcement.demand_fresh,
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
    """The only Authorization header; if there are several, we trust none of them."""
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
