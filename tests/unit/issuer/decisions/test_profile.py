from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.errors import Kind, Refused
from issuer.decisions import profile
from issuer.decisions.authority import AuthorityKind, intended
from issuer.decisions.profile import ISSUER_DNS_NAME, CADraft, JWTDraft, X509Draft, validity
from svid.keys import KeyID, KeyKind, generate_private_key, public_key_to_der
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry

AUTHORITY = intended(AuthorityKind.X509, KeyID("x509-1"), now=NOW, ttl=timedelta(days=14))
KEY = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())
HOUR = timedelta(hours=1)
A_BIT = timedelta(microseconds=123_456)


@given(
    st.binary(min_size=10, max_size=10),
    st.integers(0, 5_000_000_000),
)
def test_a_serial_is_positive_fits_20_octets_and_keeps_its_randomness(random: bytes, seconds: int) -> None:
    (serial,) = profile.serials(random, at=NOW + timedelta(seconds=seconds))
    assert serial.bit_length() == 128
    assert serial.to_bytes(16)[6:] == random
    assert int(profile.serial_to_text(serial), 16) == serial
    assert len(profile.serial_to_text(serial)) == 32


def test_a_serial_of_later_sorts_later_and_one_of_the_same_moment_differs() -> None:
    earlier, other = profile.serials(b"\xff" * 20, at=NOW)[0], profile.serials(bytes(10) + b"\xff" * 10, at=NOW)
    (later,) = profile.serials(bytes(10), at=NOW + timedelta(milliseconds=1))
    assert earlier == other[1] > other[0]
    assert profile.serial_to_text(later) > profile.serial_to_text(earlier)


def test_too_little_randomness_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a multiple of 10 bytes, found 8"):
        profile.serials(bytes(8), at=NOW)


def test_an_svid_begins_30_s_earlier_and_counts_its_half_life_from_now() -> None:
    found = validity(NOW + A_BIT, HOUR, AUTHORITY)
    assert found.issued_at == NOW + A_BIT
    assert (found.not_before, found.not_after) == (NOW - timedelta(seconds=30), NOW + HOUR)


def test_an_svid_ends_with_its_authority_at_the_latest() -> None:
    late = AUTHORITY.not_after - timedelta(minutes=1)
    assert validity(late, HOUR, AUTHORITY).not_after == AUTHORITY.not_after


def test_an_authority_that_is_over_signs_nothing() -> None:
    with pytest.raises(Refused) as refused:
        validity(AUTHORITY.not_after, HOUR, AUTHORITY)
    assert refused.value.kind is Kind.UNAVAILABLE


@pytest.mark.parametrize(
    ("ends_at", "not_after"),
    [(None, NOW + HOUR), (NOW + 2 * HOUR, NOW + HOUR), (NOW + timedelta(minutes=5), NOW + timedelta(minutes=5))],
)
def test_an_svid_ends_with_its_entry_at_the_latest(ends_at: datetime | None, not_after: datetime) -> None:
    found = profile.entry_validity(an_entry(), ttl=HOUR, ends_at=ends_at, now=NOW, authority=AUTHORITY)
    assert found.not_after == not_after


@pytest.mark.parametrize("left", [timedelta(), timedelta(microseconds=999_999), -HOUR])
def test_an_entry_that_ends_within_this_second_gets_nothing(left: timedelta) -> None:
    with pytest.raises(Refused) as refused:
        profile.entry_validity(an_entry(), ttl=HOUR, ends_at=NOW + left, now=NOW, authority=AUTHORITY)
    assert refused.value.kind is Kind.DENIED


def test_everything_in_a_workloads_certificate_comes_from_its_entry() -> None:
    entry, times = replace(an_entry(), dns_names=("a.example",)), validity(NOW, HOUR, AUTHORITY)
    assert profile.build_x509(entry, KEY, serial=7, validity=times) == X509Draft(
        spiffe_id=entry.spiffe_id,
        serial=7,
        public_key=KEY,
        not_before=times.not_before,
        not_after=times.not_after,
        dns_names=("a.example",),
    )


def test_only_the_issuers_own_certificate_has_its_dns_name() -> None:
    times = validity(NOW, HOUR, AUTHORITY)
    issuer = profile.build_issuer_x509(TRUST_DOMAIN, KEY, serial=7, validity=times)
    assert (issuer.spiffe_id.path, issuer.dns_names) == ("/cognomen/issuer", (ISSUER_DNS_NAME,))
    node = profile.build_node_x509(a_node().spiffe_id, KEY, serial=7, validity=times)
    assert (node.spiffe_id, node.dns_names) == (a_node().spiffe_id, ())


def test_a_token_is_drafted_in_whole_seconds_and_not_back_dated() -> None:
    times = validity(NOW + A_BIT, HOUR, AUTHORITY)
    assert profile.build_jwt(an_entry(), ("b", "a"), jti="j", validity=times) == JWTDraft(
        spiffe_id=an_entry().spiffe_id, audiences=("b", "a"), jti="j", issued_at=NOW, not_after=NOW + HOUR
    )


@pytest.mark.parametrize("issuer", ["", "https://oidc.example.org"])
def test_a_token_names_its_issuer_only_if_there_is_one(issuer: str) -> None:
    times = validity(NOW, HOUR, AUTHORITY)
    claims = profile.claims_of(profile.build_jwt(an_entry(), ("b",), jti="j", validity=times, issuer=issuer))
    assert claims.pop("iss", "") == issuer
    assert claims == profile.claims_of(profile.build_jwt(an_entry(), ("b",), jti="j", validity=times))


def test_a_signing_certificates_name_holds_its_serial_and_fits() -> None:
    serial = 2**128 - 1
    draft = profile.build_ca(AUTHORITY, trust_domain=TRUST_DOMAIN, serial=serial)
    assert draft == CADraft(
        trust_domain=TRUST_DOMAIN,
        serial=serial,
        common_name=f"Cognomen {'f' * 32}",
        public_key=AUTHORITY.public_key,
        not_before=AUTHORITY.not_before,
        not_after=AUTHORITY.not_after,
    )
    assert len(draft.common_name) <= 64  # RFC 5280's ub-common-name
