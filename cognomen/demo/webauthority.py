"""The HTTPS of one run: an authority that vouches for `localhost`, as those of the web do, and the servers that it certifies.

The authority's own key is never written, and is gone with the object. A server's key is in its file, mode 0600; no component is given it.
"""

from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from svid.clock import Clock

__all__ = ["WebAuthority"]

_EARLY = timedelta(minutes=5)
_LIFE = timedelta(days=1)
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


class WebAuthority:
    """An authority of one run; its certificate is in the file `path`, for clients to trust.

    Args:
        directory: where the files go; it must exist, and be closed to others.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._now = clock.now()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("the web authority of this run")
        usage = _usage("key_cert_sign", "crl_sign")
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = builder.add_extension(usage, critical=True).sign(self._key, SHA256())
        self.path = directory / "authority.pem"
        self.path.write_bytes(certificate.public_bytes(Encoding.PEM))

    def certify(self, server: str) -> Path:
        """Make a key for a server that is reached as `localhost`, and certify it; returns a file with both, for the server alone."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = _usage("digital_signature")
        builder = self._builder(_name(server), key.public_key())
        for extension, is_critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (usage, True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False),
        ):
            builder = builder.add_extension(extension, critical=is_critical)
        certificate = builder.sign(self._key, SHA256())
        path = self._directory / f"{server}.pem"
        path.touch(mode=0o600)
        path.write_bytes(
            certificate.public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return path

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _EARLY)
            .not_valid_after(self._now + _LIFE)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in allowed for name in _USAGES})
