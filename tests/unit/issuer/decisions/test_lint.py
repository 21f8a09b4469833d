import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cognomen.protocol.errors import Kind, Refused
from issuer.decisions import profile
from issuer.decisions.authority import AuthorityKind, intended
from issuer.decisions.crl import CRLDraft, DeniedCertificate, ListForm, SignedCRL
from issuer.decisions.lint import lint_crl_der, lint_crl_draft, lint_draft, lint_token, lint_x509_der
from issuer.decisions.profile import ISSUER_DNS_NAME, CADraft, Draft, JWTDraft, X509Draft, claims_of
from issuer.decisions.revocation import Reason
from issuer.signing import X509Signer
from svid.keys import KeyID, KeyKind, generate_private_key, public_key_to_der
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, Signing, a_node, an_entry, x509_authority
from tests.doubles.recorded import recorded

AUTHORITY = intended(AuthorityKind.X509, KeyID("x509-1"), now=NOW, ttl=timedelta(days=14))
VALIDITY = profile.validity(NOW, timedelta(hours=1), AUTHORITY)
KEY = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())
OTHER_KEY = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())
X509_DRAFT = profile.build_x509(an_entry(), KEY, serial=2**127, validity=VALIDITY)
CA_DRAFT = profile.build_ca(AUTHORITY, trust_domain=TRUST_DOMAIN, serial=2**127)
JWT_DRAFT = profile.build_jwt(an_entry(), ("a",), jti="j", validity=VALIDITY)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
A_BIT = timedelta(microseconds=1)
FOREIGN = SpiffeID(trust_domain=TrustDomain("other.org"), path="/web")
RESERVED = SpiffeID(trust_domain=TRUST_DOMAIN, path="/spire/server")


def lint(draft: Draft) -> None:
    lint_draft(draft, trust_domain=TRUST_DOMAIN, authority=AUTHORITY, now=NOW)


def fault(check: Callable[[], None]) -> str:
    with pytest.raises(Refused) as refused:
        check()
    assert refused.value.kind is Kind.INTERNAL
    return refused.value.detail


@pytest.mark.parametrize(
    "draft",
    [
        X509_DRAFT,
        profile.build_issuer_x509(TRUST_DOMAIN, KEY, serial=2**127, validity=VALIDITY),
        profile.build_node_x509(a_node().spiffe_id, KEY, serial=2**127, validity=VALIDITY),
        replace(X509_DRAFT, not_after=NOW + timedelta(days=1)),
    ],
)
def test_what_profile_drafts_passes(draft: X509Draft) -> None:
    lint(draft)


@pytest.mark.parametrize(
    ("draft", "found"),
    [
        (replace(X509_DRAFT, spiffe_id=FOREIGN), "SPIFFE ID: expected the trust domain example.org"),
        (replace(X509_DRAFT, spiffe_id=TRUST_DOMAIN.id), "SPIFFE ID: expected a path, found none"),
        (replace(X509_DRAFT, spiffe_id=RESERVED), "SPIFFE ID: expected no reserved path"),
        (replace(X509_DRAFT, serial=-(2**127)), "serial: expected"),
        (replace(X509_DRAFT, serial=2**62), "serial: expected 64 to 159 bits, found 63"),
        (replace(X509_DRAFT, serial=2**159), "serial: expected 64 to 159 bits, found 160"),
        (
            replace(X509_DRAFT, dns_names=(ISSUER_DNS_NAME,)),
            "dns_names: expected issuer.cognomen.internal in the issuer's",
        ),
        (
            replace(profile.build_issuer_x509(TRUST_DOMAIN, KEY, serial=2**127, validity=VALIDITY), dns_names=()),
            "dns_names: expected",
        ),
        (replace(X509_DRAFT, not_before=NOW - A_BIT), "validity: expected whole seconds"),
        (replace(X509_DRAFT, not_after=NOW), "within, found"),
        (replace(X509_DRAFT, not_before=NOW + SECOND), "within, found"),
        (replace(X509_DRAFT, not_after=NOW + timedelta(days=1, minutes=1)), "validity: expected at most 1 day"),
        (replace(X509_DRAFT, not_after=AUTHORITY.not_after + SECOND), "not_after: expected at most the authority's"),
    ],
)
def test_a_certificate_that_must_not_be_is_not_recorded(draft: X509Draft, found: str) -> None:
    assert found in fault(lambda: lint(draft))


def test_a_draft_of_a_token_passes() -> None:
    lint(JWT_DRAFT)


