"""Certificate revocation lists as the library's builder writes them, right ones and wrong ones, by the test CA."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.ca import NOW, Authority, make_key

__all__ = ["Listed", "make_crl", "make_namesake"]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A list to be made: as it stands, an empty one that every verifier takes. None: no such extension."""

    number: int | None = 1
    serials: tuple[int, ...] = ()
    this_update: datetime = NOW
    next_update: datetime = NOW + timedelta(days=7)
    has_key_id: bool = True
    others: tuple[x509.ExtensionType, ...] = ()
    others_critical: bool = False
    of_entries: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    hash: type[hashes.SHA224 | hashes.SHA256 | hashes.SHA384] = hashes.SHA256


def make_crl(authority: Authority, listed: Listed | None = None, *, signer: Authority | None = None) -> bytes:
    """Sign a list in the authority's name, by its own key or by `signer`'s; DER."""
    listed = listed or Listed()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(listed.this_update)
        .next_update(listed.next_update)
    )
    for serial in listed.serials:
        builder = builder.add_revoked_certificate(_entry(serial, listed.this_update, listed.of_entries))
    if listed.number is not None:
        builder = builder.add_extension(x509.CRLNumber(listed.number), critical=False)
    if listed.has_key_id:
        key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
        builder = builder.add_extension(key_id, critical=False)
    for extension in listed.others:
        builder = builder.add_extension(extension, critical=listed.others_critical)
    return builder.sign((signer or authority).key, listed.hash()).public_bytes(Encoding.DER)


def make_namesake(authority: x509.Certificate, trust_domain: str) -> Authority:
    """Make an authority with the subject and the key id of that one, and a key of its own."""
    key = make_key("the key of a namesake")
    extensions = authority.extensions
    builder = (
        x509.CertificateBuilder()
        .subject_name(authority.subject)
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False
        )
        .add_extension(extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value, critical=False)
        .add_extension(extensions.get_extension_for_class(x509.KeyUsage).value, critical=True)
    )
    return Authority(certificate=builder.sign(key, hashes.SHA256()), key=key)


def _entry(serial: int, at: datetime, extensions: Iterable[tuple[x509.ExtensionType, bool]]) -> x509.RevokedCertificate:
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
    for extension, critical in extensions:
        entry = entry.add_extension(extension, critical=critical)
    return entry.build()
