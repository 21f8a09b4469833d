from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svid.errors import SpiffeIDError
from svid.spiffeid import MAX_ID_BYTES, MAX_TRUST_DOMAIN_BYTES, SpiffeID, TrustDomain

NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
SEGMENT_CHARACTERS = NAME_CHARACTERS + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

names = st.text(NAME_CHARACTERS, min_size=1, max_size=MAX_TRUST_DOMAIN_BYTES)
segments = st.text(SEGMENT_CHARACTERS, min_size=1, max_size=40).filter(lambda text: text not in {".", ".."})
ids = st.builds(
    lambda name, parts: SpiffeID.from_segments(TrustDomain(name), *parts), names, st.lists(segments, max_size=20)
)


@given(ids)
def test_an_id_written_and_parsed_is_the_same(spiffe_id: SpiffeID) -> None:
    assert SpiffeID.parse(str(spiffe_id)) == spiffe_id


@given(st.text())
def test_any_text_is_an_id_or_our_error(text: str) -> None:
    with suppress(SpiffeIDError):
        assert str(SpiffeID.parse(text)) == text


@pytest.mark.parametrize("byte", range(256))
def test_a_trust_domain_holds_only_the_characters_of_the_grammar(byte: int) -> None:
    character = chr(byte)
    if character in NAME_CHARACTERS:
        assert TrustDomain(f"a{character}b").name == f"a{character}b"
    else:
        with pytest.raises(SpiffeIDError):
            TrustDomain(f"a{character}b")


@pytest.mark.parametrize("byte", set(range(256)) - {ord("/")})
def test_a_path_holds_only_the_characters_of_the_grammar(byte: int) -> None:
    text = f"spiffe://example.org/a{chr(byte)}b"
    if chr(byte) in SEGMENT_CHARACTERS:
        assert str(SpiffeID.parse(text)) == text
    else:
        with pytest.raises(SpiffeIDError):
            SpiffeID.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://example.org/a\n",
        "spiffe://example.org\n",
        "\nspiffe://example.org/a",
        " spiffe://example.org/a",
        "spiffe://example.org/a b",
        "spiffe://e\u212aample.org/a",  # KELVIN SIGN, which lower-cases to k
        "spiffe://example.org/\uff41",
        "spiffe:///a",
        "spiffe://",
        "spiffe:/example.org/a",
        "example.org/a",
        "",
    ],
)
def test_what_only_looks_like_an_id_is_refused(text: str) -> None:
    with pytest.raises(SpiffeIDError):
        SpiffeID.parse(text)


def test_a_path_without_leading_slash_is_refused() -> None:
    with pytest.raises(SpiffeIDError, match="expected a leading /, found 'a'"):
        SpiffeID(trust_domain=TrustDomain("example.org"), path="a")


def test_an_id_put_together_is_as_long_as_a_parsed_one_may_be() -> None:
    trust_domain = TrustDomain("example.org")
    room = MAX_ID_BYTES - len("spiffe://example.org/")
    assert len(str(SpiffeID.from_segments(trust_domain, "a" * room))) == MAX_ID_BYTES
    with pytest.raises(SpiffeIDError, match="expected at most 2048 bytes, found 2049"):
        SpiffeID.from_segments(trust_domain, "a" * (room + 1))


def test_a_text_that_is_longer_is_not_even_looked_at() -> None:
    with pytest.raises(SpiffeIDError, match="SPIFFE ID: expected at most 2048 bytes, found 2049"):
        SpiffeID.parse("?" * (MAX_ID_BYTES + 1))


def test_a_trust_domain_of_256_bytes_is_refused() -> None:
    assert len(TrustDomain("a" * MAX_TRUST_DOMAIN_BYTES).id.trust_domain.name) == MAX_TRUST_DOMAIN_BYTES
    with pytest.raises(SpiffeIDError, match="trust domain: expected at most 255 bytes, found 256"):
        TrustDomain("a" * (MAX_TRUST_DOMAIN_BYTES + 1))


@pytest.mark.parametrize("segment", ["", ".", "..", "a/b", "/", "a%2fb"])
def test_a_segment_cannot_smuggle_in_another(segment: str) -> None:
    with pytest.raises(SpiffeIDError):
        SpiffeID.from_segments(TrustDomain("example.org"), "agent", segment)


def test_a_trust_domain_is_parsed_from_its_name_or_its_id() -> None:
    assert TrustDomain.parse("example.org") == TrustDomain.parse("spiffe://example.org") == TrustDomain("example.org")


@pytest.mark.parametrize("text", ["spiffe://example.org/", "spiffe://example.org/a", "spiffe://spiffe://a", ""])
def test_an_id_with_a_path_is_no_trust_domain(text: str) -> None:
    with pytest.raises(SpiffeIDError):
        TrustDomain.parse(text)


def test_the_id_of_a_trust_domain_has_no_path() -> None:
    assert str(TrustDomain("example.org").id) == "spiffe://example.org"
    assert str(TrustDomain("example.org")) == "example.org"


def test_membership_is_equality_of_the_whole_name() -> None:
    spiffe_id = SpiffeID.parse("spiffe://example.org/a")
    assert spiffe_id.is_member_of(TrustDomain("example.org"))
    assert not spiffe_id.is_member_of(TrustDomain("org"))


def test_a_prefix_ends_at_a_segment() -> None:
    spiffe_id = SpiffeID.parse("spiffe://example.org/a/b")
    assert spiffe_id.is_below("/a")
    assert not spiffe_id.is_below("/a/b")
    assert not SpiffeID.parse("spiffe://example.org/ab").is_below("/a")


ID = SpiffeID.parse("spiffe://example.org/a")
TEXTS: list[object] = ["spiffe://example.org/a", "spiffe://example.org/b"]


@pytest.mark.parametrize(
    "compare",
    [
        lambda: ID == "spiffe://example.org/a",
        lambda: ID != "spiffe://example.org/a",
        lambda: "spiffe://example.org/a" != ID,  # noqa: SIM300 - the other way round
        lambda: ID in TEXTS,
        lambda: ID not in set(TEXTS),
        lambda: dict.fromkeys(TEXTS, True).get(ID),
        lambda: ID.trust_domain != "example.org",
        lambda: ID.trust_domain in {"example.org", "example.net"},
        lambda: ID == b"spiffe://example.org/a",
    ],
)
def test_a_comparison_with_a_text_is_a_mistake_that_shows(compare: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="cannot be compared with text"):
        compare()


def test_other_things_are_another_thing() -> None:
    assert ID.trust_domain != ID
    assert ID.trust_domain != ID
    assert ID is not None
    assert ID != 1
    assert len({ID, SpiffeID.parse(str(ID)), ID.trust_domain}) == 2
