"""SPIFFE-ID 2: the grammar of IDs and trust domain names."""

import pytest

from svid.errors import SpiffeIDError
from svid.spiffeid import SpiffeID, TrustDomain


def refused(text: str) -> bool:
    try:
        SpiffeID.parse(text)
    except SpiffeIDError:
        return True
    return False


@pytest.mark.clause("ID-01")
@pytest.mark.parametrize("text", ["https://example.org/a", "spiffe:example.org/a", "//example.org/a", "spiffee://a/b"])
def test_another_scheme_is_refused(text: str) -> None:
    assert refused(text)


@pytest.mark.clause("ID-02")
@pytest.mark.parametrize("text", ["spiffe://", "spiffe:///a"])
def test_an_empty_trust_domain_is_refused(text: str) -> None:
    assert refused(text)


@pytest.mark.clause("ID-03")
@pytest.mark.parametrize("tail", ["?", "#", "?a=b", "#a", "/a?", "/a#"])
def test_query_and_fragment_are_refused_empty_ones_too(tail: str) -> None:
    assert refused(f"spiffe://example.org{tail}")


@pytest.mark.clause("ID-04")
@pytest.mark.parametrize(
    "host", ["user@example.org", "@example.org", "example.org:", "example.org:443", "u:p@example.org"]
)
def test_userinfo_and_port_are_refused_empty_ones_too(host: str) -> None:
    assert refused(f"spiffe://{host}/a")


@pytest.mark.clause("ID-05", "ID-18")
@pytest.mark.parametrize("text", ["spiffe://EXAMPLE.org/a", "spiffe://e\u212aample.org/a", "SPIFFE://example.org/a"])
def test_upper_case_in_scheme_and_trust_domain_is_refused_not_folded(text: str) -> None:
    assert refused(text)


@pytest.mark.clause("ID-18")
def test_the_path_keeps_its_case() -> None:
    assert SpiffeID.parse("spiffe://example.org/A") != SpiffeID.parse("spiffe://example.org/a")


@pytest.mark.clause("ID-06", "ID-07")
@pytest.mark.parametrize("host", ["a%62c", "a b", "a!", "ü", "[::1]", "a\tb", "a\n", "a\0"])
def test_other_characters_in_a_trust_domain_are_refused_percent_among_them(host: str) -> None:
    assert refused(f"spiffe://{host}/a")


@pytest.mark.clause("ID-08")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "1.2.3.4.5", "example..org", ".example.org", "-a", "a_b", "a-", "..", "_"]
)
def test_a_trust_domain_is_not_judged_as_a_host_name_or_an_address(host: str) -> None:
    assert SpiffeID.parse(f"spiffe://{host}/a").trust_domain == TrustDomain(host)


@pytest.mark.clause("ID-09")
@pytest.mark.parametrize("path", ["/a%20b", "/%61", "/a%2fb", "/%2e%2e"])
def test_percent_in_a_path_is_refused(path: str) -> None:
    assert refused(f"spiffe://example.org{path}")


@pytest.mark.clause("ID-10")
@pytest.mark.parametrize("path", ["//a", "/a//b", "/.", "/..", "/a/../b", "/./a", "/a/.."])
def test_empty_and_dot_segments_are_refused(path: str) -> None:
    assert refused(f"spiffe://example.org{path}")


@pytest.mark.clause("ID-10")
@pytest.mark.parametrize("path", ["/...", "/..x", "/x..", "/.x", "/a.b"])
def test_segments_that_only_begin_with_dots_are_accepted(path: str) -> None:
    assert SpiffeID.parse(f"spiffe://example.org{path}").path == path


@pytest.mark.clause("ID-11")
@pytest.mark.parametrize("path", ["/", "/a/", "/a//"])
def test_a_trailing_slash_is_refused(path: str) -> None:
    assert refused(f"spiffe://example.org{path}")


@pytest.mark.clause("ID-12")
@pytest.mark.parametrize("segment", ["a b", "a\n", "a:b", "a@b", "ä", "a~b", "a+b", "a\0", "a\\b", "*"])
def test_other_characters_in_a_path_are_refused(segment: str) -> None:
    assert refused(f"spiffe://example.org/{segment}")


@pytest.mark.clause("ID-13")
@pytest.mark.parametrize("path", ["", "/a", "/a/b/c/d", "/A-Z_0.9"])
def test_a_path_may_be_absent_or_deep(path: str) -> None:
    assert SpiffeID.parse(f"spiffe://example.org{path}").path == path


@pytest.mark.clause("ID-14", "ID-17")
def test_2048_bytes_in_all_are_accepted() -> None:
    text = "spiffe://example.org/".ljust(2048, "a")
    assert str(SpiffeID.parse(text)) == text


@pytest.mark.clause("ID-15", "ID-17")
def test_2049_bytes_in_all_are_neither_parsed_nor_made() -> None:
    assert refused("spiffe://example.org/".ljust(2049, "a"))
    with pytest.raises(SpiffeIDError, match="expected at most 2048 bytes, found 2049"):
        SpiffeID.from_segments(TrustDomain("example.org"), "a" * (2049 - len("spiffe://example.org/")))


@pytest.mark.clause("ID-16")
def test_a_trust_domain_has_at_most_255_bytes() -> None:
    assert not refused(f"spiffe://{'a' * 255}/a")
    assert refused(f"spiffe://{'a' * 256}/a")
