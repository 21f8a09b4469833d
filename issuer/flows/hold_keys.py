"""Hold the authorities' signers ready, by key id: loaded at their first signature, kept after it.

Which authority signs is decided in the transaction that records; how a signature is made and linted: issuer/signing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509

from cognomen.daemon.errors import Kind, Refused
from issuer.decisions.authority import Authority
from issuer.decisions.profile import JWTDraft, X509Draft
from issuer.keymanager.port import KeyManager
from issuer.signing import JWTSigner, X509Signer, sign_many
from svid.keys import KeyID, SigningKey

__all__ = ["HoldKeys"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldKeys:
    """Signs batches with the authority that each was recorded for.

    Raises:
        Refused: INTERNAL when lint finds fault, UNAVAILABLE when the key cannot be had; nothing is released then.
    """

    keys: KeyManager
    _x509: dict[KeyID, X509Signer] = field(default_factory=dict)
    _jwt: dict[KeyID, JWTSigner] = field(default_factory=dict)

    async def sign_x509(self, drafts: Sequence[X509Draft], authority: Authority) -> Sequence[bytes]:
        """Sign X509-SVIDs that are on record; DER, in order."""
        signer = self._x509.get(authority.key_id)
        if signer is None:
            key = await self._key(authority.key_id)
            signer = X509Signer(key, x509.load_der_x509_certificate(authority.certificate))
            self._x509[authority.key_id] = signer
        return await sign_many(signer.sign, drafts)

    async def sign_jwt(self, drafts: Sequence[JWTDraft], authority: Authority) -> Sequence[str]:
        """Sign JWT-SVIDs that are on record, in order."""
        signer = self._jwt.get(authority.key_id)
        if signer is None:
            signer = self._jwt[authority.key_id] = JWTSigner(await self._key(authority.key_id))
        return await sign_many(signer.sign, drafts)

    async def destroy(self, key_id: KeyID) -> None:
        """Destroy a key, and forget its signer: nothing is signed by it any more."""
        self._x509.pop(key_id, None)
        self._jwt.pop(key_id, None)
        await self.keys.delete(key_id)

    async def _key(self, key_id: KeyID) -> SigningKey:
        try:
            return await self.keys.get(key_id)
        except Refused as refused:
            hint = refused.hint or "was the store restored without the keys? restore both from one backup"
            raise Refused(Kind.UNAVAILABLE, "authority: its key cannot be had", hint=hint, key=key_id) from refused
