import asyncio
import copy
import json
from base64 import urlsafe_b64decode
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cognomen.protocol.errors import Kind, Refused
from issuer.decisions import profile
from issuer.decisions.authority import bundle_of
from issuer.decisions.profile import JWTDraft, X509Draft
from issuer.signing import JWTSigner, X509Signer, sign_many
from svid import jwtsvid, x509svid
from svid.errors import UnusableKeyError
from svid.keys import (
    KeyID,
    KeyKind,
    LocalSigningKey,
    PublicKey,
    as_private_key,
    generate_private_key,
    public_key_to_der,
)
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, Signing, an_entry, jwt_authority, x509_authority
from tests.doubles.recorded import recorded

WORKLOAD_KEY = generate_private_key(KeyKind.EC_P256).public_key()
KINDS = [KeyKind.EC_P256, KeyKind.EC_P384, KeyKind.RSA_2048]


def x509_draft(by: Signing, *, dns_names: tuple[str, ...] = (), key: PublicKey = WORKLOAD_KEY) -> X509Draft:
    validity = profile.validity(NOW, timedelta(hours=1), by.authority)
    entry = replace(an_entry("/agent/concierge/reasoning"), dns_names=dns_names)
    return profile.build_x509(entry, public_key_to_der(key), serial=2**127 + 7, validity=validity)


def jwt_draft(by: Signing) -> JWTDraft:
    validity = profile.validity(NOW, timedelta(minutes=5), by.authority)
    return profile.build_jwt(an_entry("/web"), ("spiffe://example.org/db", "b"), jti="01" * 16, validity=validity)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_signed_leaf_is_verified_by_our_bundle(kind: KeyKind) -> None:
    by = await x509_authority(kind=kind)
    leaf = x509.load_der_x509_certificate(X509Signer(by.key, by.certificate).sign(recorded(x509_draft(by), by)))
    bundle = bundle_of(TRUST_DOMAIN, [by.authority], sequence=1)
    assert str(x509svid.verify([leaf], bundle, at=NOW)) == "spiffe://example.org/agent/concierge/reasoning"


@pytest.mark.clause("X5-01", "X5-04", "X5-05", "X5-13", "X5-15", "X5-17", "X5-18", "X5-20", "X5-21")
async def test_a_signed_leaf_keeps_the_profile() -> None:
    by = await x509_authority()
    leaf = x509.load_der_x509_certificate(X509Signer(by.key, by.certificate).sign(recorded(x509_draft(by), by)))
    assert x509svid.check_leaf(leaf) == x509_draft(by).spiffe_id
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert list(names.value) == [x509.UniformResourceIdentifier("spiffe://example.org/agent/concierge/reasoning")]
    assert list(leaf.subject) == []
    assert leaf.issuer == by.certificate.subject
    assert leaf.serial_number == x509_draft(by).serial


@pytest.mark.clause("X5-03")
async def test_dns_names_stand_beside_the_id_in_their_order() -> None:
    by = await x509_authority()
    draft = x509_draft(by, dns_names=("b.example", "a.example"))
    leaf = x509.load_der_x509_certificate(X509Signer(by.key, by.certificate).sign(recorded(draft, by)))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["b.example", "a.example"]
    assert leaf.subject.rfc4514_string() == "CN=b.example"
    bundle = bundle_of(TRUST_DOMAIN, [by.authority], sequence=1)
    assert x509svid.verify([leaf], bundle, at=NOW) == draft.spiffe_id


async def test_a_dns_name_too_long_for_a_common_name_is_none() -> None:
    by = await x509_authority()
    draft = x509_draft(by, dns_names=(f"{'a' * 60}.example",))
    leaf = x509.load_der_x509_certificate(X509Signer(by.key, by.certificate).sign(recorded(draft, by)))
    assert list(leaf.subject) == []


@pytest.mark.parametrize("kind", [KeyKind.EC_P384, KeyKind.RSA_2048])
async def test_a_leaf_may_hold_any_kind_of_key(kind: KeyKind) -> None:
    by, key = await x509_authority(), generate_private_key(kind).public_key()
    leaf = x509.load_der_x509_certificate(
        X509Signer(by.key, by.certificate).sign(recorded(x509_draft(by, key=key), by))
    )
    assert leaf.public_key() == key


