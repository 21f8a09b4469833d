"""svid/integrations/asgi_guard and bearer: who comes in with a JWT-SVID, and what the others are answered."""

from collections.abc import Collection, Mapping
from datetime import timedelta

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from svid.clock import SystemClock
from svid.errors import AuthorizationError, JWTSVIDError, WorkloadAPIError
from svid.integrations.asgi_guard import JWTGuard
from svid.integrations.bearer import verify_bearer
from svid.jwtsvid import JWTSVID, verify
from svid.spiffeid import SpiffeID
from svid.tls.authorize import Authorizer, exactly
from svid.tls.refusals import UnknownCallersError
from tests.doubles.identity import KnowingTokens
from tests.doubles.trustdomain import TrustDomainDouble

WEB = SpiffeID.parse("spiffe://example.org/web")


class Tokens:
    """A svid.source.TokenVerifier of one trust domain; a test takes it away."""

    def __init__(self, domain: TrustDomainDouble) -> None:
        self._bundles = {domain.name: domain.bundle}
        self.is_away = False

    def verify(self, token: str, audience: str | Collection[str]) -> JWTSVID:
        if self.is_away:
            raise WorkloadAPIError("away", code="UNAVAILABLE")
        return verify(token, self._bundles.get, audience=audience, at=SystemClock().now())


@pytest.fixture(scope="module")
def domain() -> TrustDomainDouble:
    return TrustDomainDouble()


@pytest.fixture
def tokens(domain: TrustDomainDouble) -> Tokens:
    return Tokens(domain)


@pytest.fixture
def app(tokens: Tokens) -> Starlette:
    async def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(request.state.jwt_svid.spiffe_id))

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(str(websocket.state.jwt_svid.spiffe_id))
        await websocket.close()

    guard = Middleware(JWTGuard, source=tokens, audience="db", authorize=exactly(WEB))  # type: ignore[arg-type]  # Starlette's own ASGI types
    return Starlette(routes=[Route("/", who), WebSocketRoute("/talk", talk)], middleware=[guard])


def guarded(tokens: Tokens, authorize: Authorizer) -> Starlette:
    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    guard = Middleware(JWTGuard, source=tokens, audience="db", authorize=authorize)  # type: ignore[arg-type]  # Starlette's own ASGI types
    return Starlette(routes=[Route("/", hello)], middleware=[guard])