@pytest.mark.parametrize(
    ("draft", "found"),
    [
        (replace(JWT_DRAFT, spiffe_id=FOREIGN), "SPIFFE ID: expected the trust domain example.org"),
        (replace(JWT_DRAFT, audiences=()), "audiences: expected one or more, none empty, found 0"),
        (replace(JWT_DRAFT, audiences=("a", "")), "audiences: expected one or more, none empty, found 2"),
        (replace(JWT_DRAFT, jti=""), "jti: expected a text"),
        (replace(JWT_DRAFT, issued_at=NOW - A_BIT), "validity: expected whole seconds"),
        (replace(JWT_DRAFT, not_after=NOW), "within, found"),
        (replace(JWT_DRAFT, not_after=NOW + timedelta(days=1, minutes=1)), "validity: expected at most 1 day"),
        (replace(JWT_DRAFT, not_after=AUTHORITY.not_after + SECOND), "not_after: expected at most the authority's"),
    ],
)
def test_a_token_that_must_not_be_is_not_recorded(draft: JWTDraft, found: str) -> None:
    assert found in fault(lambda: lint(draft))


def test_a_draft_of_an_authority_passes() -> None:
    lint(CA_DRAFT)


@pytest.mark.parametrize(
    ("draft", "found"),
    [
        (replace(CA_DRAFT, trust_domain=TrustDomain("other.org")), "SPIFFE ID: expected the trust domain example.org"),
        (replace(CA_DRAFT, serial=2**62), "serial: expected 64 to 159 bits, found 63"),
        (replace(CA_DRAFT, not_after=AUTHORITY.not_after + SECOND), "validity: expected the authority's own"),
    ],
)
def test_an_authority_that_must_not_be_is_not_recorded(draft: CADraft, found: str) -> None:
    assert found in fault(lambda: lint(draft))


def lint_der(der: bytes, draft: X509Draft, by: Signing) -> None:
    ski = by.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    lint_x509_der(der, draft, authority_name=by.certificate.subject, authority_ski=ski)


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (replace(X509_DRAFT, spiffe_id=an_entry("/db").spiffe_id), "SPIFFE ID: expected spiffe://example.org/db"),
        (replace(X509_DRAFT, serial=2**127 + 1), "serial: expected"),
        (replace(X509_DRAFT, public_key=OTHER_KEY), "public key: not the drafted one"),
        (replace(X509_DRAFT, not_before=NOW), "validity: expected"),
        (replace(X509_DRAFT, not_after=NOW + 2 * HOUR), "validity: expected"),
        (replace(X509_DRAFT, dns_names=("a.example",)), "dns_names: expected ('a.example',), found ()"),
    ],
)
async def test_a_certificate_that_is_not_as_drafted_is_not_released(other: X509Draft, found: str) -> None:
    by = await x509_authority()
    der = X509Signer(by.key, by.certificate).sign(recorded(X509_DRAFT, by))
    lint_der(der, X509_DRAFT, by)
    assert found in fault(lambda: lint_der(der, other, by))


async def test_a_certificate_with_another_subject_is_not_released() -> None:
    by = await x509_authority()
    drafted, other = replace(X509_DRAFT, dns_names=("a.example",)), replace(X509_DRAFT, dns_names=("b.example",))
    der = X509Signer(by.key, by.certificate).sign(recorded(drafted, by))
    lint_der(der, drafted, by)
    assert "subject: expected CN=b.example alone, found CN=a.example" in fault(lambda: lint_der(der, other, by))


async def test_a_certificate_by_another_authority_is_not_released() -> None:
    by, other = await x509_authority(), await x509_authority()
    der = X509Signer(by.key, by.certificate).sign(recorded(X509_DRAFT, by))
    assert "authority key identifier: not the authority" in fault(lambda: lint_der(der, X509_DRAFT, other))
    nameless = x509.Name([])
    ski = by.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert "issuer: expected" in fault(
        lambda: lint_x509_der(der, X509_DRAFT, authority_name=nameless, authority_ski=ski)
    )


async def test_what_is_no_leaf_or_no_certificate_is_not_released() -> None:
    by = await x509_authority()
    signing_certificate = by.certificate.public_bytes(Encoding.DER)
    assert "missing on a leaf" in fault(lambda: lint_der(signing_certificate, X509_DRAFT, by))
    assert fault(lambda: lint_der(b"\x30\x03\x02\x01\x00", X509_DRAFT, by)).startswith("lint: ")


def denied(serial: int, *, reason: Reason = Reason.SUPERSEDED) -> DeniedCertificate:
    return DeniedCertificate(serial=serial, denied_at=NOW, ends_at=NOW, reason=reason)


CRL_DRAFT = CRLDraft(number=8, this_update=NOW, next_update=NOW + timedelta(days=14), denied=(denied(5), denied(6)))


