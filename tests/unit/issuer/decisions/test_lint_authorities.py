"""What an upstream authority gives back is looked at before anybody holds it, whoever it is."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID

from certs.ca import CA_USAGE, Authority, Draft, make_authority, make_certificate
from cognomen.protocol.errors import Kind, Refused
from issuer.decisions.lint import lint_ca
from issuer.decisions.profile import CADraft
from issuer.upstream.port import SignedCA
from svid.encoding import MAX_CHAIN_LENGTH
from svid.keys import PublicKey, public_key_to_der
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN


def above(name: str, issuer: Authority | None = None) -> Authority:
    """An authority above ours, valid for years."""
    draft = Draft(
        name=name,
        uris=(),
        subject=f"{name} of a firm",
        ca=True,
        usage=CA_USAGE,
        extended_usage=None,
        not_before=NOW - timedelta(days=365),
        not_after=NOW + timedelta(days=365),
    )
    return make_authority(draft, issuer=issuer)


ROOT = above("root")
MIDDLE = above("middle", ROOT)
OTHER = above("other")
OURS = Draft(
    name="example.org ours",
    uris=("spiffe://example.org",),
    subject="ours",
    san_critical=False,
    ca=True,
    usage=CA_USAGE,
    extended_usage=None,
    not_before=NOW - timedelta(seconds=30),
    not_after=NOW + timedelta(days=14),
)
KEY = make_authority(OURS).key.public_key()
DRAFT = CADraft(
    trust_domain=TRUST_DOMAIN,
    serial=make_certificate(OURS, MIDDLE).serial_number,
    common_name="ours",
    public_key=public_key_to_der(KEY),
    not_before=OURS.not_before,
    not_after=OURS.not_after,
)
BASIC_CONSTRAINTS = ExtensionOID.BASIC_CONSTRAINTS
WEAK = rsa.RSAPublicNumbers(e=65537, n=(1 << 1023) + 1).public_key()


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What came back, for tests to bend."""

    draft: Draft = OURS
    by: Authority = MIDDLE
    above: tuple[Authority, ...] = (MIDDLE,)
    roots: tuple[Authority, ...] = (ROOT,)
    key: PublicKey | None = None

    def lint(self) -> None:
        certificate = make_certificate(replace(self.draft, public_key=self.key or KEY), self.by)
        ca = SignedCA(
            chain=(certificate, *(one.certificate for one in self.above)),
            roots=tuple(one.certificate for one in self.roots),
        )
        lint_ca(ca.chain, ca.roots, DRAFT, key=KEY)


def test_a_certificate_that_leads_to_a_root_passes() -> None:
    Signed().lint()
    Signed(roots=(OTHER, ROOT)).lint()
    Signed(by=ROOT, above=()).lint()


@pytest.mark.parametrize(
    ("bent", "fault"),
    [
        (Signed(roots=()), "expected a certificate and a root, found 2 and 0"),
        (Signed(key=WEAK), "key: expected P-256, P-384, P-521 or RSA of 2048 to 8192 bits, found RSA of 1024 bits"),
        (Signed(key=ec.derive_private_key(7, ec.SECP256R1()).public_key()), "public key: not the authority's"),
        (Signed(draft=replace(OURS, uris=())), "URI SAN: expected 1, found 0"),
        (Signed(draft=replace(OURS, uris=("spiffe://other.org",))), "expected the trust domain example.org"),
        (Signed(draft=replace(OURS, ca=False)), "basic constraints: expected cA true"),
        (Signed(draft=replace(OURS, name="another name")), "serial: expected"),
        (Signed(draft=replace(OURS, not_after=NOW + timedelta(days=15))), "validity: expected"),
        (Signed(by=OTHER), "a certificate is not signed by the next one"),
        (Signed(roots=(OTHER,)), "the chain does not lead to its root"),
        (Signed(above=()), "the chain does not lead to its root"),
    ],
)
def test_any_other_is_not_released(bent: Signed, fault: str) -> None:
    with pytest.raises(Refused) as refused:
        bent.lint()
    assert refused.value.kind is Kind.UNAVAILABLE
    assert fault in refused.value.detail
    assert refused.value.detail.startswith("upstream authority: lint: ")
    assert "the upstream authority must sign what was asked for" in refused.value.hint


def test_one_that_was_signed_by_a_hash_that_verifiers_refuse_is_not_released() -> None:
    good = make_certificate(replace(OURS, public_key=KEY), ROOT)
    builder = x509.CertificateBuilder(
        good.issuer, good.subject, KEY, good.serial_number, OURS.not_before, OURS.not_after, list(good.extensions)
    )
    weak = builder.sign(ROOT.key, hashes.SHA224())
    weak.verify_directly_issued_by(ROOT.certificate)
    lint_ca((good,), (ROOT.certificate,), DRAFT, key=KEY)
    with pytest.raises(Refused, match="the chain does not lead to its root"):
        lint_ca((weak,), (ROOT.certificate,), DRAFT, key=KEY)


def test_nothing_is_no_certificate() -> None:
    with pytest.raises(Refused, match="found 0 and 1"):
        lint_ca((), (ROOT.certificate,), DRAFT, key=KEY)


