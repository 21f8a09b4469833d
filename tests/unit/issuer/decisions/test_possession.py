"""Who wants a key certified shows that it has it, for this purpose and no other."""

from dataclasses import dataclass

import pytest

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.possession import Purpose, possession_bytes
from issuer.decisions.possession import proved_key
from svid.keys import KeyID, KeyKind, LocalSigningKey, PrivateKey, generate_private_key, public_key_to_der
from svid.spiffeid import TrustDomain

TD, OTHER_TD = TrustDomain("example.org"), TrustDomain("example.com")
KEY, OTHER_KEY = generate_private_key(KeyKind.EC_P256), generate_private_key(KeyKind.EC_P256)


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What was signed, and by which key."""

    by: PrivateKey = KEY
    purpose: Purpose = Purpose.JOIN
    trust_domain: TrustDomain = TD
    bound_to: bytes = b"token"
    key: PrivateKey = KEY

    def signature(self) -> bytes:
        public_key = public_key_to_der(self.key.public_key())
        signed = possession_bytes(self.purpose, self.trust_domain, self.bound_to, public_key)
        return LocalSigningKey(KeyID("k"), self.by).sign(signed)


def check(signature: bytes, key: PrivateKey = KEY) -> None:
    der = public_key_to_der(key.public_key())
    found = proved_key(der, signature, purpose=Purpose.JOIN, trust_domain=TD, bound_to=b"token")
    assert public_key_to_der(found) == der


def test_the_key_itself_signs() -> None:
    check(Signed().signature())


def test_p384_signs_too() -> None:
    key = generate_private_key(KeyKind.EC_P384)
    check(Signed(by=key, key=key).signature(), key)


@pytest.mark.parametrize(
    "bent",
    [
        Signed(by=OTHER_KEY),
        Signed(purpose=Purpose.RENEWAL),
        Signed(purpose=Purpose.READMISSION),
        Signed(trust_domain=OTHER_TD),
        Signed(bound_to=b"another token"),
        Signed(bound_to=b""),
        Signed(key=OTHER_KEY),
    ],
    ids=[
        "another key's",
        "a renewal's",
        "a readmission's",
        "another trust domain's",
        "another token's",
        "no token's",
        "of another key",
    ],
)
def test_what_was_signed_by_another_key_or_for_something_else_is_refused(bent: Signed) -> None:
    with pytest.raises(Refused, match="key_signature: invalid") as refused:
        check(bent.signature())
    assert refused.value.kind is Kind.UNAUTHENTICATED


def test_an_older_attestor_that_signs_nothing_gets_a_sentence() -> None:
    with pytest.raises(Refused) as refused:
        check(b"")
    assert refused.value.kind is Kind.INVALID
    assert "is the attestor older than the issuer?" in refused.value.detail


@pytest.mark.parametrize(("signature", "kind"), [(b"x" * 256, Kind.UNAUTHENTICATED), (b"x" * 257, Kind.INVALID)])
def test_bytes_that_are_no_signature_are_refused(signature: bytes, kind: Kind) -> None:
    with pytest.raises(Refused) as refused:
        check(signature)
    assert refused.value.kind is kind


def test_no_two_askings_are_the_same_bytes() -> None:
    """Each part is behind its length, so none runs over into the next."""
    one = possession_bytes(Purpose.JOIN, TrustDomain("a"), b"bc", b"k")
    assert one != possession_bytes(Purpose.JOIN, TrustDomain("ab"), b"c", b"k")