@pytest.mark.parametrize(
    ("draft", "found"),
    [
        (replace(CRL_DRAFT, number=7), "CRL number: expected more than 7, found 7"),
        (replace(CRL_DRAFT, this_update=NOW + timedelta(seconds=1)), "thisUpdate: expected a whole second until"),
        (replace(CRL_DRAFT, this_update=NOW - timedelta(microseconds=1)), "thisUpdate: expected a whole second"),
        (replace(CRL_DRAFT, next_update=NOW), "nextUpdate: expected the authority's end"),
        (replace(CRL_DRAFT, denied=(denied(5), denied(5))), "entries: expected each serial once"),
        (replace(CRL_DRAFT, denied=(denied(6), denied(5))), "entries: expected each serial once"),
    ],
)
async def test_a_list_that_must_not_be_is_not_recorded(draft: CRLDraft, found: str) -> None:
    by = (await x509_authority()).authority
    last = SignedCRL(authority_id=by.key_id, number=7)
    lint_crl_draft(CRL_DRAFT, last=last, authority=by, now=NOW)
    lint_crl_draft(CRL_DRAFT, last=None, authority=by, now=NOW)
    assert found in fault(lambda: lint_crl_draft(draft, last=last, authority=by, now=NOW))


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (replace(CRL_DRAFT, number=9), "CRL: expected the number 9"),
        (replace(CRL_DRAFT, this_update=NOW - timedelta(seconds=1)), "CRL: expected"),
        (replace(CRL_DRAFT, next_update=NOW), "CRL: expected"),
        (replace(CRL_DRAFT, denied=(denied(5),)), "entries: not the drafted ones"),
        (replace(CRL_DRAFT, denied=(denied(5), denied(6), denied(7))), "entries: not the drafted ones"),
        (
            replace(CRL_DRAFT, denied=(denied(5), denied(6, reason=Reason.KEY_COMPROMISE))),
            "entries: not the drafted ones",
        ),
    ],
)
async def test_a_list_that_is_not_as_drafted_is_not_released(other: CRLDraft, found: str) -> None:
    der, name, ski = await a_list(CRL_DRAFT)
    lint_crl_der(der, CRL_DRAFT, authority_name=name, authority_ski=ski)
    assert found in fault(lambda: lint_crl_der(der, other, authority_name=name, authority_ski=ski))


async def test_a_list_of_another_authority_or_none_is_not_released() -> None:
    der, name, ski = await a_list(CRL_DRAFT)
    for other_name, other_ski in ((x509.Name([]), ski), (name, b"other")):
        assert "issuer: expected" in fault(
            lambda: lint_crl_der(der, CRL_DRAFT, authority_name=other_name, authority_ski=other_ski)  # noqa: B023
        )
    assert "CRL: expected one in DER" in fault(
        lambda: lint_crl_der(der[:-1], CRL_DRAFT, authority_name=name, authority_ski=ski)
    )


async def a_list(draft: CRLDraft) -> tuple[bytes, x509.Name, bytes]:
    by = await x509_authority()
    name = by.certificate.subject
    ski = by.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    form = ListForm(by.key.kind, issuer=name, authority_ski=ski)
    written = form.to_be_signed(draft)
    return form.signed(written, by.key.sign(written)), name, ski


def a_token(header: object, claims: object) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join([*(urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2ln"])


HEADER = {"alg": "ES256", "kid": "jwt-1", "typ": "JWT"}
CLAIMS = claims_of(JWT_DRAFT)


@pytest.mark.clause("JW-03")
@pytest.mark.parametrize(
    ("token", "found"),
    [
        (a_token({**HEADER, "jku": "x"}, CLAIMS), "header: expected alg ES256, kid jwt-1, typ JWT"),
        (a_token({**HEADER, "alg": "none"}, CLAIMS), "header: expected"),
        (a_token(HEADER, {**CLAIMS, "nbf": 1}), "claims: not the drafted ones"),
        (a_token(HEADER, {**CLAIMS, "sub": "spiffe://example.org/db"}), "claims: not the drafted ones"),
        (a_token(HEADER, {**CLAIMS, "aud": "a"}), "claims: not the drafted ones"),
        (a_token(HEADER, CLAIMS) + ".x", "token: expected three parts, found 4"),
        ("a..c", "token: expected three parts"),
        ("bm8.bm8.bm8", "token: expected base64url of JSON"),
        ("é.é.é", "token: expected base64url of JSON"),
    ],
)
def test_a_token_that_is_not_as_drafted_is_not_released(token: str, found: str) -> None:
    lint_token(a_token(HEADER, CLAIMS), JWT_DRAFT, algorithm="ES256", key_id=KeyID("jwt-1"))
    assert found in fault(lambda: lint_token(token, JWT_DRAFT, algorithm="ES256", key_id=KeyID("jwt-1")))
