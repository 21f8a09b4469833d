"""What every upstream authority promises about the certificate it gives."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from issuer.decisions.certificate import LeafForm
from issuer.decisions.lint import lint_ca
from issuer.decisions.profile import CADraft, build_x509, validity
from issuer.upstream.port import SignedCA, UpstreamAuthority
from issuer.upstream.self_signed import SelfSigned
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key, public_key_to_der
from svid.x509svid import check_signing
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, Signing, an_entry, x509_authority
from tests.doubles.upstream import WithIntermediate

KEY = LocalSigningKey(KeyID("x509-1"), generate_private_key(KeyKind.EC_P256))
DRAFT = CADraft(
    trust_domain=TRUST_DOMAIN,
    serial=2**127 + 5,
    common_name="Cognomen 80000000000000000000000000000005",
    public_key=public_key_to_der(KEY.public_key),
    not_before=NOW - timedelta(seconds=30),
    not_after=NOW + timedelta(days=14),
)


@pytest.fixture(params=[SelfSigned, WithIntermediate])
def upstream(request: pytest.FixtureRequest) -> UpstreamAuthority:
    made: UpstreamAuthority = request.param()
    return made


def a_key(kind: KeyKind = KeyKind.EC_P256) -> LocalSigningKey:
    return LocalSigningKey(KeyID("x509-1"), generate_private_key(kind))


def signed_leaf(by: Signing) -> tuple[bytes, ...]:
    """A workload's certificate and what leaves with it, DER."""
    form = LeafForm(by.key.kind, issuer=by.certificate.subject, authority_ski=subject_key_id(by.certificate))
    draft = build_x509(
        an_entry(), DRAFT.public_key, serial=2**127, validity=validity(NOW, timedelta(hours=1), by.authority)
    )
    written = form.to_be_signed(draft)
    return (form.signed(written, by.key.sign(written)), *by.authority.chain)


def subject_key_id(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


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
    above = (*ca.chain[1:], *ca.roots)[0].extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    found = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert found.key_identifier == above.digest


@pytest.mark.clause("X5-32")
async def test_its_roots_are_self_signed(upstream: UpstreamAuthority) -> None:
    ca, _ = await signed(upstream)
    for root in ca.roots:
        root.verify_directly_issued_by(root)


async def test_the_issuer_takes_it(upstream: UpstreamAuthority) -> None:
    key = a_key()
    ca = await upstream.sign_ca(DRAFT, key)
    lint_ca(ca.chain, ca.roots, DRAFT, key=key.public_key)


async def test_two_certificates_have_one_root_or_each_is_its_own(upstream: UpstreamAuthority) -> None:
    one, two = [await upstream.sign_ca(DRAFT, a_key()) for _ in range(2)]
    assert one.roots == two.roots or (one.roots, two.roots) == (one.chain, two.chain)


@pytest.mark.clause("X5-10", "X5-23")
async def test_a_leaf_below_it_is_verified_by_its_roots_alone(upstream: UpstreamAuthority) -> None:
    by = await x509_authority(upstream=upstream)
    (leaf, *chain) = (x509.load_der_x509_certificate(der) for der in signed_leaf(by))
    store = Store([x509.load_der_x509_certificate(der) for der in by.authority.anchors])
    verifier = PolicyBuilder().store(store).time(NOW.replace(tzinfo=None)).build_client_verifier()
    assert len(verifier.verify(leaf, chain).chain) == 2 + len(by.authority.chain)


@pytest.mark.parametrize("kind", [KeyKind.EC_P384, KeyKind.RSA_2048])
async def test_every_kind_of_key_is_certified(upstream: UpstreamAuthority, kind: KeyKind) -> None:
    ca = await upstream.sign_ca(DRAFT, a_key(kind))
    check_signing(ca.chain[0], TRUST_DOMAIN)
