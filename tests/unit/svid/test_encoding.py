import base64
import re
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from certs.ca import Draft, make_authority, make_certificate
from svid.encoding import (
    MAX_CHAIN_LENGTH,
    MAX_DOCUMENT_BYTES,
    base64url_decode,
    certificates_from_der,
    certificates_from_pem,
    certificates_to_der,
    certificates_to_pem,
    json_object,
    json_value,
)
from svid.errors import BundleError, SVIDError, X509SVIDError

ROOT = make_authority("authority-1").certificate
LEAF = make_certificate(Draft(name="leaf"), make_authority("authority-1"))
DER = certificates_to_der([LEAF])
VERSION_89 = LEAF.public_bytes(Encoding.DER).replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020158"), 1)


@pytest.mark.parametrize("count", [0, 1, 2, MAX_CHAIN_LENGTH])
def test_certificates_written_and_parsed_are_the_same(count: int) -> None:
    certificates = (LEAF, *[ROOT] * (count - 1)) if count else ()
    assert certificates_from_der(certificates_to_der(certificates)) == certificates


def test_a_certificate_more_than_the_limit_is_refused() -> None:
    with pytest.raises(BundleError, match="expected at most 2, found more"):
        certificates_from_der(DER * 3, limit=2, error=BundleError)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100, len(DER) - 1])
def test_a_truncated_certificate_is_refused(size: int) -> None:
    with pytest.raises(X509SVIDError):
        certificates_from_der(DER + DER[:size])


@pytest.mark.parametrize(
    ("der", "message"),
    [
        (b"-----BEGIN CERTIFICATE-----", "found the byte 0x2d"),
        (b"\x30\x80\x00\x00", "definite length"),
        (b"\x30\x84\x00\x00\x00\x01\x00", "sensible"),
        (b"\x30\x83\x01\x00\x01", "expected at most 65536 bytes, found 65537"),
        (b"\x30\x82", "truncated"),
        (b"\x30", "truncated"),
        (b"\x30\x00", "version 3"),
        (b"\x30\x03abc", "version 3"),
        (VERSION_89, "version 3"),
    ],
)
def test_what_is_no_certificate_is_refused(der: bytes, message: str) -> None:
    with pytest.raises(X509SVIDError, match=message):
        certificates_from_der(der)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # it parses, and warns
@given(st.binary(max_size=40), st.integers(0, len(DER)), st.integers(0, len(DER)))
def test_any_bytes_are_certificates_or_our_error(noise: bytes, start: int, end: int) -> None:
    with suppress(SVIDError):
        certificates_from_der(DER[:start] + noise + DER[end:])


def test_pem_of_a_version_that_nobody_knows_is_refused() -> None:
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(VERSION_89) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(X509SVIDError, match="no broken ones"):
        certificates_from_pem(pem, limit=1, error=X509SVIDError)


def test_pem_written_and_parsed_is_the_same() -> None:
    pem = certificates_to_pem([LEAF, ROOT])
    assert certificates_from_pem(pem, limit=2, error=BundleError) == (LEAF, ROOT)


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "at least 1 CERTIFICATE block"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no broken ones"),
        (certificates_to_pem([LEAF, ROOT]), "expected at most 1, found 2"),
        (b"#" * (MAX_DOCUMENT_BYTES + 1), "expected at most 1048576 bytes"),
    ],
)
def test_pem_without_certificates_or_with_too_many_is_refused(pem: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        certificates_from_pem(pem, limit=1, error=BundleError)


@given(st.binary(max_size=100))
def test_base64url_has_one_form(raw: bytes) -> None:
    text = base64.urlsafe_b64encode(raw).decode()
    assert base64url_decode(text.rstrip("=")) == raw
    if text.endswith("="):
        with pytest.raises(ValueError, match="without padding"):
            base64url_decode(text)


@pytest.mark.parametrize("text", ["A", "A A=", "AA\n", "+/+/", "AB", "é", "AA=="])
def test_other_forms_of_base64_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the library's, in part
        base64url_decode(text)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"a"',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"1" * 5000 + b"}",
    ],
)
def test_what_is_no_strict_json_object_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the library's, in part
        json_object(document)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b'{"a":1,"a":2}', "expected each key once, found 'a' twice"),
        (b'[{"a\\n":1,"a\\n":2}]', r"expected each key once, found 'a\n' twice"),
        (b'"\xff"', "expected UTF-8 text"),
        ('{"a":1}'.encode("utf-16"), "expected UTF-8 text"),
        (b"\xef\xbb\xbf1", "expected UTF-8 text without a byte order mark"),
        (b"[" * 100_000, "JSON is nested too deeply"),
        (b'{"a":' * 100_000, "JSON is nested too deeply"),
        (b"1" * 5000, "a number has too many digits: 5000"),
        (b"[NaN]", "expected JSON, found NaN"),
        (b"", "expected JSON: "),
    ],
)
def test_json_with_more_than_one_meaning_or_none_is_refused_in_words(document: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}") as refused:
        json_value(document)
    assert not re.search(r"codec|recursion|sys\.|BOM", str(refused.value))


def test_any_json_value_is_read() -> None:
    assert json_value('["\\ud800",1e999,"é",{"a":{"a":null}}]'.encode()) == [
        "\ud800",
        float("inf"),
        "é",
        {"a": {"a": None}},
    ]


def test_a_json_object_is_a_dict() -> None:
    assert json_object(b'{"a":[1,2.5,null,true,"\\u00e9"]}') == {"a": [1, 2.5, None, True, "é"]}
