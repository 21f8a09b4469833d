"""Keys: the kinds that we trust, the kinds that we make, their encodings, and the handle that all code signs with.

A key manager decides where private keys live (issuer/keymanager), and issuer/decisions/minting what may be certified.
"""

import hashlib
from enum import StrEnum
from functools import partial
from typing import Generic, Never, NewType, Protocol, Self, TypeAlias, TypeVar, assert_never

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.utils import Buffer

from svid.errors import UnusableKeyError

__all__ = [
    "JWS_ALGORITHMS",
    "KeyID",
    "KeyKind",
    "LocalSigningKey",
    "PrivateKey",
    "PublicKey",
    "SigningKey",
    "as_private_key",
    "certified_key",
    "check_trustworthy",
    "generate_private_key",
    "hash_of",
    "jws_algorithm",
    "kind_of",
    "private_key_from_der",
    "private_key_to_der",
    "public_key_from_der",
    "public_key_to_der",
    "thumbprint",
]

KeyID = NewType("KeyID", str)
"""A key's name within one key manager."""

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_PublicKeyT = TypeVar("_PublicKeyT", bound=PublicKey)


_P256_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_P256_SIZE = len(_P256_PREFIX) + 64  # an uncompressed point; with this prefix it has only one form


_TRUSTWORTHY_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_RSA_BITS = range(2048, 8192 + 1)
_RSA_EXPONENTS = range(65537, 1 << 31, 2)
_TRUSTWORTHY = f"P-256, P-384, P-521 or RSA of {_RSA_BITS[0]} to {_RSA_BITS[-1]} bits"


class KeyKind(StrEnum):
    """The kinds of key that we make and certify; other issuers may use a few more kinds (check_trustworthy)."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    RSA_2048 = "rsa-2048"
    RSA_4096 = "rsa-4096"


_JWS = {
    KeyKind.EC_P256: "ES256",
    KeyKind.EC_P384: "ES384",
    KeyKind.RSA_2048: "RS256",
    KeyKind.RSA_4096: "RS256",
}
JWS_ALGORITHMS = frozenset(_JWS.values())
"""What keys of the kinds that we make sign JWTs with."""


class SigningKey(Protocol):
    """A handle on a private key that may live elsewhere: it only signs, and the key never leaves.

    Shape: EC signatures are DER ECDSA-Sig-Value; RSA signatures are PKCS #1 v1.5. The hash is SHA-256, or SHA-384 for P-384.
    """

    @property
    def id(self) -> KeyID:
        """The key's name within its key manager."""

    @property
    def kind(self) -> KeyKind:
        """The key's kind."""

    @property
    def public_key(self) -> PublicKey:
        """The public half."""

    def sign(self, data: bytes) -> bytes:
        """Sign these bytes."""


class LocalSigningKey:
    """A signing key whose private half is in this process's memory."""

    def __init__(self, key_id: KeyID, private_key: PrivateKey) -> None:
        self._private_key = private_key
        self._id = key_id
        self._kind = kind_of(private_key.public_key())
        algorithm = hash_of(
            self._kind
        )  # decided once, with the way to sign: asking a key for its type each time costs a fraction of a signature
        if isinstance(private_key, rsa.RSAPrivateKey):
            self._sign = partial(private_key.sign, padding=padding.PKCS1v15(), algorithm=algorithm)
        else:
            self._sign = partial(private_key.sign, signature_algorithm=ec.ECDSA(algorithm))

    @property
    def id(self) -> KeyID:
        """The key's name within its key manager."""
        return self._id

    @property
    def kind(self) -> KeyKind:
        """The key's kind."""
        return self._kind

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._private_key.public_key()

    def sign(self, data: bytes) -> bytes:
        """Sign these bytes."""
        return self._sign(data)

    def __repr__(self) -> str:
        return f"LocalSigningKey(id={self._id!r}, kind={self._kind!r})"


class _Handle(Generic[_PublicKeyT]):
    """A private key for cryptography's builders; it signs with a SigningKey, and can do nothing else."""

    def __init__(self, key: SigningKey, public_key: _PublicKeyT) -> None:
        self._key = key
        self._public_key = public_key

    def public_key(self) -> _PublicKeyT:
        return self._public_key

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def _sign(self, data: Buffer, algorithm: object) -> bytes:
        wanted = hash_of(self._key.kind)
        if not isinstance(algorithm, type(wanted)):
            found = getattr(algorithm, "name", type(algorithm).__name__)
            raise UnusableKeyError(f"hash: expected {wanted.name} for {self._key.kind}, found {found}")
        return self._key.sign(bytes(data))

    def _refuse(self, *_: object, **__: object) -> Never:
        raise UnusableKeyError(f"key: {self._key.id} can only sign; it does not leave its key manager")

    private_numbers = private_bytes = exchange = decrypt = _refuse

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class _ECHandle(_Handle[ec.EllipticCurvePublicKey], ec.EllipticCurvePrivateKey):
    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        return self._sign(data, signature_algorithm.algorithm)


class _RSAHandle(_Handle[rsa.RSAPublicKey], rsa.RSAPrivateKey):
    def sign(self, data: Buffer, padding: object, algorithm: object) -> bytes:  # noqa: ARG002 - PKCS #1 v1.5 by SigningKey
        return self._sign(data, algorithm)


def as_private_key(key: SigningKey) -> PrivateKey:
    """Wrap a handle as a private key of `cryptography`, for its certificate and CRL builders; it can only sign."""
    public_key = key.public_key
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return _ECHandle(key, public_key)
    return _RSAHandle(key, public_key)


