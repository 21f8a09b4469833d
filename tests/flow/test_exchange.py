"""JWT-SVIDs of a real issuer and attestor, exchanged at a provider that knows the issuer's keys and takes each JWT-SVID once."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from bench.rig.webca import WebAuthority
from svid.errors import WorkloadAPIError
from svid.integrations.exchange import AccessToken, TokenExchange
from svid.integrations.exchange_profiles import generic_profile
from svid.jwtsvid import JWTSVID
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.sources import JWTSource
from tests.doubles.provider import AUDIENCE, ISSUER, ProviderDouble, error_of, provider
from tests.flow.twodaemons import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("w"), f"--jwt-issuer={ISSUER}")
    with world.running():
        yield world


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> WebAuthority:
    return WebAuthority(tmp_path_factory.mktemp("web"))


@pytest.fixture
def bank(world: World, authority: WebAuthority) -> Iterator[ProviderDouble]:
    keys = world.run("bundle", "show", "--format=jwks").stdout.encode()
    with provider(keys, authority.server_context()) as double:
        double.audience = AUDIENCE
        yield double


def test_every_exchange_sends_a_fresh_token_whatever_the_attestor_keeps(
    world: World, bank: ProviderDouble, authority: WebAuthority
) -> None:
    with JWTSource(f"unix://{world.workload}") as source:
        kept = source.fetch(AUDIENCE)
        exchange = TokenExchange(generic_profile(bank.url, AUDIENCE), source, context=authority.client_context())
        for _ in range(5):
            assert exchange.token().value == bank.given[-1]
            exchange.forget()
        assert source.fetch(AUDIENCE).token == kept.token
    assert len({kept.token, *bank.assertions()}) == 6


def test_no_token_is_given_any_more_after_its_identity_was_revoked_or_its_source_closed(
    world: World, bank: ProviderDouble, authority: WebAuthority
) -> None:
    with JWTSource(f"unix://{world.workload}") as source:
        exchange = TokenExchange(generic_profile(bank.url, AUDIENCE), source, context=authority.client_context())
        first = exchange.token()
        sent = str(JWTSVID.parse_insecure(bank.assertions()[0]).jti)
        assert world.run("revoke", "svid", sent, "--wait").returncode == 0
        second = exchange.token()
        assert second is not first
        assert exchange.token() is second
        assert world.run("revoke", "spiffe-id", "/web", "--wait").returncode == 0
        with pytest.raises(WorkloadAPIError) as gone:
            exchange.token()
        assert gone.value.code == "PERMISSION_DENIED"
        (blocks, *_) = world.listed("revoke", "revocations")
        world.command("revoke", "lift", str(blocks["number"]))
        third = until_given(exchange)
        assert exchange.token() is third
    with pytest.raises(WorkloadAPIError, match="already closed"):
        exchange.token()


def until_given(exchange: TokenExchange) -> AccessToken:
    while True:  # pytest's timeout ends it
        with suppress(WorkloadAPIError):
            return exchange.token()


PROGRAM = """
import ssl, sys
from svid import JWTSource, TokenExchange, generic_profile
with JWTSource(sys.argv[1]) as source:
    context = ssl.create_default_context(cafile=sys.argv[2])
    print(TokenExchange(generic_profile(sys.argv[3], sys.argv[4]), source, context=context).token().value)
"""


def test_processes_of_one_identity_never_send_the_same_token(
    world: World, bank: ProviderDouble, authority: WebAuthority
) -> None:
    socket = f"unix://{world.workload}"
    arguments = [sys.executable, "-c", PROGRAM, socket, str(authority.path), bank.url, AUDIENCE]
    programs = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [program.communicate(timeout=50)[0].strip() for program in programs]
    assert sorted(outputs) == sorted(bank.given)
    assert len(set(outputs)) == 4


def test_fresh_tokens_of_two_calls_at_once_differ(world: World) -> None:
    with WorkloadAPIClient(f"unix://{world.workload}") as client:
        tokens = [client.fetch_jwt_svid(AUDIENCE, fresh=fresh).jti for fresh in (False, True, True, False)]
    assert tokens[0] == tokens[3]
    assert len(set(tokens)) == 3


def test_a_token_of_an_issuer_without_a_name_is_not_sent(
    tmp_path_factory: pytest.TempPathFactory, bank: ProviderDouble, authority: WebAuthority
) -> None:
    nameless = World(tmp_path_factory.mktemp("n"))
    with nameless.running(), JWTSource(f"unix://{nameless.workload}") as source:
        exchange = TokenExchange(generic_profile(bank.url, AUDIENCE), source, context=authority.client_context())
        error_of(exchange, "the JWT-SVID has no iss; the issuer's jwt_issuer is not set")
    assert not bank.asked
