"""X509-SVIDs: a chain and its private key, the profile of leaf and signing certificates, and verification with a bundle.

issuer/decisions/profile decides which SVIDs are made, and svid.tls.authorize which peers are allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from svid.bundle import Bundle
from svid.encoding import MAX_CHAIN_LENGTH, UNREADABLE, certificates_from_der, certificates_to_der, certificates_to_pem
from svid.errors import SpiffeIDError, UnusableKeyError, X509SVIDError
from svid.keys import PrivateKey, certified_key, private_key_from_der, private_key_to_der
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["X509SVID", "check_intermediate", "check_leaf", "check_profile", "check_signing", "verify"]

_MAX_SERIAL_BITS = 160  # RFC 5280 4.1.2.2: 20 octets
_TLS_USAGES = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


@dataclass(frozen=True, slots=True, kw_only=True)
class X509SVID:
    """A SPIFFE ID, the certificates that prove it (leaf first), and the private key of the leaf.

    Source: SPIFFE X509-SVID
    """

    spiffe_id: SpiffeID
    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False)
    hint: str = ""

    @classmethod
    def parse(cls, chain_der: bytes, key_der: bytes, *, hint: str = "") -> Self:
        """Parse an X509-SVID from the Workload API, without checking that any authority vouches for it.

        Shape: DER certificates back to back, leaf first; an unencrypted PKCS #8 key in DER.

        Raises:
            X509SVIDError: not certificates, an invalid leaf, an intermediate that may not sign, or a key that is not the leaf's.
            UnusableKeyError: not a key, or a key of a kind that we do not use.

        Source: SPIFFE Workload API 5.2.1, X509-SVID 5
        """
        chain = certificates_from_der(chain_der)
        spiffe_id = _check_chain(chain)
        private_key = private_key_from_der(key_der)
        if chain[0].public_key() != private_key.public_key():
            raise X509SVIDError("key: not the private key of the leaf")
        return cls(spiffe_id=spiffe_id, chain=chain, private_key=private_key, hint=hint)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that carries the SPIFFE ID."""
        return self.chain[0]

    @property
    def serial(self) -> int:
        """The leaf's serial number."""
        return self.leaf.serial_number

    @property
    def not_before(self) -> datetime:
        """The first moment at which the leaf is valid; the issuer back-dates it."""
        return self.leaf.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """The last moment at which the leaf is valid."""
        return self.leaf.not_valid_after_utc

    def chain_der(self) -> bytes:
        """Encode the chain as DER certificates back to back, leaf first."""
        return certificates_to_der(self.chain)

    def key_der(self) -> bytes:
        """Encode the key as unencrypted PKCS #8 in DER, for the workload that owns it."""
        return private_key_to_der(self.private_key)

    def chain_pem(self) -> bytes:
        """Encode the chain as PEM, leaf first."""
        return certificates_to_pem(self.chain)

    def key_pem(self) -> bytes:
        """Encode the key as unencrypted PKCS #8 in PEM, for the workload that owns it, in a file with mode 0600."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def check_leaf(cert: x509.Certificate) -> SpiffeID:
    """Check that a certificate is a leaf as we sign them, including the standard's recommendations, and return its SPIFFE ID.

    Raises:
        X509SVIDError: it is not; the clause names the rule.

    Source: SPIFFE X509-SVID 2 to 5
    """
    _check_key(cert)
    return check_profile(cert)


def check_profile(cert: x509.Certificate) -> SpiffeID:
    """Do the same without the leaf's key, if the caller has checked it already: reading a key takes as long as everything else."""
    profile = _profile(cert)
    if profile.is_ca is None:
        raise _fault("basic constraints: missing on a leaf", "4.1")
    if profile.extended_usage is None:
        raise _fault("extended key usage: missing on a leaf", "4.4")
    return _check_presented_leaf(profile)


