"""A review of agents that an auditor is given: signed with the key of the audit checkpoints, in a form that anybody can check.

What is in it: issuer/decisions/agentreviews. A context of its own keeps its signature apart from those of checkpoints.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from svid.encoding import JSON, json_value
from svid.errors import SVIDError
from svid.keys import PublicKey, SigningKey, hash_of, kind_of, public_key_from_der, public_key_to_der, thumbprint

__all__ = ["MARK", "VERSION", "SignedReview"]

MARK = "cognomen_agent_review"
"""The key that only such a document has; its value is the version."""

VERSION = 1

_CONTEXT = b"cognomen agent review 1\n"
_KEY, _SIGNATURE = "public_key", "signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReview:
    """A review and who signed it.

    Shape: one JSON object, of which the keys public_key and signature are in hexadecimal. The signature covers a fixed context and the
    object without the signature, with sorted keys, no spaces and ASCII alone: however it is laid out, it can be checked.

    Args:
        document: without key and signature.
        public_key: SubjectPublicKeyInfo DER.
    """

    document: Mapping[str, JSON]
    public_key: bytes
    signature: bytes = b""

    @classmethod
    def signed(cls, document: Mapping[str, JSON], key: SigningKey) -> Self:
        """Sign a document."""
        unsigned = cls(document=document, public_key=public_key_to_der(key.public_key))
        return cls(document=document, public_key=unsigned.public_key, signature=key.sign(unsigned.signed_bytes()))

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read a review without checking its signature.

        Raises:
            ValueError: it is none, or has a key twice: two programs could read two reviews in it.
        """
        found = json_value(text)
        if isinstance(found, dict) and found.get(MARK) == VERSION:
            key, signature = found.pop(_KEY, None), found.pop(_SIGNATURE, None)
            if isinstance(key, str) and isinstance(signature, str):
                return cls(document=found, public_key=_bytes(key, _KEY), signature=_bytes(signature, _SIGNATURE))
        raise ValueError(f"expected an object with {MARK}, {_KEY} and {_SIGNATURE}, as agent review --export writes it")

    @property
    def key_thumbprint(self) -> str:
        """The SHA-256 of its key, in lower-case hexadecimal."""
        return thumbprint(self.public_key)

    def check_signature(self) -> None:
        """Check that the key in it signed it; only the issuer's operator can say whether that is the issuer's key.

        Raises:
            ValueError: the key did not sign it.
        """
        try:
            _verify(self.signature, self.signed_bytes(), public_key_from_der(self.public_key))
        except (InvalidSignature, SVIDError) as e:
            raise ValueError("review: its signature is not by the key in it") from e

    def to_json(self) -> bytes:
        """Write it for people and programs, in the order of its keys."""
        document = {**self.document, _KEY: self.public_key.hex(), _SIGNATURE: self.signature.hex()}
        return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"

    def signed_bytes(self) -> bytes:
        """The bytes that the signature covers."""
        document = {**self.document, _KEY: self.public_key.hex()}
        return _CONTEXT + json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _verify(signature: bytes, signed: bytes, key: PublicKey) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidSignature
    key.verify(signature, signed, ec.ECDSA(hash_of(kind_of(key))))


def _bytes(text: str, key: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as e:
        raise ValueError(f"{key}: expected bytes in hexadecimal") from e