async def ask(app: Starlette, *authorizations: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://db") as client:
        return await client.get("/", headers=[("authorization", value) for value in authorizations])


async def test_a_valid_token_of_somebody_wanted_comes_in(app: Starlette, domain: TrustDomainDouble) -> None:
    answer = await ask(app, f"Bearer {domain.token('/web', 'db')}")
    assert (answer.status_code, answer.text) == (200, str(WEB))


async def test_somebody_who_is_not_wanted_is_forbidden(app: Starlette, domain: TrustDomainDouble) -> None:
    assert (await ask(app, f"Bearer {domain.token('/other', 'db')}")).status_code == 403


async def test_while_it_is_not_known_who_may_call_nobody_can_be_served(
    tokens: Tokens, domain: TrustDomainDouble
) -> None:
    def unknown(_: SpiffeID) -> None:
        raise UnknownCallersError("callers: not said yet")

    assert (await ask(guarded(tokens, unknown), f"Bearer {domain.token('/web', 'db')}")).status_code == 503


@pytest.mark.parametrize(
    "authorizations",
    [(), ("",), ("Bearer",), ("Bearer a b",), ("Basic dXNlcjpwYXNz",), ("Bearer not-a-token",)],
    ids=str,
)
async def test_without_a_token_the_way_to_get_in_is_told(app: Starlette, authorizations: tuple[str, ...]) -> None:
    answer = await ask(app, *authorizations)
    assert (answer.status_code, answer.text) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_a_token_for_another_audience_of_the_past_or_of_strangers_is_none(
    app: Starlette, domain: TrustDomainDouble
) -> None:
    assert (await ask(app, f"Bearer {domain.token('/web', 'mail')}")).status_code == 401
    past = domain.token("/web", "db", lifetime=-timedelta(minutes=1))
    assert (await ask(app, f"Bearer {past}")).status_code == 401
    assert (await ask(app, f"Bearer {TrustDomainDouble('other.org').token('/web', 'db')}")).status_code == 401


async def test_of_two_headers_none_is_trusted(app: Starlette, domain: TrustDomainDouble) -> None:
    header = f"Bearer {domain.token('/web', 'db')}"
    assert (await ask(app, header, header)).status_code == 401


async def test_nobody_comes_in_while_nothing_can_be_verified(
    app: Starlette, tokens: Tokens, domain: TrustDomainDouble
) -> None:
    tokens.is_away = True
    assert (await ask(app, f"Bearer {domain.token('/web', 'db')}")).status_code == 503


async def call(app: Starlette, scope: Mapping[str, object], *received: Mapping[str, object]) -> list[object]:
    """Drive the app as a server does; what it sent, each by its type."""
    waiting, sent = iter(received), []

    async def receive() -> Mapping[str, object]:
        return next(waiting)

    async def send(message: Mapping[str, object]) -> None:
        sent.append(message["type"])

    await app(dict(scope), receive, send)  # type: ignore[arg-type]  # Starlette's own ASGI types
    return sent


async def test_a_websocket_needs_a_token_too(app: Starlette, domain: TrustDomainDouble) -> None:
    header = (b"authorization", f"bearer {domain.token('/web', 'db')}".encode())
    scope = {"type": "websocket", "path": "/talk", "query_string": b"", "subprotocols": []}
    assert await call(app, {**scope, "headers": []}) == ["websocket.close"]
    sent = await call(app, {**scope, "headers": [header]}, {"type": "websocket.connect"})
    assert sent == ["websocket.accept", "websocket.send", "websocket.close"]


async def test_the_app_s_own_start_and_end_need_no_token(app: Starlette) -> None:
    begun = await call(app, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert begun == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_check_by_itself_gives_the_svid(tokens: Tokens, domain: TrustDomainDouble) -> None:
    header = f"Bearer {domain.token('/web', 'db')}"
    assert verify_bearer(header, tokens, audience="db", authorize=exactly(WEB)).spiffe_id == WEB
    with pytest.raises(JWTSVIDError, match="expected Bearer and a token"):
        verify_bearer("", tokens, audience="db", authorize=exactly(WEB))


def fail(_: SpiffeID) -> None:
    raise JWTSVIDError("a bug of the service's")


@pytest.mark.parametrize(
    ("authorize", "status"),
    [
        (lambda _: True, 200),
        (lambda _: None, 200),
        (lambda _: False, 403),
        (lambda _: 1, 403),
        (lambda _: "", 403),
        (fail, 403),
    ],
)
async def test_an_authorizer_lets_in_by_true_or_none_alone(
    authorize: Authorizer, status: int, tokens: Tokens, domain: TrustDomainDouble
) -> None:
    answer = await ask(guarded(tokens, authorize), f"Bearer {domain.token('/web', 'db')}")
    assert answer.status_code == status


def test_the_check_by_itself_refuses_whom_a_predicate_refuses(tokens: Tokens, domain: TrustDomainDouble) -> None:
    header = f"Bearer {domain.token('/web', 'db')}"
    with pytest.raises(AuthorizationError):
        verify_bearer(header, tokens, audience="db", authorize=lambda _: False)


async def later(_: SpiffeID) -> bool:
    return True


def test_a_guard_is_not_made_of_something_else(tokens: Tokens, app: Starlette) -> None:
    for source, authorize in ((exactly(WEB), tokens), (tokens, WEB), (tokens, None), (tokens, later)):
        with pytest.raises(TypeError, match="expected"):
            JWTGuard(app, source=source, audience="db", authorize=authorize)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="expected"):
        verify_bearer("Bearer x", tokens, audience="db", authorize=later)  # type: ignore[arg-type]  # the mistake


def guarded_by(tokens: KnowingTokens, refuse_after: timedelta | None = None) -> Starlette:
    """An app behind a guard that goes by these."""

    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    options = {"source": tokens, "audience": "db", "authorize": exactly(WEB), "refuse_after": refuse_after}
    return Starlette(routes=[Route("/", hello)], middleware=[Middleware(JWTGuard, **options)])  # type: ignore[arg-type]  # Starlette's own ASGI types


async def test_a_denied_token_is_answered_401(domain: TrustDomainDouble) -> None:
    tokens = KnowingTokens(domain.bundle)
    app = guarded_by(tokens)
    token = "Bearer " + domain.token("/web", "db", jti=f"{7:032x}")
    assert (await ask(app, token)).status_code == 200
    assert tokens.points == ["JWTGuard"]
    tokens.revoke(domain.name, 7)
    assert (await ask(app, token)).status_code == 401
    assert (await ask(app, "Bearer " + domain.token("/web", "db", jti=f"{8:032x}"))).status_code == 200


async def test_an_old_truth_is_answered_503_where_that_is_wanted(domain: TrustDomainDouble) -> None:
    tokens = KnowingTokens(domain.bundle)
    token = f"Bearer {domain.token('/web', 'db')}"
    tokens.age = timedelta(minutes=2)
    assert (await ask(guarded_by(tokens), token)).status_code == 200
    assert (await ask(guarded_by(tokens, timedelta(minutes=1)), token)).status_code == 503
