"""cognomen/protocol/agentreview: a signed review is what the issuer signed, however it is laid out, or nothing."""

import json

import pytest

from cognomen.protocol.agentreview import MARK, SignedReview
from svid.encoding import JSON
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key

KEY = LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256))
DOCUMENT: dict[str, JSON] = {MARK: 1, "trust_domain": "example.org", "owners": [{"owner": "Zoë", "agents": []}]}
TEXT = SignedReview.signed(DOCUMENT, KEY).to_json()


def test_a_review_is_read_as_it_was_signed_however_it_is_laid_out() -> None:
    for text in (TEXT, json.dumps(json.loads(TEXT), sort_keys=True, ensure_ascii=True).encode()):
        found = SignedReview.parse(text)
        found.check_signature()
        assert found.document == DOCUMENT


@pytest.mark.parametrize(
    ("old", "new"), [(b"Zo", b"Jo"), (b"example.org", b"example.com"), (b'"agents": []', b'"agents": [1]')]
)
def test_what_was_changed_is_not_what_was_signed(old: bytes, new: bytes) -> None:
    with pytest.raises(ValueError, match="its signature is not by the key in it"):
        SignedReview.parse(TEXT.replace(old, new)).check_signature()


def test_the_signature_of_another_kind_of_key_is_none() -> None:
    rsa = LocalSigningKey(KeyID("audit-2"), generate_private_key(KeyKind.RSA_2048))
    with pytest.raises(ValueError, match="its signature is not by the key in it"):
        SignedReview.signed(DOCUMENT, rsa).check_signature()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        TEXT.replace(MARK.encode(), b"other"),
        TEXT.replace(b"1,", b"2,", 1),
        TEXT.replace(b"public_key", b"no_key"),
        TEXT.replace(b'"signature": "', b'"signature": "x'),
        TEXT.replace(b'"owners"', b'"trust_domain"'),
    ],
)
def test_what_is_no_review_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected|signature"):
        SignedReview.parse(text)