def check_signing(cert: x509.Certificate, trust_domain: TrustDomain) -> None:
    """Check that a certificate is a signing certificate as we use them: an SVID of the trust domain itself.

    Raises:
        X509SVIDError: it is not; the clause names the rule.

    Source: SPIFFE X509-SVID 3.2, 4, appendix A
    """
    _check_key(cert)
    profile = _profile(cert)
    usage = _check_intermediate(profile)
    spiffe_id = _spiffe_id(profile)
    if not spiffe_id.is_member_of(trust_domain):
        raise _fault(f"URI SAN: expected the trust domain {trust_domain}, found {spiffe_id.trust_domain}", "3.2")
    others = usage.digital_signature or usage.content_commitment or usage.key_encipherment
    if others or usage.data_encipherment or usage.key_agreement:
        raise _fault("key usage: expected only keyCertSign and cRLSign on a signing certificate", "A")


def check_intermediate(cert: x509.Certificate, trust_domain: TrustDomain) -> None:
    """Check that a certificate may be between a leaf of the trust domain and its root: it has an ID of that trust domain, or no ID.

    Raises:
        X509SVIDError: it may not; the clause names the rule.

    Source: SPIFFE X509-SVID 3.2, 4, SPIFFE-ID 3
    """
    _check_key(cert)
    profile = _profile(cert)
    _check_intermediate(profile)
    if profile.uris and not _spiffe_id(profile).is_member_of(trust_domain):
        raise X509SVIDError(
            f"intermediate: expected trust domain {trust_domain}, found {_spiffe_id(profile).trust_domain}",
            clause="SPIFFE-ID 3",
        )


def verify(chain: Sequence[x509.Certificate], bundle: Bundle, *, at: datetime) -> SpiffeID:
    """Check that a chain, leaf first, proves the SPIFFE ID of its leaf at that moment, and return the ID.

    Only the bundle of the leaf's own trust domain can vouch for it, and no authority of another trust domain may be in between. Each key
    must pass `svid.keys.check_trustworthy`. Signatures use SHA-256, SHA-384 or SHA-512 with ECDSA, with RSA PKCS #1 v1.5, or with RSA PSS
    with one hash and a salt of its size.

    Raises:
        X509SVIDError: it does not; the clause names the rule.

    Source: SPIFFE X509-SVID 5, SPIFFE-ID 3, RFC 5280 6
    """
    spiffe_id = _check_chain(chain)
    if not spiffe_id.is_member_of(bundle.trust_domain):
        raise X509SVIDError(
            f"bundle: expected trust domain {spiffe_id.trust_domain}, found {bundle.trust_domain}",
            clause="Trust Domain and Bundle 3",
        )
    if not bundle.x509_authorities:
        raise X509SVIDError(
            f"bundle: expected an X.509 authority of {bundle.trust_domain}, found none",
            clause="Trust Domain and Bundle 4.1.3",
        )
    builder = PolicyBuilder().store(Store(list(bundle.x509_authorities))).time(at.astimezone(UTC).replace(tzinfo=None))
    try:
        path = builder.build_client_verifier().verify(chain[0], list(chain[1:])).chain
    except VerificationError as e:
        raise _fault(f"chain: does not lead to an authority of {bundle.trust_domain}: {e}", "5.1") from e
    if len(path) == 1:  # to the library, a leaf that is in the bundle is its own trust anchor
        raise _fault("chain: expected a leaf signed by an authority, found one that is itself in the bundle", "5.1")
    return spiffe_id


def _check_chain(chain: Sequence[x509.Certificate]) -> SpiffeID:
    if not chain:
        raise _fault("chain: expected at least 1 certificate, found 0", "5.1")
    if len(chain) > MAX_CHAIN_LENGTH:
        raise _fault(f"chain: expected at most {MAX_CHAIN_LENGTH} certificates, found {len(chain)}", "5.1")
    leaf, *others = chain
    _check_key(leaf)
    spiffe_id = _check_presented_leaf(_profile(leaf))
    for intermediate in others:
        check_intermediate(intermediate, spiffe_id.trust_domain)
    return spiffe_id


