"""What every upstream authority promises about the certificate it gives."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from issuer.decisions.profile import CADraft
from issuer.upstream.port import SignedCA, UpstreamAuthority
from issuer.upstream.self_signed import SelfSigned
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key, public_key_to_der
from svid.x509svid import check_signing
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN

KEY = LocalSigningKey(KeyID("x509-1"), generate_private_key(KeyKind.EC_P256))
DRAFT = CADraft(
    trust_domain=TRUST_DOMAIN,
    serial=2**127 + 5,
    common_name="Cognomen 80000000000000000000000000000005",
    public_key=public_key_to_der(KEY.public_key),
    not_before=NOW - timedelta(seconds=30),
    not_after=NOW + timedelta(days=14),
)


@pytest.fixture(params=[SelfSigned])
def upstream(request: pytest.FixtureRequest) -> UpstreamAuthority:
    made: UpstreamAuthority = request.param()
    return made


def a_key(kind: KeyKind = KeyKind.EC_P256) -> LocalSigningKey:
    return LocalSigningKey(KeyID("x509-1"), generate_private_key(kind))


async def signed(upstream: UpstreamAuthority) -> tuple[SignedCA, x509.Extensions]:
    ca = await upstream.sign_ca(DRAFT, a_key())
    return ca, ca.chain[0].extensions


@pytest.mark.clause("X5-06", "X5-07", "X5-08", "X5-09", "X5-13", "X5-15", "X5-16", "X5-19", "X5-22", "SV-02")
async def test_a_signing_certificate_keeps_the_profile(upstream: UpstreamAuthority) -> None:
    ca, extensions = await signed(upstream)
    check_signing(ca.chain[0], TRUST_DOMAIN)
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org"]
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, True)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign) == (True, True, True)
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.ExtendedKeyUsage)


async def test_it_is_the_drafted_one(upstream: UpstreamAuthority) -> None:
    key = a_key()
    certificate = (await upstream.sign_ca(DRAFT, key)).chain[0]
    assert certificate.public_key() == key.public_key
    assert certificate.serial_number == DRAFT.serial
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (DRAFT.not_before, DRAFT.not_after)
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == DRAFT.common_name


async def test_it_names_its_key_and_the_key_that_signed_it(upstream: UpstreamAuthority) -> None:
    ca, extensions = await signed(upstream)
    root = ca.roots[0].extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    above = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert above.key_identifier == root.digest


@pytest.mark.clause("X5-32")
async def test_its_roots_are_self_signed(upstream: UpstreamAuthority) -> None:
    ca, _ = await signed(upstream)
    for root in ca.roots:
        root.verify_directly_issued_by(root)


@pytest.mark.parametrize("kind", [KeyKind.EC_P384, KeyKind.RSA_2048])
async def test_every_kind_of_key_is_certified(upstream: UpstreamAuthority, kind: KeyKind) -> None:
    ca = await upstream.sign_ca(DRAFT, a_key(kind))
    check_signing(ca.chain[0], TRUST_DOMAIN)
