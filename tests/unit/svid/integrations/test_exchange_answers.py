"""svid/integrations/exchange_answers: answers of providers, and of whoever is in their place."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svid.integrations.exchange_answers import Answer, read_aws, read_oauth, read_vault, refusal, shown

READERS = [read_oauth, read_vault, read_aws]
HIDDEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzcGlmZmU6Ly9leGFtcGxlLm9yZy93ZWIifQ.c2lnbmF0dXJl"
PARTS = st.sampled_from(
    [
        b"{",
        b"}",
        b'"',
        b":",
        b",",
        b"auth",
        b"access_token",
        b"expires_in",
        b"1e999",
        b"<a>",
        b"</a>",
        b"Error",
        b"\xff",
    ]
)
DOCUMENTS = st.binary(max_size=200) | st.lists(PARTS, max_size=20).map(b"".join)


@pytest.mark.parametrize("read", READERS)
@given(document=DOCUMENTS)
def test_any_bytes_are_an_answer_or_our_error(read: Callable[[bytes], Answer], document: bytes) -> None:
    try:
        answer = read(document)
    except ValueError:
        return
    assert answer.value


@given(document=DOCUMENTS)
def test_any_bytes_are_a_refusal_of_texts(document: bytes) -> None:
    assert [isinstance(one, str) for one in refusal(document)] == [True, True]


@given(before=st.text(max_size=300), after=st.text(max_size=300), start=st.integers(0, 60), end=st.integers(8, 90))
def test_what_is_shown_is_short_and_printable_and_holds_no_part_of_a_secret(
    before: str, after: str, start: int, end: int
) -> None:
    text = shown(before + HIDDEN[start:end] + after, (HIDDEN,))
    assert len(text) <= 256
    assert text.isprintable()
    assert not [place for place in range(len(HIDDEN) - 8) if HIDDEN[place : place + 8] in text]


UNKNOWN = ["eyJhbGciOiJFUzI1NiJ9.e30.c2ln", "Xk3" * 15, "sk-ant-oat01-Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3"]


@pytest.mark.parametrize("token", UNKNOWN)
def test_other_tokens_are_not_shown_either(token: str) -> None:
    assert shown(f"bad token {token}!") == "bad token [removed]!"


KEPT = ["3f2b1c9e-6a1d-4f0e-9a63-0d7f0f9e2a11", "arn:aws:iam::123456789012:role/Reader", "spiffe://example.org/web"]


@pytest.mark.parametrize("text", KEPT)
def test_names_are_shown(text: str) -> None:
    assert shown(f"not allowed: {text}") == f"not allowed: {text}"


REFUSALS = [
    (b'{"error": "invalid_grant", "error_description": "no"}', ("invalid_grant", "no")),
    (b'{"type": "error", "error": {"type": "authentication_error", "message": "no"}}', ("authentication_error", "no")),
    (b'{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no"}}', ("INVALID_ARGUMENT", "no")),
    (b'{"errors": ["one", 2, "three"]}', ("", "one; three")),
    (b'{"Error": {"Code": "AccessDenied", "Message": "no"}}', ("AccessDenied", "no")),
    (
        b'<E xmlns="https://a/"><Error><Code>AccessDenied</Code><Message>no</Message></Error></E>',
        ("AccessDenied", "no"),
    ),
    (b"<html><body>no</body></html>", ("", "")),
    (b"<html><br></html>", ("", "")),
    (b"no", ("", "")),
    (b"[]", ("", "")),
    (b'{"error": 5}', ("", "")),
]


@pytest.mark.parametrize(("document", "found"), REFUSALS)
def test_a_refusal_is_found_wherever_a_provider_puts_it(document: bytes, found: tuple[str, str]) -> None:
    assert refusal(document) == found


BOMB = (
    b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><ErrorResponse><Error><Code>&c;</Code></Error></ErrorResponse>'
)


@pytest.mark.parametrize("document", [BOMB, BOMB.lower(), BOMB.decode().encode("utf-16"), b"<a>\0</a>"])
def test_entities_are_not_even_parsed(document: bytes) -> None:
    assert refusal(document) == ("", "")
    with pytest.raises(ValueError, match="expected"):
        read_aws(document)


@pytest.mark.parametrize("encoding", ["unicode_escape", "undefined", "idna", "hex", "zlib", "utf-7", "a" * 300])
def test_an_encoding_that_xml_does_not_have_is_no_answer(encoding: str) -> None:
    document = f'<?xml version="1.0" encoding="{encoding}"?><E><Error><Code>no</Code></Error></E>'.encode()
    assert refusal(document) == ("", "")
    with pytest.raises(ValueError, match="expected XML"):
        read_aws(document)


AWS = '{"AssumeRoleWithWebIdentityResponse": {"AssumeRoleWithWebIdentityResult": {"Credentials": %s}}}'
CREDENTIALS = '{"AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c", "Expiration": %s}'
ENDS = ['"2026-01-01T00:00:00Z"', '"2026-01-01T00:00:00"', '"2026-01-01T01:00:00+01:00"', "1767225600", "1.7672256E9"]


@pytest.mark.parametrize("end", ENDS)
def test_an_end_is_a_moment_however_it_is_written(end: str) -> None:
    answer = read_aws((AWS % (CREDENTIALS % end)).encode())
    assert answer.ends_at is not None
    assert answer.ends_at.isoformat() == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("end", ["null", "true", '"soon"', "1e300", "-1e300", '"9999-99-99"', "[]"])
def test_what_is_no_moment_is_refused(end: str) -> None:
    with pytest.raises(ValueError, match="Expiration: expected a moment"):
        read_aws((AWS % (CREDENTIALS % end)).encode())


def test_a_token_of_vault_without_a_lease_has_no_end() -> None:
    assert read_vault(b'{"auth": {"client_token": "hvs.a", "lease_duration": 0}}').life is None


def test_no_text_of_an_answer_holds_a_token() -> None:
    answer = read_oauth(b'{"access_token": "abcdef", "refresh_token": "ghijkl", "expires_in": 5}')
    assert "abcdef" not in repr(answer)
    assert "ghijkl" not in repr(answer)
