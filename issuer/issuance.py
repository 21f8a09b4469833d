"""Release what was recorded: sign it with the authority that it was recorded for, lint it, and note the outcome in the ledger.

This is the only way from a decision to a credential. issuer/recording records drafts; issuer/signing makes signatures.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography import x509

from cognomen.daemon.plugincalls import PluginCalls
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.decisions.authority import Authority
from issuer.decisions.crl import CRLDraft
from issuer.decisions.ledger import CredentialKind, CredentialState
from issuer.decisions.lint import lint_ca
from issuer.decisions.profile import CADraft, Draft, JWTDraft, X509Draft
from issuer.keymanager.port import KeyManager
from issuer.metrics import Metrics
from issuer.recording import OnRecord, Recorded
from issuer.signing import JWTSigner, X509Signer, sign_many
from issuer.upstream.port import SignedCA, UpstreamAuthority
from svid.keys import KeyID, SigningKey, public_key_to_der

__all__ = ["Issuance", "has_key"]

_RESTORED_APART = "was the store restored without the keys? restore both from one backup"

DraftT = TypeVar("DraftT", bound=Draft)
SignedT = TypeVar("SignedT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """Signs, and keeps each authority's signer loaded from its first signature on.

    Args:
        later: does a small write soon, which may be lost or done twice: `intended` counts as issued.

    Raises:
        Refused: INTERNAL when lint finds a fault of ours, UNAVAILABLE when the key is not available or the upstream authority fails;
            nothing is released then.
    """

    keys: KeyManager
    upstream: UpstreamAuthority
    later: Callable[[Callable[[Transaction], None]], None]
    metrics: Metrics
    upstream_seconds: float = 20.0  # less than an operator's command waits
    calls: PluginCalls = field(default_factory=PluginCalls)
    _x509: dict[KeyID, X509Signer] = field(default_factory=dict)
    _jwt: dict[KeyID, JWTSigner] = field(default_factory=dict)

    async def release_x509(self, recorded: Sequence[Recorded[X509Draft]]) -> Sequence[tuple[bytes, ...]]:
        """Sign X509-SVIDs of one authority and one kind, in order.

        Shape: for each, DER, the leaf first, then the chain up to below the root.
        """
        leaves = await self._release(recorded, self._sign_x509(recorded))
        return [(leaf, *one.authority.chain) for leaf, one in zip(leaves, recorded, strict=True)]

    async def release_jwt(self, recorded: Sequence[Recorded[JWTDraft]]) -> Sequence[str]:
        """Sign JWT-SVIDs of one authority, in order."""
        return await self._release(recorded, self._sign_jwt(recorded))

    async def release_ca(self, recorded: Recorded[CADraft], key: SigningKey) -> SignedCA:
        """Have an authority's certificate signed for its key."""
        return await self._release([recorded], self._sign_ca(recorded, key))

    async def load(self, authority: Authority) -> None:
        """Load the signer of an X.509 authority before anything that it should sign is recorded."""
        await self._x509_signer(authority)

    async def release_crl(self, recorded: OnRecord[CRLDraft]) -> bytes:
        """Sign a revocation list, in a thread, because a long one would make everybody else wait."""
        signer = await self._x509_signer(recorded.authority)
        return await asyncio.to_thread(signer.sign_crl, recorded)

    async def destroy(self, key_id: KeyID) -> None:
        """Destroy a key and forget its signer, so that it signs nothing any more."""
        self._x509.pop(key_id, None)
        self._jwt.pop(key_id, None)
        await self.keys.delete(key_id)

    async def _release(self, recorded: Sequence[Recorded[DraftT]], signing: Awaitable[SignedT]) -> SignedT:
        try:
            signed = await signing
        except Exception:
            self._resolve(recorded, CredentialState.FAILED)
            raise
        self._resolve(recorded, CredentialState.ISSUED)
        for kind, count in Counter(one.credential.kind for one in recorded).items():
            if kind is not CredentialKind.AUTHORITY:
                self.metrics.svids_signed.labels(kind).inc(count)
        return signed

    def _resolve(self, recorded: Sequence[Recorded[DraftT]], state: CredentialState) -> None:
        serials = [one.credential.serial for one in recorded]
        if serials:
            self.later(lambda tx: tx.ledger.resolve(serials, state))

    async def _sign_x509(self, recorded: Sequence[Recorded[X509Draft]]) -> Sequence[bytes]:
        if not recorded:
            return []
        signer = await self._x509_signer(recorded[0].authority)
        return await sign_many(signer.sign, recorded)

    async def _x509_signer(self, authority: Authority) -> X509Signer:
        signer = self._x509.get(authority.key_id)
        if signer is None:
            key = await self._key(authority)
            signer = X509Signer(key, x509.load_der_x509_certificate(authority.certificate))
            self._x509[authority.key_id] = signer
        return signer

    async def _sign_jwt(self, recorded: Sequence[Recorded[JWTDraft]]) -> Sequence[str]:
        if not recorded:
            return []
        authority = recorded[0].authority
        signer = self._jwt.get(authority.key_id)
        if signer is None:
            signer = self._jwt[authority.key_id] = JWTSigner(await self._key(authority))
        return await sign_many(signer.sign, recorded)

    async def _sign_ca(self, recorded: Recorded[CADraft], key: SigningKey) -> SignedCA:
        draft = recorded.spend(key.id)
        plugin = f"upstream authority {type(self.upstream).__name__}"
        async with self.calls.within(plugin, self.upstream_seconds):
            signed: object = await self.upstream.sign_ca(draft, key)
        if not isinstance(signed, SignedCA):
            raise Refused(Kind.UNAVAILABLE, f"{plugin}: expected a SignedCA, found {type(signed).__name__}")
        lint_ca(signed.chain, signed.roots, draft, key=key.public_key)
        return signed

    async def _key(self, authority: Authority) -> SigningKey:
        try:
            return await self.keys.get(authority.key_id)
        except Refused as refused:
            hint = f"{refused.detail}: {refused.hint or _RESTORED_APART}"
            raise Refused(
                Kind.UNAVAILABLE, "authority: its key is not available", hint=hint, key=authority.key_id
            ) from refused


async def has_key(keys: KeyManager, authority: Authority) -> bool:
    """Whether the key in the authority's row is there: an authority whose key is gone may not sign."""
    try:
        key = await keys.get(authority.key_id)
    except Refused as refused:
        if refused.kind is not Kind.NOT_FOUND:
            raise
        return False
    return public_key_to_der(key.public_key) == authority.public_key
