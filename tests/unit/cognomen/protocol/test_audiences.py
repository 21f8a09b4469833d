"""The bound on the audiences of a JWT-SVID, which both doors and the verifiers' own bound share."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cognomen.protocol.audiences import MAX_SUM_BYTES, MUST_LIST, check_audiences, not_for
from cognomen.protocol.errors import Kind, Refused
from issuer.decisions import profile
from issuer.signing import JWTSigner
from svid.jwtsvid import JWTSVID
from svid.keys import KeyKind
from svid.spiffeid import SpiffeID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, an_entry, jwt_authority
from tests.doubles.recorded import recorded

AUTHORITY = jwt_authority(kind=KeyKind.EC_P384, key_id="jwt-" + "k" * 60)
LONGEST = SpiffeID.parse(f"spiffe://{TRUST_DOMAIN}/" + "p" * (2048 - len(f"spiffe://{TRUST_DOMAIN}/")))
characters = st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(0x20)), "\x7f"])


def token_for(audiences: tuple[str, ...]) -> str:
    validity = profile.validity(NOW, timedelta(minutes=5), AUTHORITY.authority)
    entry = replace(an_entry(), spiffe_id=LONGEST)
    draft = profile.build_jwt(entry, audiences, jti="f" * 32, validity=validity)
    return JWTSigner(AUTHORITY.key).sign(recorded(draft, AUTHORITY))


@pytest.mark.parametrize("audiences", [["a"], ["a"] * 16, ["é" * 512], ["a" * 128] * 16])
def test_audiences_within_bounds_pass(audiences: list[str]) -> None:
    check_audiences(audiences, field="audiences")


@pytest.mark.parametrize(
    ("audiences", "reason"),
    [
        ([], "audience: expected 1 to 16, found 0"),
        (["a"] * 17, "audience: expected 1 to 16, found 17"),
        ([""], "audience: expected 1 to 1024 bytes each, found 0"),
        (["a", "b" * 1025], "audience: expected 1 to 1024 bytes each, found 1025"),
        (["é" * 513], "audience: expected 1 to 1024 bytes each, found 1026"),
        (["a" * 1000] * 16, "audience: expected at most 2048 bytes together, found 16000"),
        (["a" * 129, *["a" * 128] * 15], "audience: expected at most 2048 bytes together, found 2049"),
        (["a\0"], "audience: control characters are not allowed"),
        (["\x1f"], "audience: control characters are not allowed"),
        (["\x7f"], "audience: control characters are not allowed"),
    ],
)
def test_audiences_out_of_bounds_are_refused(audiences: list[str], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        check_audiences(audiences, field="audience")
    assert (refused.value.kind, refused.value.detail) == (Kind.INVALID, reason)


@given(st.lists(st.text(characters, min_size=1, max_size=200), min_size=1, max_size=16))
def test_a_token_for_whatever_passes_is_one_that_verifiers_read(audiences: list[str]) -> None:
    assume(sum(len(audience.encode()) for audience in audiences) <= MAX_SUM_BYTES)
    check_audiences(audiences, field="audiences")
    assert JWTSVID.parse_insecure(token_for(tuple(audiences))).audiences == tuple(audiences)


@pytest.mark.parametrize("character", ["é", '"', "\\", "\U0001f600", "\u4e2d"])
def test_also_for_those_that_json_makes_longest(character: str) -> None:
    each = character * (128 // len(character.encode()))
    check_audiences([each] * 16, field="audiences")
    assert JWTSVID.parse_insecure(token_for((each,) * 16)).spiffe_id == LONGEST


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        ((), "gets no token for db, and for no other"),
        (("b", "a"), "gets no token for db, only for a, b"),
        (tuple("abcdefg"), "gets no token for db, only for a, b, c, d, e and 2 more"),
    ],
)
def test_a_refused_audience_says_which_are_allowed(allowed: tuple[str, ...], words: str) -> None:
    refused = not_for("/web", allowed, ["db"])
    assert (refused.kind, refused.detail, refused.hint) == (Kind.DENIED, f"audiences: /web {words}", MUST_LIST)
