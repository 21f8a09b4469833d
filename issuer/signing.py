"""Sign recorded drafts with the key of one authority, and lint the result.

decisions/profile decides what a draft says, and decisions/lint what may be released. issuer/recording records drafts.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import jwt
from cryptography import x509

from cognomen.protocol.errors import Kind, Refused
from issuer.decisions.certificate import LeafForm
from issuer.decisions.crl import CRLDraft, ListForm
from issuer.decisions.lint import lint_crl_der, lint_token, lint_x509_der
from issuer.decisions.profile import JWTDraft, X509Draft, claims_of
from issuer.recording import OnRecord, Recorded
from svid.keys import SigningKey, as_private_key, jws_algorithm

__all__ = ["JWTSigner", "X509Signer", "sign_many"]

RecordedT = TypeVar("RecordedT")
SignedT = TypeVar("SignedT")

_SLICE = 16  # signatures before the event loop gets a turn: about 3 ms


class X509Signer:
    """One authority that signs X509-SVIDs and its revocation lists.

    Raises:
        Refused: INTERNAL when the key does not belong to the certificate.
    """

    def __init__(self, key: SigningKey, certificate: x509.Certificate) -> None:
        if certificate.public_key() != key.public_key:
            raise Refused(
                Kind.INTERNAL,
                f"authority {key.id}: the key does not belong to its certificate",
                hint="were the key directory and the datastore restored from different backups?",
            )
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        self._key = key
        self._name = certificate.subject
        self._identifier = identifier.digest
        self._form = LeafForm(key.kind, issuer=self._name, authority_ski=self._identifier)

    def sign(self, recorded: Recorded[X509Draft]) -> bytes:
        """Sign a draft; returns DER.

        Raises:
            Refused: INTERNAL when the result is not what was drafted, or when the draft was already signed; nothing is released then.
        """
        draft = recorded.spend(self._key.id)
        to_be_signed = self._form.to_be_signed(draft)
        der = self._form.signed(to_be_signed, self._key.sign(to_be_signed))
        lint_x509_der(der, draft, authority_name=self._name, authority_ski=self._identifier)
        return der

    def sign_crl(self, recorded: OnRecord[CRLDraft]) -> bytes:
        """Sign a revocation list; raises what `sign` raises. With 10,000 entries this takes a tenth of a second.

        Source: RFC 5280 5
        """
        draft = recorded.spend(self._key.id)
        form = ListForm(self._key.kind, issuer=self._name, authority_ski=self._identifier)
        to_be_signed = form.to_be_signed(draft)
        der = form.signed(to_be_signed, self._key.sign(to_be_signed))
        lint_crl_der(der, draft, authority_name=self._name, authority_ski=self._identifier)
        return der


class JWTSigner:
    """One authority that signs JWT-SVIDs; its key's id is the `kid`."""

    def __init__(self, key: SigningKey) -> None:
        self._key = as_private_key(key)
        self._id = key.id
        self._algorithm = jws_algorithm(key.public_key)

    def sign(self, recorded: Recorded[JWTDraft]) -> str:
        """Sign a draft; raises what X509Signer.sign raises.

        Source: SPIFFE JWT-SVID 2, 3
        """
        draft = recorded.spend(self._id)
        token = jwt.encode(claims_of(draft), self._key, algorithm=self._algorithm, headers={"kid": self._id})
        lint_token(token, draft, algorithm=self._algorithm, key_id=self._id)
        return token


async def sign_many(sign: Callable[[RecordedT], SignedT], recorded: Sequence[RecordedT]) -> list[SignedT]:
    """Sign a batch in slices; between them the event loop gets its turn."""
    signed: list[SignedT] = []
    for start in range(0, len(recorded), _SLICE):
        signed += map(sign, recorded[start : start + _SLICE])
        await asyncio.sleep(0)
    return signed