async def test_a_key_that_is_not_the_certificates_signs_nothing() -> None:
    one, other = await x509_authority(), await x509_authority()
    with pytest.raises(Refused, match="does not belong to its certificate") as refused:
        X509Signer(one.key, other.certificate)
    assert refused.value.kind is Kind.INTERNAL


async def test_what_is_not_as_drafted_is_not_released() -> None:
    by = await x509_authority()
    draft = x509_draft(by)
    on_record = recorded(draft, by)
    object.__setattr__(draft, "not_after", NOW + timedelta(minutes=30, microseconds=1))
    with pytest.raises(Refused, match="lint: validity") as refused:
        X509Signer(by.key, by.certificate).sign(on_record)
    assert refused.value.kind is Kind.INTERNAL


@pytest.mark.parametrize(
    ("kind", "algorithm"), [(KeyKind.EC_P256, "ES256"), (KeyKind.EC_P384, "ES384"), (KeyKind.RSA_2048, "RS256")]
)
@pytest.mark.clause("JW-01", "JW-03", "JW-04", "JW-08", "JW-09", "JW-10", "JW-13", "JW-24")
def test_a_token_has_exactly_our_header_and_our_claims(kind: KeyKind, algorithm: str) -> None:
    by = jwt_authority(kind=kind)
    token = JWTSigner(by.key).sign(recorded(jwt_draft(by), by))
    header, claims = (json.loads(urlsafe_b64decode(f"{part}==")) for part in token.split(".")[:2])
    assert header == {"alg": algorithm, "kid": "jwt-1", "typ": "JWT"}
    assert claims == {
        "sub": "spiffe://example.org/web",
        "aud": ["spiffe://example.org/db", "b"],
        "exp": int(NOW.timestamp()) + 300,
        "iat": int(NOW.timestamp()),
        "jti": "01" * 16,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_signed_token_is_verified_by_our_bundle(kind: KeyKind) -> None:
    by = jwt_authority(kind=kind)
    bundle = bundle_of(TRUST_DOMAIN, [by.authority], sequence=1)
    token = JWTSigner(by.key).sign(recorded(jwt_draft(by), by))
    assert jwtsvid.verify(token, lambda _: bundle, audience="b", at=NOW).spiffe_id == an_entry("/web").spiffe_id


async def test_a_batch_comes_out_in_its_order_and_lets_the_loop_turn() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert await sign_many(str, range(40)) == [str(number) for number in range(40)]
    task.cancel()
    assert turns >= 3
    assert await sign_many(str, []) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_handle_dressed_as_a_private_key_signs_and_does_nothing_else(kind: KeyKind) -> None:
    key = LocalSigningKey(KeyID("k"), generate_private_key(kind))
    dressed = as_private_key(key)
    assert (dressed.public_key(), dressed.key_size) == (key.public_key, key.public_key.key_size)
    assert copy.copy(dressed) is dressed
    assert copy.deepcopy(dressed) is dressed
    with pytest.raises(UnusableKeyError, match="does not leave its key manager"):
        dressed.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(UnusableKeyError, match="does not leave"):
        dressed.private_numbers()
    if isinstance(dressed, rsa.RSAPrivateKey):
        with pytest.raises(UnusableKeyError, match="does not leave"):
            dressed.decrypt(b"", padding.PKCS1v15())
    else:
        with pytest.raises(UnusableKeyError, match="does not leave"):
            dressed.exchange(ec.ECDH(), ec.generate_private_key(dressed.curve).public_key())


@pytest.mark.parametrize("kind", KINDS)
def test_a_handle_refuses_another_hash_than_its_kinds(kind: KeyKind) -> None:
    dressed = as_private_key(LocalSigningKey(KeyID("k"), generate_private_key(kind)))
    builder = x509.CertificateRevocationListBuilder().issuer_name(x509.Name([])).last_update(NOW).next_update(NOW)
    with pytest.raises(UnusableKeyError, match="found sha512"):
        builder.sign(dressed, hashes.SHA512())
