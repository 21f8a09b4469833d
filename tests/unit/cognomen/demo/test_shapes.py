"""How the demo's scan recognises a secret, by its look and by its name."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from cognomen.demo.shapes import KEY_KINDS, in_arguments, in_bytes, in_environment

DIGITS = hashlib.sha256(b"as random as a key").hexdigest().encode()
EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ED = ed25519.Ed25519PrivateKey.generate()
KEYS: Mapping[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey] = {
    "ec": EC,
    "rsa": RSA,
    "ed25519": ED,
}
DER = {name: key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()) for name, key in KEYS.items()}
TOKENS = {
    "sk-ant-": b"sk-ant-api03-" + DIGITS[:40],
    "sk-": b"sk-proj-1" + DIGITS[:32],
    "AKIA": b"AKIA" + b"2EXAMPLE7EXAMPLE",
    "AIza": b"AIza" + DIGITS[:35],
    "ghp_": b"ghp_" + DIGITS[:36],
    "xox": b"xoxb-1234567890-abcdef",
    "URL": b"://user:hunter2@db.example",
    "Vault": b"hvs.CAESIJ" + DIGITS[:40],
    "Authorization": b"Bearer " + DIGITS[:24],
    ".netrc": b"machine db.example login user password hunter2",
    "JWT": jwt.encode({"sub": "spiffe://example.org/a"}, EC, "ES256").encode(),
}


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_of_a_known_kind_is_recognised_in_the_middle_of_a_text(kind: str) -> None:
    (found,) = in_bytes(b"\x00\xff = " + TOKENS[kind] + b"\n")
    assert kind in found
    assert TOKENS[kind].decode() not in found


@pytest.mark.parametrize("kind", sorted({*TOKENS} - {"URL"}))
def test_a_part_of_a_longer_word_is_no_token(kind: str) -> None:
    assert list(in_bytes(b"x" + TOKENS[kind])) == []


@pytest.mark.parametrize("kind", KEYS)
def test_a_private_key_is_recognised_in_each_encoding(kind: str) -> None:
    pem = KEYS[kind].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for text in (DER[kind], pem, pem.replace(b"\n", b"\\n"), pem.replace(b"\n", b"\r\n")):
        assert set(in_bytes(b"before" + text + b"after")) <= KEY_KINDS
        assert list(in_bytes(b"before" + text + b"after"))


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_private_key_in_base64_is_one_finding_whatever_its_name(kind: str) -> None:
    assert set(in_bytes(b'{"private_key": "' + b64encode(DER[kind]) + b'"}')) <= KEY_KINDS
    assert len(list(in_bytes(b'{"private_key": "' + b64encode(DER[kind]) + b'"}'))) == 1


def test_a_private_jwk_is_recognised_and_a_public_one_is_no_secret() -> None:
    for key, private, public in (
        ("ec", ECAlgorithm.to_jwk(EC), ECAlgorithm.to_jwk(EC.public_key())),
        ("rsa", RSAAlgorithm.to_jwk(RSA), RSAAlgorithm.to_jwk(RSA.public_key())),
        ("ed25519", OKPAlgorithm.to_jwk(ED), OKPAlgorithm.to_jwk(ED.public_key())),
    ):
        assert list(in_bytes(private.encode())) == ["a private key (JWK)"], key
        assert list(in_bytes(public.encode())) == [], key


def test_a_key_in_the_older_form_of_pem_is_recognised() -> None:
    pem = EC.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert list(in_bytes(pem)) == ["a private key (PEM)"]


def test_public_keys_certificates_and_words_are_no_secrets() -> None:
    public = EC.public_key()
    for text in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        b"-----BEGIN PRIVATE KEY-----\n",
        b"task-and-risk-sk-learn, sk-, eyJ, AKIA, the token: bearer",
        b"identity_token_provider=identity_provider\npassword = input()\ntoken: aaaaaaaaaaaaaaaaaaaaaaaa",
        b"https://[::1]:8443/a, spiffe://example.org/a@b, https://%s:%s@host, https://localhost:8443/@a",
        b"",
    ):
        assert list(in_bytes(text)) == []


@pytest.mark.parametrize(
    "line", [b'OPENAI_API_KEY="%s"', b"db_password = %s", b"{'client-secret': '%s'}", b"X_TOKEN=%s", b"apikey:%s"]
)
def test_a_random_value_under_the_name_of_a_secret_is_found_by_that_name(line: bytes) -> None:
    (found,) = in_bytes(b"\n" + line % DIGITS[:32] + b"\n")
    name = line.decode().strip("{'").partition("=")[0].partition(":")[0].strip("\"' ")
    assert found == f"a random value assigned to {name}"


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({"OPENAI_API_KEY": "q"}, ["OPENAI_API_KEY"]),
        ({"AWS_SECRET_ACCESS_KEY": "q", "AWS_ACCESS_KEY_ID": "q"}, ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"]),
        ({"PASSWORD": "q", "db_passwd": "q", "GITHUB_TOKEN": "q"}, ["PASSWORD", "db_passwd", "GITHUB_TOKEN"]),
        ({"PGPASSWORD": "q", "OPENAI_KEY": "q", "KEY": "q"}, ["PGPASSWORD", "OPENAI_KEY", "KEY"]),
        (
            {"MYSQL_PWD": "q", "DB_PASS": "q", "PWD": "/x", "OLDPWD": "/x", "GIT_ASKPASS": "/bin/x"},
            ["MYSQL_PWD", "DB_PASS"],
        ),
        ({"DATABASE_URL": "postgresql://a:hunter2@db/x"}, ["DATABASE_URL"]),
        ({"URL": f"https://x/{TOKENS['ghp_'].decode()}"}, ["URL"]),
        ({"GITHUB_TOKEN": ""}, []),
        (
            {
                "ANTHROPIC_IDENTITY_TOKEN_FILE": "/run/tokens/claude",
                "PATH": "/bin",
                "TOKENIZERS": "1",
                "KEYBOARD": "us",
            },
            [],
        ),
    ],
)
def test_a_variable_is_found_by_its_name_or_its_value(environment: Mapping[str, str], names: list[str]) -> None:
    assert [name for name, _ in in_environment(environment)] == names


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["x", "--password=q"], "the value of --password"),
        (["x", "--api-key", "q"], "the value of --api-key"),
        (["env", "OPENAI_API_KEY=q", "x"], "the value of OPENAI_API_KEY"),
        (["curl", "-H", f"x-api-key: {TOKENS['sk-ant-'].decode()}"], "an Anthropic key or token (sk-ant-…)"),
    ],
)
def test_an_argument_is_found_by_its_name_or_its_look(arguments: list[str], found: str) -> None:
    assert list(in_arguments(arguments)) == [found]


def test_arguments_without_a_value_are_no_secrets() -> None:
    for arguments in (["x", "--token"], ["x", "--token", "--verbose"], ["x", "--password="], ["token"], []):
        assert list(in_arguments(arguments)) == []
