import copy

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from certs.ca import NOW, make_key
from svid.errors import UnusableKeyError
from svid.keys import (
    KeyID,
    KeyKind,
    LocalSigningKey,
    PrivateKey,
    as_private_key,
    generate_private_key,
    hash_of,
    kind_of,
    private_key_from_der,
    private_key_to_der,
    public_key_from_der,
    public_key_to_der,
    thumbprint,
)


@pytest.fixture(params=list(KeyKind))
def key(request: pytest.FixtureRequest) -> PrivateKey:
    return generate_private_key(KeyKind(request.param))


def test_a_key_written_and_parsed_is_the_same(key: PrivateKey) -> None:
    public = key.public_key()
    assert public_key_from_der(public_key_to_der(public)) == public
    again = private_key_from_der(private_key_to_der(key))
    assert again.private_numbers() == key.private_numbers()


def test_what_a_handle_signs_verifies_under_its_public_key(key: PrivateKey) -> None:
    handle = LocalSigningKey(KeyID("a"), key)
    signature = handle.sign(b"data")
    public = handle.public_key
    algorithm = hashes.SHA384() if handle.kind is KeyKind.EC_P384 else hashes.SHA256()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, b"data", padding.PKCS1v15(), algorithm)
    else:
        public.verify(signature, b"data", ec.ECDSA(algorithm))


def test_a_handle_shows_its_name_and_kind_and_nothing_of_the_key() -> None:
    handle = LocalSigningKey(KeyID("x509-1"), make_key("a"))
    assert handle.id == "x509-1"
    assert repr(handle) == "LocalSigningKey(id='x509-1', kind=<KeyKind.EC_P256: 'ec-p256'>)"


def test_other_curves_are_refused() -> None:
    with pytest.raises(UnusableKeyError, match="expected the curve P-256 or P-384, found secp521r1"):
        kind_of(make_key("a", ec.SECP521R1()).public_key())


def test_other_sizes_are_refused() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - the weak key is the test
    with pytest.raises(UnusableKeyError, match="expected 2048 or 4096 bits, found 1024"):
        kind_of(key.public_key())


def test_other_types_are_refused() -> None:
    other = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    with pytest.raises(UnusableKeyError, match="expected an EC or RSA key, found Ed25519PublicKey"):
        public_key_from_der(other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(UnusableKeyError, match="expected an EC or RSA key, found Ed25519PrivateKey"):
        private_key_from_der(other.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize("der", [b"", b"\0", b"0" * 100, b"-----BEGIN PUBLIC KEY-----"])
def test_what_is_no_der_is_refused(der: bytes) -> None:
    with pytest.raises(UnusableKeyError, match="expected a SubjectPublicKeyInfo"):
        public_key_from_der(der)
    with pytest.raises(UnusableKeyError, match="expected an unencrypted PKCS #8 private key"):
        private_key_from_der(der)


def test_bytes_after_a_public_key_are_refused() -> None:
    with pytest.raises(UnusableKeyError):
        public_key_from_der(public_key_to_der(make_key("a").public_key()) + b"\0")


def test_a_compressed_point_is_refused_so_that_one_key_has_one_thumbprint() -> None:
    public = make_key("a").public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    der = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    with pytest.raises(UnusableKeyError, match="expected the canonical DER"):
        public_key_from_der(der)


def test_an_encrypted_key_is_refused() -> None:
    der = make_key("a").private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(UnusableKeyError, match="expected an unencrypted"):
        private_key_from_der(der)


def test_a_private_key_of_another_curve_is_refused() -> None:
    der = make_key("a", ec.SECP521R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(UnusableKeyError, match="found secp521r1"):
        private_key_from_der(der)


def test_a_thumbprint_is_the_sha256_of_the_key() -> None:
    assert thumbprint(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_handle_signs_certificates(key: PrivateKey) -> None:
    handle = as_private_key(LocalSigningKey(KeyID("a"), key))
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, handle.public_key(), 1, NOW, NOW)
    certificate = builder.sign(handle, hash_of(kind_of(key.public_key())))
    certificate.verify_directly_issued_by(certificate)


def test_a_handle_has_the_size_and_the_curve_of_its_key(key: PrivateKey) -> None:
    handle = as_private_key(LocalSigningKey(KeyID("a"), key))
    assert handle.key_size == key.key_size
    if isinstance(handle, ec.EllipticCurvePrivateKey):
        assert handle.curve.name == handle.public_key().curve.name


def test_a_copy_of_a_handle_is_the_handle(key: PrivateKey) -> None:
    handle = as_private_key(LocalSigningKey(KeyID("a"), key))
    assert copy.copy(handle) is handle
    assert copy.deepcopy(handle) is handle


def test_a_handle_gives_nothing_of_the_key_away(key: PrivateKey) -> None:
    handle = as_private_key(LocalSigningKey(KeyID("a"), key))
    with pytest.raises(UnusableKeyError, match="a can only sign"):
        handle.private_numbers()
    with pytest.raises(UnusableKeyError, match="does not leave"):
        private_key_to_der(handle)
    with pytest.raises(UnusableKeyError, match="does not leave"):
        use_otherwise(handle)


def use_otherwise(handle: PrivateKey) -> None:
    if isinstance(handle, ec.EllipticCurvePrivateKey):
        handle.exchange(ec.ECDH(), handle.public_key())
    else:
        handle.decrypt(b"", padding.PKCS1v15())


def test_a_handle_signs_with_the_hash_of_its_kind_alone(key: PrivateKey) -> None:
    handle = as_private_key(LocalSigningKey(KeyID("a"), key))
    with pytest.raises(UnusableKeyError, match=r"hash: expected sha\d+ for .*, found sha512"):
        sign_with_sha512(handle)


def sign_with_sha512(handle: PrivateKey) -> None:
    if isinstance(handle, ec.EllipticCurvePrivateKey):
        handle.sign(b"", ec.ECDSA(hashes.SHA512()))
    else:
        handle.sign(b"", padding.PKCS1v15(), hashes.SHA512())
