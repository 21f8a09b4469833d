"""issuer/decisions/certificate: the library's builder is the oracle, byte for byte."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from issuer.decisions import der
from issuer.decisions.certificate import LeafForm
from issuer.decisions.profile import X509Draft
from svid.keys import (
    KeyID,
    KeyKind,
    LocalSigningKey,
    generate_private_key,
    hash_of,
    public_key_from_der,
    public_key_to_der,
)
from svid.spiffeid import SpiffeID, TrustDomain

KEYS = {kind: generate_private_key(kind) for kind in KeyKind}
SPKIS = [public_key_to_der(generate_private_key(kind).public_key()) for kind in KeyKind]
SEGMENTS = st.lists(
    st.text("abcXYZ019.-_", min_size=1, max_size=60).filter(lambda s: s.strip(".")), min_size=1, max_size=12
)
LABELS = st.text("abcdefgh0123456789", min_size=1, max_size=20)
DNS_NAMES = st.lists(st.lists(LABELS, min_size=1, max_size=4).map(".".join), max_size=20).map(tuple)
MOMENTS = st.integers(0, 30_000_000_000).map(
    lambda seconds: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
SKI = bytes(range(20))

drafts = st.builds(
    X509Draft,
    spiffe_id=SEGMENTS.map(lambda segments: SpiffeID.from_segments(TrustDomain("example.org"), *segments)),
    serial=st.integers(1, 2**159 - 1),
    public_key=st.sampled_from(SPKIS),
    not_before=MOMENTS,
    not_after=MOMENTS,
    dns_names=DNS_NAMES,
)
names = st.text("Cognomen abcé0", max_size=60).map(
    lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])
)


def as_the_library_writes_it(draft: X509Draft, issuer: x509.Name, kind: KeyKind) -> x509.Certificate:
    key = public_key_from_der(draft.public_key)
    begin, end = sorted((draft.not_before, draft.not_after))
    first = draft.dns_names[0] if draft.dns_names else ""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, first)] if 0 < len(first) <= 64 else [])
    alternatives = [x509.UniformResourceIdentifier(str(draft.spiffe_id)), *map(x509.DNSName, draft.dns_names)]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    tls = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(draft.serial)
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(tls, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(SKI, None, None), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=not subject.rdns)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .sign(KEYS[kind], hash_of(kind))
    )


@given(drafts, names, st.sampled_from([KeyKind.EC_P256, KeyKind.EC_P384, KeyKind.RSA_2048]))
def test_a_draft_is_written_as_the_library_would_write_it(draft: X509Draft, issuer: x509.Name, kind: KeyKind) -> None:
    expected = as_the_library_writes_it(draft, issuer, kind)
    begin, end = sorted((draft.not_before, draft.not_after))
    draft = X509Draft(
        spiffe_id=draft.spiffe_id,
        serial=draft.serial,
        public_key=draft.public_key,
        not_before=begin,
        not_after=end,
        dns_names=draft.dns_names,
    )
    form = LeafForm(kind, issuer=issuer, authority_ski=SKI)
    to_be_signed = form.to_be_signed(draft)
    assert to_be_signed == expected.tbs_certificate_bytes
    assert form.signed(to_be_signed, expected.signature) == expected.public_bytes(Encoding.DER)


@pytest.mark.parametrize("kind", KeyKind)
def test_what_a_key_of_any_kind_signs_is_named_and_placed_rightly(kind: KeyKind) -> None:
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    form = LeafForm(kind, issuer=issuer, authority_ski=SKI)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    draft = X509Draft(
        spiffe_id=SpiffeID.parse("spiffe://example.org/web"),
        serial=2**127,
        public_key=SPKIS[0],
        not_before=moment,
        not_after=moment,
    )
    to_be_signed = form.to_be_signed(draft)
    signature = LocalSigningKey(KeyID("a"), KEYS[kind]).sign(to_be_signed)
    found = x509.load_der_x509_certificate(form.signed(to_be_signed, signature))
    assert isinstance(found.signature_hash_algorithm, hashes.SHA384 if kind is KeyKind.EC_P384 else hashes.SHA256)
    assert (found.tbs_certificate_bytes, found.signature) == (to_be_signed, signature)


def test_an_extension_that_is_not_one_of_rfc_5280s_is_not_written() -> None:
    with pytest.raises(ValueError, match=r"below 2.5.29, found 1.3.6.1"):
        der.extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
