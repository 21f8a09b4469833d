"""The test CA: certificates, right and wrong, from a draft. Everything follows from names: same name, same key, same bytes.

So its keys are no secret to anybody. Nothing at run time reads this; what we really sign is issuer/signing's.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "CA_USAGE",
    "COMPONENT",
    "NOW",
    "Authority",
    "Draft",
    "make_authority",
    "make_certificate",
    "make_key",
    "make_leaf",
    "make_token",
]

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
"""The moment at which everything made here is meant to be looked at."""

COMPONENT = "spiffe://example.org/agent/concierge/reasoning"

CA_USAGE = frozenset({"key_cert_sign", "crl_sign"})
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_HASHES: dict[int, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    256: hashes.SHA256(),
    384: hashes.SHA384(),
    521: hashes.SHA512(),
}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A certificate to be made: as it stands, a leaf such as the issuer signs. `name` gives key and serial; None: no such extension.

    `public_key` is certified in the place of the one that `name` gives.
    """

    name: str
    uris: tuple[str, ...] = (COMPONENT,)
    dns_names: tuple[str, ...] = ()
    subject: str = ""
    san_critical: bool = True
    ca: bool | None = False
    usage: frozenset[str] | None = frozenset({"digital_signature"})
    usage_critical: bool = True
    extended_usage: tuple[x509.ObjectIdentifier, ...] | None = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    )
    not_before: datetime = NOW - timedelta(minutes=10)
    not_after: datetime = NOW + timedelta(minutes=50)
    curve: ec.EllipticCurve = ec.SECP256R1()  # noqa: RUF009 - a curve has no state
    public_key: CertificatePublicKeyTypes | None = None


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A signing certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_key(name: str, curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """Derive a key from its name: 31 bytes are below the order of every curve used here."""
    scalar = int.from_bytes(hashlib.sha256(f"cognomen test key {name}".encode()).digest()[:31])
    return ec.derive_private_key(scalar, curve or ec.SECP256R1())


def make_authority(
    draft: Draft | str, *, trust_domain: str = "example.org", issuer: Authority | None = None
) -> Authority:
    """Make a signing certificate, self-signed or signed by `issuer`; a text is the name of an ordinary one."""
    if isinstance(draft, str):
        draft = Draft(
            name=draft,
            uris=(f"spiffe://{trust_domain}",),
            subject=f"{trust_domain} {draft}",
            san_critical=False,
            ca=True,
            usage=CA_USAGE,
            extended_usage=None,
            not_before=NOW - timedelta(days=7),
            not_after=NOW + timedelta(days=7),
        )
    draft = replace(draft, name=f"{trust_domain} {draft.name}")
    return Authority(certificate=make_certificate(draft, issuer), key=make_key(draft.name, draft.curve))


def make_leaf(draft: Draft, issuer: Authority) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Make a leaf; and its key."""
    return make_certificate(draft, issuer), make_key(draft.name, draft.curve)


def make_certificate(draft: Draft, issuer: Authority | None) -> x509.Certificate:
    """Sign a draft, by itself where there is no issuer."""
    key = make_key(draft.name, draft.curve)
    public_key = draft.public_key or key.public_key()
    signer = issuer.key if issuer else key
    subject = _name(draft.subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(int.from_bytes(hashlib.sha256(draft.name.encode()).digest()[:8]) | 1)
        .not_valid_before(draft.not_before)
        .not_valid_after(draft.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension, critical in _extensions(draft):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, _HASHES[signer.curve.key_size], ecdsa_deterministic=True)


def _extensions(draft: Draft) -> list[tuple[x509.ExtensionType, bool]]:
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in draft.uris]
    names += [x509.DNSName(name) for name in draft.dns_names]
    if names:
        extensions.append((x509.SubjectAlternativeName(names), draft.san_critical))
    if draft.ca is not None:
        extensions.append((x509.BasicConstraints(ca=draft.ca, path_length=None), True))
    if draft.usage is not None:
        usage = x509.KeyUsage(**{name: name in draft.usage for name in _USAGES})
        extensions.append((usage, draft.usage_critical))
    if draft.extended_usage is not None:
        extensions.append((x509.ExtendedKeyUsage(draft.extended_usage), False))
    return extensions


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def make_token(
    claims: object, key: ec.EllipticCurvePrivateKey, *, header: object = None, signature: bytes | None = None
) -> str:
    """Sign a token, whatever header and claims say; a text among them is taken as it stands, not as JSON."""
    header = {"alg": "ES256", "kid": "authority-1", "typ": "JWT"} if header is None else header
    signed = f"{_part(header)}.{_part(claims)}"
    if signature is None:
        algorithm = ec.ECDSA(_HASHES[key.curve.key_size], deterministic_signing=True)
        size = (key.curve.key_size + 7) // 8
        numbers = decode_dss_signature(key.sign(signed.encode(), algorithm))
        signature = b"".join(number.to_bytes(size) for number in numbers)
    return f"{signed}.{_base64url(signature)}"


def _part(value: object) -> str:
    return _base64url((value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))).encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
