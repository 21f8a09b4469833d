"""`TokenExchange` at providers whose relying parties are PyJWT, joserfc and npm's jose: through rotations, and where clocks differ."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest

from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_profiles import generic_profile
from svid.workloadapi.sources import JWTSource
from tests.doubles.joseparty import HAS_JOSE, NO_JOSE, jose
from tests.doubles.provider import AUDIENCE, ProviderDouble, error_of, provider
from tests.doubles.relyingparty import Discovered, Joserfc, PyJWT, RelyingParty
from tests.flow.published import Published

_ROTATIONS = 2
_EXCHANGES = 60  # at each provider, at least
_PAUSE = 0.05  # seconds between two exchanges at one provider
_NEVER = 3600.0  # as far as a test goes

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """Its keys may be kept for 4 s, and are published 8 s before they sign."""
    world = Published(tmp_path_factory.mktemp("w"), "--authority-spread=8s", "--authority-lifetime=10m")
    with world.running():
        yield world


@contextmanager
def party_of(library: str, world: Published) -> Iterator[RelyingParty]:
    """A party that keeps keys exactly as long as the issuer allows, and fetches none because it does not know one."""
    discovered, context = Discovered(world.url, world.trusting()), world.trusting()
    match library:
        case "PyJWT":
            yield PyJWT(discovered, context)
        case "joserfc":
            yield Joserfc(discovered)
        case _:
            keeps = discovered.get(discovered.keys_url)[1]
            with jose(world.url, world.authority.path, keeps=keeps, cooldown=_NEVER) as party:
                yield party


@contextmanager
def bank_of(library: str, world: Published) -> Iterator[ProviderDouble]:
    with party_of(library, world) as party, provider(party, world.authority.server_context()) as bank:
        bank.audience = AUDIENCE
        yield bank


def exchange_at(bank: ProviderDouble, world: Published, source: JWTSource) -> TokenExchange:
    return TokenExchange(generic_profile(bank.url, AUDIENCE), source, context=world.trusting())


def test_no_exchange_fails_while_the_authority_rotates(world: Published) -> None:
    libraries = ["PyJWT", "joserfc", *(["jose"] if HAS_JOSE else [])]
    is_over, failures = threading.Event(), list[Exception]()
    with ExitStack() as stack:
        source = stack.enter_context(JWTSource(f"unix://{world.workload}"))
        banks = [stack.enter_context(bank_of(library, world)) for library in libraries]

        def has_enough(bank: ProviderDouble) -> bool:
            return len(bank.given) >= _EXCHANGES and len(set(bank.demands.kids)) > _ROTATIONS

        def keep_exchanging(bank: ProviderDouble) -> None:
            exchange = exchange_at(bank, world, source)
            while not (is_over.wait(_PAUSE) and has_enough(bank)):  # pytest's timeout ends it
                try:
                    exchange.token()
                except Exception as e:  # noqa: BLE001 - it is raised below
                    failures.append(e)
                    return
                exchange.forget()

        threads = [threading.Thread(target=keep_exchanging, args=(bank,)) for bank in banks]
        for thread in threads:
            thread.start()
        try:
            for _ in range(_ROTATIONS):
                world.rotate_jwt(source, AUDIENCE)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        assert not failures
        for bank in banks:
            assert len(bank.given) == len(bank.asked) == len(bank.demands.kids) >= _EXCHANGES
            assert len(dict.fromkeys(bank.demands.kids)) == 1 + _ROTATIONS


_WITH_CLOCK = ["joserfc", pytest.param("jose", marks=pytest.mark.skipif(not HAS_JOSE, reason=NO_JOSE))]


@pytest.mark.parametrize("library", _WITH_CLOCK)
@pytest.mark.parametrize(
    ("ahead", "reason", "clocks"),
    [
        (timedelta(seconds=-30), "issued in the future|should be in the past", "ahead of"),
        (timedelta(minutes=6), "expired|exp", "behind"),
    ],
)
def test_a_refusal_because_of_the_time_names_the_clocks(
    library: str, ahead: timedelta, reason: str, clocks: str, world: Published
) -> None:
    with bank_of(library, world) as bank, JWTSource(f"unix://{world.workload}") as source:
        bank.ahead = ahead
        error = error_of(exchange_at(bank, world, source), rf"{reason}.*our clock is \d+ s {clocks} the provider's")
    assert error.code == "invalid_grant"


@pytest.mark.parametrize("library", _WITH_CLOCK)
def test_a_provider_whose_clock_is_ahead_takes_a_token_until_its_end(library: str, world: Published) -> None:
    with bank_of(library, world) as bank, JWTSource(f"unix://{world.workload}") as source:
        bank.ahead = timedelta(seconds=30)
        assert exchange_at(bank, world, source).token().value == "access-0"