def test_authorities_above_that_end_earlier_are_not_released() -> None:
    ours = replace(OURS, not_after=ROOT.certificate.not_valid_after_utc + timedelta(seconds=1))
    draft = replace(DRAFT, not_after=ours.not_after)
    certificate = make_certificate(replace(ours, public_key=KEY), ROOT)
    with pytest.raises(Refused, match="validity: expected authorities above that are valid from"):
        lint_ca((certificate,), (ROOT.certificate,), draft, key=KEY)


def with_path_length(length: int | None) -> x509.Certificate:
    """The intermediate, with room for so many authorities below it."""
    made = MIDDLE.certificate
    builder = x509.CertificateBuilder(
        made.issuer, made.subject, made.public_key(), 7, made.not_valid_before_utc, made.not_valid_after_utc
    )
    for one in made.extensions:
        value = x509.BasicConstraints(ca=True, path_length=length) if one.oid == BASIC_CONSTRAINTS else one.value
        builder = builder.add_extension(value, critical=one.critical)
    return builder.sign(ROOT.key, hashes.SHA256())


def test_an_authority_above_without_room_for_one_below_it_is_not_released() -> None:
    certificate = make_certificate(replace(OURS, public_key=KEY), MIDDLE)
    for length in (None, 1):
        lint_ca((certificate, with_path_length(length)), (ROOT.certificate,), DRAFT, key=KEY)
    with pytest.raises(Refused, match="path length: expected room for 1 authorities, found 0"):
        lint_ca((certificate, with_path_length(0)), (ROOT.certificate,), DRAFT, key=KEY)


def test_a_chain_longer_than_any_verifier_of_ours_takes_is_not_released() -> None:
    higher = [ROOT]
    while len(higher) < MAX_CHAIN_LENGTH:
        higher.append(above(f"middle-{len(higher)}", higher[-1]))
    certificate = make_certificate(replace(OURS, public_key=KEY), higher[-1])
    chain = (certificate, *(one.certificate for one in reversed(higher[1:])))
    with pytest.raises(Refused, match="chain: expected at most 10 certificates with the root, found 11"):
        lint_ca(chain, (ROOT.certificate,), DRAFT, key=KEY)


def bent(
    made: x509.Certificate, by: Authority, *, without: tuple[x509.ObjectIdentifier, ...] = (), **bends: object
) -> x509.Certificate:
    """The same certificate, signed again with these changes: extra (an extension and whether it is critical), begins, subject."""
    builder = x509.CertificateBuilder(
        by.certificate.subject,
        bends.get("subject", made.subject),  # type: ignore[arg-type]  # what a test bends
        made.public_key(),
        made.serial_number,
        bends.get("begins", made.not_valid_before_utc),  # type: ignore[arg-type]  # as above
        made.not_valid_after_utc,
    )
    extra = bends.get("extra")
    kept = [(one.value, one.critical) for one in made.extensions if one.oid not in without]
    for value, critical in [*kept, *([extra] if isinstance(extra, tuple) else [])]:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(by.key, hashes.SHA256())


OURS_MADE = make_certificate(replace(OURS, public_key=KEY), MIDDLE)
SKI = ExtensionOID.SUBJECT_KEY_IDENTIFIER
NAMES = x509.NameConstraints(None, [x509.UniformResourceIdentifier("example.org")])
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
EMAIL = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION])


@pytest.mark.parametrize(
    ("own", "middle", "roots", "fault"),
    [
        (bent(OURS_MADE, MIDDLE, without=(SKI,)), None, (ROOT.certificate,), "subject key identifier: missing"),
        (bent(OURS_MADE, MIDDLE, extra=(NAMES, True)), None, (ROOT.certificate,), "not allowed in an authority"),
        (bent(OURS_MADE, MIDDLE, extra=(UNKNOWN, True)), None, (ROOT.certificate,), "not allowed in an authority"),
        (bent(OURS_MADE, MIDDLE, extra=(EMAIL, False)), None, (ROOT.certificate,), "not allowed in an authority"),
        (bent(OURS_MADE, MIDDLE, subject=x509.Name([])), None, (ROOT.certificate,), "subject: empty"),
        (OURS_MADE, bent(MIDDLE.certificate, ROOT, extra=(NAMES, True)), (ROOT.certificate,), "verifiers refuse"),
        (OURS_MADE, bent(MIDDLE.certificate, ROOT, extra=(UNKNOWN, True)), (ROOT.certificate,), "verifiers refuse"),
        (OURS_MADE, bent(MIDDLE.certificate, ROOT, begins=NOW), (ROOT.certificate,), "valid from"),
        (OURS_MADE, None, (bent(ROOT.certificate, ROOT, begins=NOW),), "valid from"),
        (OURS_MADE, None, (bent(ROOT.certificate, ROOT, without=(BASIC_CONSTRAINTS,)),), "root: "),
        (OURS_MADE, None, (ROOT.certificate, make_certificate(Draft(name="leaf"), ROOT)), "root: "),
        (OURS_MADE, None, (ROOT.certificate,) * 11, "roots: too many"),
    ],
)
def test_one_whose_leaves_verifiers_would_refuse_is_not_released(
    own: x509.Certificate, middle: x509.Certificate | None, roots: tuple[x509.Certificate, ...], fault: str
) -> None:
    lint_ca((OURS_MADE, MIDDLE.certificate), (ROOT.certificate,), DRAFT, key=KEY)
    with pytest.raises(Refused) as refused:
        lint_ca((own, middle or MIDDLE.certificate), roots, DRAFT, key=KEY)
    assert fault in refused.value.detail