class _Profile(NamedTuple):
    """The parts of a certificate that SPIFFE has rules about, read in one pass, because each signature of the issuer comes through here.

    Attributes:
        is_ca: None if there are no basic constraints.
        usage: None if there is no key usage, or it is not critical.
        is_named: whether the subject is not empty, or the alternative names are critical.
    """

    uris: list[str]
    is_ca: bool | None
    usage: x509.KeyUsage | None
    extended_usage: x509.ExtendedKeyUsage | None
    is_named: bool


def _profile(cert: x509.Certificate) -> _Profile:
    serial = cert.serial_number
    if serial <= 0 or serial.bit_length() > _MAX_SERIAL_BITS:
        found = f"{serial.bit_length()} bits" if serial > 0 else "0 or less"
        raise _fault(
            f"serial number: expected a positive number of at most {_MAX_SERIAL_BITS} bits, found {found}", "5.1"
        )
    uris: list[str] = []
    is_ca = usage = extended_usage = None
    is_named = False
    try:
        for extension in cert.extensions:
            value = extension.value
            kind = type(value)  # not isinstance: these are ABCs, and asking one costs more than all the rest here
            if kind is x509.SubjectAlternativeName:
                uris = [name.value for name in value if type(name) is x509.UniformResourceIdentifier]
                is_named = extension.critical or bool(
                    cert.subject.rdns
                )  # in this order: parsing the subject is expensive
            elif kind is x509.BasicConstraints:
                is_ca = value.ca
            elif kind is x509.KeyUsage:
                usage = value if extension.critical else None
            elif kind is x509.ExtendedKeyUsage:
                extended_usage = value
    except UNREADABLE as e:
        raise _fault("subject or extensions: malformed, or an extension is repeated", "5.1") from e
    return _Profile(uris, is_ca, usage, extended_usage, is_named)


def _check_presented_leaf(profile: _Profile) -> SpiffeID:
    """Check what every verifier of a leaf must check."""
    if profile.is_ca:
        raise _fault("basic constraints: expected cA false on a leaf, found true", "5.2")
    usage = _usage(profile)
    if usage.key_cert_sign or usage.crl_sign:
        raise _fault("key usage: expected neither keyCertSign nor cRLSign on a leaf", "5.2")
    if not usage.digital_signature:
        raise _fault("key usage: expected digitalSignature on a leaf", "4.3")
    if profile.extended_usage is not None and not _TLS_USAGES.issubset(profile.extended_usage):
        raise _fault("extended key usage: expected serverAuth and clientAuth", "4.4")
    spiffe_id = _spiffe_id(profile)
    if not spiffe_id.path:
        raise _fault(f"URI SAN: expected a path on a leaf, found {str(spiffe_id)!r}", "5.2")
    if not profile.is_named:
        raise _fault("subject alternative name: must be critical if the subject is empty", "3.1")
    return spiffe_id


def _check_intermediate(profile: _Profile) -> x509.KeyUsage:
    """Check that a certificate may sign others, and return its key usage."""
    if not profile.is_ca:
        raise _fault("basic constraints: expected cA true on a signing certificate", "4.1")
    usage = _usage(profile)
    if not usage.key_cert_sign:
        raise _fault("key usage: expected keyCertSign on a signing certificate", "4.3")
    if profile.uris and _spiffe_id(profile).path:
        raise _fault("URI SAN: expected no path on a signing certificate", "3.2")
    return usage


def _usage(profile: _Profile) -> x509.KeyUsage:
    if profile.usage is None:
        raise _fault("key usage: missing, or not critical", "4.3")
    return profile.usage


def _spiffe_id(profile: _Profile) -> SpiffeID:
    if len(profile.uris) != 1:
        raise _fault(f"URI SAN: expected 1, found {len(profile.uris)}", "2")
    try:
        return SpiffeID.parse(profile.uris[0])
    except SpiffeIDError as e:
        raise _fault(f"URI SAN: {e}", "5.2") from e


def _check_key(cert: x509.Certificate) -> None:
    try:
        certified_key(cert)
    except UnusableKeyError as e:
        raise _fault(str(e), "5.1") from e


def _fault(message: str, section: str) -> X509SVIDError:
    return X509SVIDError(message, clause=f"X509-SVID {section}")
