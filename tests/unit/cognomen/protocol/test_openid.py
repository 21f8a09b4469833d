"""What relying parties of OpenID Connect read: checked by PyJWT, which is one."""

import json

import jwt
import pytest

from cognomen.protocol.openid import check_issuer_url, discovery_document, keys_document
from svid.bundle import Bundle
from svid.keys import KeyKind, PublicKey, generate_private_key
from svid.spiffeid import TrustDomain

ISSUER = "https://oidc.example.org"
KEYS = {kind: generate_private_key(kind) for kind in (KeyKind.EC_P256, KeyKind.EC_P384, KeyKind.RSA_2048)}


def bundle(**keys: PublicKey) -> Bundle:
    return Bundle(trust_domain=TrustDomain("example.org"), jwt_authorities=keys)


def both() -> Bundle:
    return bundle(old=KEYS[KeyKind.RSA_2048].public_key(), new=KEYS[KeyKind.EC_P256].public_key())


@pytest.mark.parametrize(
    "url",
    [
        ISSUER,
        "https://oidc.example.org:8445",
        "https://example.org/trust/one",
        "https://192.0.2.7",
        "https://[2001:db8::7]:8445/a",
        "https://localhost:8445",
    ],
)
def test_an_https_url_is_an_issuer(url: str) -> None:
    assert check_issuer_url(url).geturl() == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "an https URL such as"),
        ("oidc.example.org", "an https URL such as"),
        ("http://oidc.example.org", "an https URL such as"),
        ("HTTPS://oidc.example.org", "an https URL such as"),
        ("https://", "a host"),
        ("https:///keys", "a host"),
        ("https://user@oidc.example.org", "a host"),
        ("https://user:secret@oidc.example.org", "a host"),
        ("https://oidc.example.org:", "a host"),
        ("https://oidc.example.org:65536", "a host"),
        ("https://oidc.example.org:0", "a port from 1"),
        ("https://oidc.example.org:1:2", "a host"),
        ("https://a b", "a host"),
        ("https://2001:db8::7", "a host"),
        ("https://OIDC.example.org", "a host in lower case"),
        ("https://oidc.example.org:443", "a host in lower case without :443"),
        ("https://oidc.example.org.", "a host in lower case"),
        ("https://oidc.example.org/", "a path of /names without / at its end"),
        ("https://oidc.example.org//a", "a path of /names"),
        ("https://oidc.example.org/.well-known/openid-configuration", "the URL below which"),
        ("https://oidc.example.org/a/../b", "a path of /names"),
        ("https://oidc.example.org/a%2fb", "a path of /names"),
        ("https://oidc.example.org?", "no query"),
        ("https://oidc.example.org?a=b", "no query"),
        ("https://oidc.example.org/#a", "no query and no fragment"),
        ("https://oidc.example.org\n", "an https URL of at most 1024 printable"),
        ("https://bücher.example.org", "an https URL of at most 1024 printable"),
        (f"https://oidc.example.org/{'a' * 1000}", "an https URL of at most 1024 printable"),
    ],
)
def test_whatever_relying_parties_might_write_in_another_way_is_no_issuer(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"expected {expected}"):
        check_issuer_url(url)


def test_the_discovery_document_has_what_an_issuer_without_logins_must_say() -> None:
    found = json.loads(discovery_document(f"{ISSUER}/a"))
    assert found == {
        "issuer": f"{ISSUER}/a",
        "jwks_uri": f"{ISSUER}/a/keys",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "ES384", "RS256"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "jti"],
    }


@pytest.mark.parametrize("kind", KEYS)
def test_each_key_says_what_it_is_for_and_verifies_its_tokens(kind: KeyKind) -> None:
    document = keys_document(bundle(one=KEYS[kind].public_key()))
    (found,) = json.loads(document)["keys"]
    assert (found["kid"], found["use"]) == ("one", "sig")
    token = jwt.encode({"sub": "spiffe://example.org/web"}, KEYS[kind], algorithm=found["alg"])
    assert jwt.decode(token, jwt.PyJWKSet.from_json(document.decode())["one"])["sub"] == "spiffe://example.org/web"


def test_only_public_halves_of_jwt_authorities_are_there_in_one_order() -> None:
    document = keys_document(both())
    assert [one["kid"] for one in json.loads(document)["keys"]] == ["new", "old"]
    assert {name for one in json.loads(document)["keys"] for name in one} == {
        *("kty", "kid", "use", "alg"),
        *("crv", "x", "y"),
        *("n", "e"),
    }
    assert document == keys_document(both())


def test_without_authorities_the_keys_are_a_whole_document() -> None:
    assert json.loads(keys_document(bundle())) == {"keys": []}