def hash_of(kind: KeyKind) -> hashes.SHA256 | hashes.SHA384:
    """The hash that keys of this kind sign with."""
    return hashes.SHA384() if kind is KeyKind.EC_P384 else hashes.SHA256()


def jws_algorithm(key: PublicKey) -> str:
    """The JWS algorithm of a key that is of a kind that we make.

    Raises:
        UnusableKeyError: as kind_of.

    Source: RFC 7518 3.1
    """
    return _JWS[kind_of(key)]


def generate_private_key(kind: KeyKind) -> PrivateKey:
    """Make a key in this process's memory."""
    match kind:
        case KeyKind.EC_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyKind.EC_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyKind.RSA_2048:
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case KeyKind.RSA_4096:
            return rsa.generate_private_key(public_exponent=65537, key_size=4096)
        case _:
            assert_never(kind)


def check_trustworthy(key: object) -> PublicKey:
    """Check that we trust the kind of another party's public key: a leaf's, an intermediate's or an authority's, X.509 or JWT.

    This is the only list of trusted kinds: P-256, P-384, P-521, and RSA of 2048 to 8192 bits with an odd exponent from 65537 to 2³¹ - 1.

    SPIFFE defines kinds of keys only for JWT-SVIDs, through their algorithms, and these are those kinds. We require the same of X509-SVIDs.
    Ed25519 is missing because verifiers do not agree on it: go-spiffe accepts it, BoringSSL (gRPC, Envoy) and our own path validation do
    not, and no JWT-SVID may be signed with it. P-521 is needed for JWT-SVIDs (ES512), and is accepted in certificates as well; but a leaf
    with such a key cannot be used with gRPC.

    Raises:
        UnusableKeyError: any other type, curve, size or exponent.

    Source: SPIFFE JWT-SVID 2.1; FIPS 186-5 5.1 and 6.1.1; the upper bounds keep a verification cheap.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, _TRUSTWORTHY_CURVES):
            return key
        raise UnusableKeyError(f"key: expected {_TRUSTWORTHY}, found {key.curve.name}")
    if not isinstance(key, rsa.RSAPublicKey):
        raise UnusableKeyError(f"key: expected {_TRUSTWORTHY}, found {type(key).__name__}")
    if key.key_size not in _RSA_BITS:
        raise UnusableKeyError(f"key: expected {_TRUSTWORTHY}, found RSA of {key.key_size} bits")
    if key.public_numbers().e not in _RSA_EXPONENTS:
        raise UnusableKeyError("key: expected an odd RSA exponent from 65537 to 2147483647, found a different one")
    return key


def certified_key(certificate: x509.Certificate) -> PublicKey:
    """Return the key of a certificate, if we trust its kind.

    Raises:
        UnusableKeyError: as check_trustworthy, or the key cannot be read.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as e:
        raise UnusableKeyError("key: unknown or malformed public key") from e
    return check_trustworthy(key)


def kind_of(key: object) -> KeyKind:
    """Return the kind of a public key, if it is one that we make.

    Raises:
        UnusableKeyError: any other type, curve or size.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1):
            return KeyKind.EC_P256
        if isinstance(key.curve, ec.SECP384R1):
            return KeyKind.EC_P384
        raise UnusableKeyError(f"key: expected the curve P-256 or P-384, found {key.curve.name}")
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size == 2048:  # noqa: PLR2004 - the sizes are the kinds' names
            return KeyKind.RSA_2048
        if key.key_size == 4096:  # noqa: PLR2004 - the sizes are the kinds' names
            return KeyKind.RSA_4096
        raise UnusableKeyError(f"key: expected 2048 or 4096 bits, found {key.key_size}")
    raise UnusableKeyError(f"key: expected an EC or RSA key, found {type(key).__name__}")


def public_key_from_der(der: bytes) -> PublicKey:
    """Parse a SubjectPublicKeyInfo.

    Raises:
        UnusableKeyError: not DER, bytes left over, or a kind that we do not use.

    Source: RFC 5280 4.1.2.7
    """
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise UnusableKeyError("key: expected a SubjectPublicKeyInfo in DER") from e
    kind_of(key)
    if len(der) == _P256_SIZE and der.startswith(_P256_PREFIX) and isinstance(key, ec.EllipticCurvePublicKey):
        return key
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) or public_key_to_der(key) != der:
        raise UnusableKeyError("key: expected the canonical DER of a SubjectPublicKeyInfo")
    return key


def public_key_to_der(key: PublicKey) -> bytes:
    """Encode a public key as SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def thumbprint(key_der: bytes) -> str:
    """Return the SHA-256 of a public key's SubjectPublicKeyInfo, in lower-case hexadecimal."""
    return hashlib.sha256(key_der).hexdigest()


def private_key_from_der(der: bytes) -> PrivateKey:
    """Parse an unencrypted PKCS #8 private key.

    Raises:
        UnusableKeyError: not DER, encrypted, or a kind that we do not use.
    """
    try:
        key = serialization.load_der_private_key(der, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise UnusableKeyError("key: expected an unencrypted PKCS #8 private key in DER") from e
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise UnusableKeyError(f"key: expected an EC or RSA key, found {type(key).__name__}")
    kind_of(key.public_key())
    return key


def private_key_to_der(key: PrivateKey) -> bytes:
    """Encode an unencrypted PKCS #8 private key, for the workload that owns it, and for key files with mode 0600."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
