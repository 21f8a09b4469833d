"""Bring the authorities forward, one idempotent step after the other: a restart resumes from the rows.

Which step is due is decided in issuer/decisions/authority.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import audit, authority, profile
from issuer.decisions.audit import AuditEvent, Credential, CredentialKind, CredentialState
from issuer.decisions.authority import Authority, AuthorityKind, Step, StepKind
from issuer.decisions.changes import Change, ChangeKind
from issuer.keymanager.port import KeyManager
from issuer.upstream.port import UpstreamAuthority
from svid.clock import Clock
from svid.errors import X509SVIDError
from svid.keys import KeyID, KeyKind, SigningKey, public_key_to_der, thumbprint
from svid.spiffeid import TrustDomain
from svid.x509svid import check_signing

__all__ = ["RotateAuthority"]

_ACTOR = "issuer"


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateAuthority:
    """Takes the steps that are due."""

    datastore: Datastore
    keys: KeyManager
    upstream: UpstreamAuthority
    clock: Clock
    trust_domain: TrustDomain
    lifetime: timedelta

    async def __call__(self) -> None:
        """Take steps until none is due.

        Raises:
            Refused: CONFLICT when the store holds another trust domain's authorities.
        """
        rows = await self.datastore.read(lambda tx: tx.authorities.list())
        self._check_ours(rows)
        while (step := authority.next_step(rows)) is not None:
            await self._take(step)
            rows = await self.datastore.read(lambda tx: tx.authorities.list())

    def _check_ours(self, rows: Sequence[Authority]) -> None:
        for certificate in (x509.load_der_x509_certificate(row.certificate) for row in rows if row.certificate):
            try:
                check_signing(certificate, self.trust_domain)
            except X509SVIDError as e:
                raise Refused(
                    Kind.CONFLICT,
                    f"trust_domain: expected the one of the authorities in the store, found {self.trust_domain}: {e}",
                    hint="each trust domain needs a state_dir of its own",
                ) from e

    async def _take(self, step: Step) -> None:
        match step.kind, step.authority:
            case StepKind.INTEND, _:
                await self._intend(step.authority_kind)
            case StepKind.PREPARE, Authority() as row:
                await self._prepare(row)
            case StepKind.PUBLISH, Authority() as row:
                after = authority.published(row, now=self.clock.now())
                await self._put(after, "authority published")
            case StepKind.ACTIVATE, Authority() as row:
                after = authority.activated(row, now=self.clock.now())
                await self._put(after, "authority activated")
            case _:
                raise Refused(Kind.INTERNAL, f"authority: expected a row to {step.kind}, found none")

    async def _intend(self, kind: AuthorityKind) -> None:
        key_id = KeyID(f"{kind}-{secrets.token_hex(8)}")
        row = authority.intended(kind, key_id, now=self.clock.now(), ttl=self.lifetime)
        await self._put(row, "authority intended")

    async def _prepare(self, row: Authority) -> None:
        # 1. The key, which a former attempt may have made.
        key = await self._key(row.key_id)
        public_key = public_key_to_der(key.public_key)
        if row.kind is AuthorityKind.JWT:
            await self._put(authority.prepared(row, public_key=public_key), "authority prepared")
            return
        # 2. Its certificate: on record before it is signed, like everything.
        serial = profile.serial_from(secrets.token_bytes(16))
        credential = Credential(
            kind=CredentialKind.AUTHORITY,
            serial=profile.serial_to_text(serial),
            spiffe_id=self.trust_domain.id,
            authority_id=row.key_id,
            issued_at=self.clock.now(),
            not_after=row.not_after,
            key_hash=thumbprint(public_key),
        )
        await self.datastore.write(lambda tx: _record(tx, credential))
        draft = profile.build_ca(row, trust_domain=self.trust_domain, serial=serial)
        signed = await self.upstream.sign_ca(draft, key)
        # 3. The row, complete.
        after = authority.prepared(row, public_key=public_key, certificate=signed.chain[0].public_bytes(Encoding.DER))
        await self._put(after, "authority prepared", credential)

    async def _key(self, key_id: KeyID) -> SigningKey:
        try:
            return await self.keys.get(key_id)
        except Refused as refused:
            if refused.kind is not Kind.NOT_FOUND:
                raise
            return await self.keys.generate(key_id, KeyKind.EC_P256)

    async def _put(self, row: Authority, action: str, credential: Credential | None = None) -> None:
        event = AuditEvent(at=self.clock.now(), actor=_ACTOR, action=action, subject=row.key_id)

        def work(tx: Transaction) -> None:
            tx.authorities.put(row)
            if credential is not None:
                tx.ledger.resolve([credential.serial], CredentialState.ISSUED)
            if row.state is authority.AuthorityState.NEXT:
                tx.bundles.advance()
                tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
            tx.audit.append([event])

        await self.datastore.write(work)


def _record(tx: Transaction, credential: Credential) -> None:
    tx.ledger.record([credential])
    tx.audit.append([audit.issued(credential, actor=_ACTOR)])
