"""What every guard of tokens tells of a refusal: one warning, one count, one call of `on_refused`."""

import asyncio
import contextlib

import httpx
import pytest

from svid.integrations.asgi_guard import JWTGuard
from svid.integrations.bearer import verify_bearer
from svid.tls.authorize import exactly
from svid.tls.reports import OnRefused, Reason, refusal_counts
from tests.contract.refusals import Told, check, counted, hello_app
from tests.doubles.identity import CLIENT, SERVER, KnowingTokens
from tests.doubles.trustdomain import TrustDomainDouble


def by_guard(source: KnowingTokens, header: str, on_refused: OnRefused) -> int:
    guard = JWTGuard(hello_app, source=source, audience="db", authorize=exactly(SERVER), on_refused=on_refused)  # type: ignore[arg-type]  # an ASGI app

    async def ask() -> int:
        transport = httpx.ASGITransport(guard, client=("192.0.2.7", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as one:
            return (await one.get("/", headers={"authorization": header})).status_code

    return asyncio.run(ask())


def by_function(source: KnowingTokens, header: str, on_refused: OnRefused) -> int:
    with contextlib.suppress(Exception):
        verify_bearer(header, source, audience="db", authorize=exactly(SERVER), on_refused=on_refused)
        return 200
    return 0


GUARDS = {"JWTGuard": by_guard, "verify_bearer": by_function}


@pytest.mark.parametrize("point", GUARDS)
@pytest.mark.parametrize("reason", [Reason.NOT_ALLOWED, Reason.REVOKED, Reason.EXPIRED, Reason.UNAUTHENTICATED])
def test_a_guard_tells_of_a_token_that_it_refuses(
    point: str, reason: Reason, domain: TrustDomainDouble, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    source, number = KnowingTokens(domain.bundle), 7
    tokens = {
        Reason.NOT_ALLOWED: domain.token("/client", "db"),
        Reason.REVOKED: domain.token("/server", "db", jti=f"{number:032x}"),
        Reason.EXPIRED: TrustDomainDouble(now=domain.now.replace(year=2020)).token("/server", "db"),
        Reason.UNAUTHENTICATED: "a.b.c",
    }
    source.revoke(domain.name, number)
    before = counted(point, reason)
    assert GUARDS[point](source, f"Bearer {tokens[reason]}", told) in {0, 401, 403}
    refusal = told.one()
    peers = {Reason.NOT_ALLOWED: CLIENT, Reason.REVOKED: SERVER}
    assert (refusal.point, refusal.reason, refusal.peer) == (point, reason, peers.get(reason))
    assert refusal.address == ("192.0.2.7:4711" if point == "JWTGuard" else "")
    assert tokens[reason] not in caplog.text
    if point == "JWTGuard":
        check(refusal, caplog, before)
    assert refusal_counts()[point, reason] == before + 1
