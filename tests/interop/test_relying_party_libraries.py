"""PyJWT, joserfc and npm's jose verify our tokens by what the issuer serves, through rotations, whatever kind of key signs."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import jwt
import pytest

from svid.clock import SystemClock
from svid.errors import WorkloadAPIError
from svid.workloadapi.sources import JWTSource
from tests.doubles.joseparty import HAS_JOSE, NO_JOSE, jose
from tests.doubles.relyingparty import Discovered, Joserfc, PyJWT, RelyingParty, UntrustedTokenError
from tests.flow.published import AUDIENCE, Published

_LIBRARIES = ["PyJWT", "joserfc", pytest.param("jose", marks=pytest.mark.skipif(not HAS_JOSE, reason=NO_JOSE))]
_NEVER = 3600.0  # as far as a test goes
_ISSUER = ("--authority-spread=2s", "--authority-lifetime=10m")  # it looks every 0.6 s at what is due
_OTHER = "another"

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True, kw_only=True)
class Story:
    """A world after two rotations.

    Args:
        tokens: one of before, one of between, one of after them.
        stubborn: parties by library, which have the keys of before, and keep them whatever the issuer allows.
        reading: parties that fetched keys before as well, and keep them as long as the issuer allows.
    """

    tokens: tuple[str, str, str]
    other: str
    stubborn: Mapping[str, RelyingParty]
    reading: Mapping[str, RelyingParty]


def verified(party: RelyingParty, token: str, *, audience: str = AUDIENCE) -> str:
    """Whose token it is."""
    return str(party.verify(token, audience=audience, now=SystemClock().now())["sub"])


@pytest.fixture(scope="module", params=["ec-p256", "rsa-2048"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    world = Published(tmp_path_factory.mktemp("w"), f"--jwt-authority-key={request.param}", *_ISSUER)
    with ExitStack() as stack:
        stack.enter_context(world.running())
        source = stack.enter_context(JWTSource(f"unix://{world.workload}"))
        parties = [_parties(world, stack, keeps) for keeps in (_NEVER, None)]
        tokens = [source.fetch(AUDIENCE, fresh=True).token]
        for party in (*parties[0].values(), *parties[1].values()):
            verified(party, tokens[0])
        tokens += [world.rotate_jwt(source, AUDIENCE) for _ in range(2)]
        other = source.fetch(_OTHER).token
        yield Story(tokens=(tokens[0], tokens[1], tokens[2]), other=other, stubborn=parties[0], reading=parties[1])


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mapping[str, RelyingParty], str]]:
    """Parties that read the discovery document while only EC keys were there, and a token that an RSA key signed since."""
    directory = tmp_path_factory.mktemp("c")
    config = directory / "issuer.toml"
    config.write_text('jwt_authority_key = "ec-p256"\n')
    config.chmod(0o600)
    world = Published(directory, f"--config={config}", *_ISSUER)
    with ExitStack() as stack:
        stack.enter_context(world.running())
        source = stack.enter_context(JWTSource(f"unix://{world.workload}"))
        parties = _parties(world, stack, None)
        for party in parties.values():
            verified(party, source.fetch(AUDIENCE).token)
        world.issuer.stop()
        config.write_text('jwt_authority_key = "rsa-2048"\n')
        world.issuer.start()
        while not _is_connected(source):  # pytest's timeout ends it
            pass
        for _ in range(2):  # the next one was made before
            token = world.rotate_jwt(source, AUDIENCE)
        assert jwt.get_unverified_header(token)["alg"] == "RS256"
        yield parties, token


def _is_connected(source: JWTSource) -> bool:
    """Whether the attestor has found the issuer again."""
    try:
        source.fetch(AUDIENCE, fresh=True)
    except WorkloadAPIError:
        return False
    return True


def _parties(world: Published, stack: ExitStack, keeps: float | None) -> dict[str, RelyingParty]:
    """Parties that fetch keys only when those that they have are older than `keeps` seconds; None: than the answer allows."""
    discovered, context = Discovered(world.url, world.trusting()), world.trusting()
    parties: dict[str, RelyingParty] = {
        "PyJWT": PyJWT(discovered, context, keeps=keeps),
        "joserfc": Joserfc(discovered, keeps=keeps),
    }
    if HAS_JOSE:
        allowed = discovered.get(discovered.keys_url)[1] if keeps is None else keeps
        parties["jose"] = stack.enter_context(jose(world.url, world.authority.path, keeps=allowed, cooldown=_NEVER))
    return parties


@pytest.mark.parametrize("library", _LIBRARIES)
def test_the_keys_that_a_party_has_before_a_rotation_verify_what_is_signed_after_it(story: Story, library: str) -> None:
    before, between, _ = story.tokens
    kids = {jwt.get_unverified_header(token)["kid"] for token in story.tokens}
    assert len(kids) == 3
    party = story.stubborn[library]
    assert verified(party, before) == verified(party, between) == "spiffe://example.org/web"


@pytest.mark.parametrize("library", _LIBRARIES)
def test_a_party_that_keeps_keys_as_the_issuer_allows_verifies_old_and_new(story: Story, library: str) -> None:
    assert {verified(story.reading[library], token) for token in story.tokens} == {"spiffe://example.org/web"}


@pytest.mark.parametrize("library", _LIBRARIES)
def test_a_party_that_keeps_keys_for_longer_fails_once_two_rotations_went_by(story: Story, library: str) -> None:
    with pytest.raises(UntrustedTokenError, match=r"(?i)unable to find a signing key|no applicable key|no key for kid"):
        verified(story.stubborn[library], story.tokens[2])


@pytest.mark.parametrize("library", _LIBRARIES)
def test_a_token_for_another_audience_is_refused(story: Story, library: str) -> None:
    party = story.reading[library]
    assert verified(party, story.other, audience=_OTHER)
    with pytest.raises(UntrustedTokenError, match=r"(?i)aud"):
        verified(party, story.other)


@pytest.mark.parametrize("library", _LIBRARIES)
def test_a_token_with_the_claims_of_another_one_is_refused(story: Story, library: str) -> None:
    head, _, signature = story.other.split(".")
    with pytest.raises(UntrustedTokenError, match=r"(?i)signature"):
        verified(story.reading[library], f"{head}.{story.tokens[2].split('.')[1]}.{signature}")


@pytest.mark.parametrize("library", _LIBRARIES)
def test_a_party_that_knows_the_document_of_before_takes_another_kind_of_key(
    changed: tuple[Mapping[str, RelyingParty], str], library: str
) -> None:
    parties, token = changed
    assert verified(parties[library], token) == "spiffe://example.org/web"
