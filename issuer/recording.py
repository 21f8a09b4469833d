"""Put drafts on record, in the ledger and in the audit, inside the transaction that decides: only what came from here can be signed.

What a draft says is decided in decisions/profile, what may be signed at all in decisions/lint. Who signs: issuer/signing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.decisions import audit
from issuer.decisions.audit import Credential
from issuer.decisions.authority import Authority
from issuer.decisions.lint import lint_draft
from issuer.decisions.profile import Draft, Intent, JWTDraft, serial_to_text
from svid.keys import KeyID, thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["Recorded", "record"]

DraftT = TypeVar("DraftT", bound=Draft)

_SEAL = object()


@dataclass(frozen=True, slots=True)
class Recorded(Generic[DraftT]):
    """A draft that stands in ledger and audit, good for one signature by its authority. `record` alone makes it.

    Raises:
        TypeError: somebody else tried.
    """

    _seal: object = field(repr=False)
    _draft: DraftT
    authority: Authority
    credential: Credential
    _spent: list[None] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("recorded: expected one that record() made, found another")

    def spend(self, by: KeyID) -> DraftT:
        """The draft, to be signed now by this key.

        Raises:
            Refused: INTERNAL when it is for another key, or was signed before: a second credential would not be on record.
        """
        if by != self.authority.key_id or self._spent:
            found = f"one of {self.authority.key_id}" if by != self.authority.key_id else "one that was"
            raise Refused(
                Kind.INTERNAL,
                f"issuance: expected a draft that {by} has not signed yet, found {found}",
                serial=self.credential.serial,
            )
        self._spent.append(None)
        return self._draft


def record(
    tx: Transaction,
    intents: Sequence[Intent[DraftT]],
    authority: Authority,
    *,
    trust_domain: TrustDomain,
    now: datetime,
    actor: str,
) -> list[Recorded[DraftT]]:
    """Put drafts that this authority is to sign into ledger and audit, in order.

    Args:
        actor: who asked, as the audit names it.

    Raises:
        Refused: INTERNAL for a draft that must not be signed.
    """
    for intent in intents:
        lint_draft(intent.draft, trust_domain=trust_domain, authority=authority, now=now)
    credentials = [_credential(intent, authority, now) for intent in intents]
    if credentials:
        tx.ledger.record(credentials)
        tx.audit.append([audit.issued(credential, actor=actor) for credential in credentials])
    return [
        Recorded(_SEAL, intent.draft, authority, credential)
        for intent, credential in zip(intents, credentials, strict=True)
    ]


def _credential(intent: Intent[DraftT], authority: Authority, now: datetime) -> Credential:
    draft, entry = intent.draft, intent.entry
    serial, key_hash, audiences = (
        (draft.jti, "", draft.audiences)
        if isinstance(draft, JWTDraft)
        else (serial_to_text(draft.serial), thumbprint(draft.public_key), ())
    )
    return Credential(
        kind=intent.kind,
        serial=serial,
        spiffe_id=draft.spiffe_id,
        authority_id=authority.key_id,
        issued_at=now,
        not_after=draft.not_after,
        entry_id=None if entry is None else entry.id,
        entry_revision=0 if entry is None else entry.revision,
        node_id=intent.node_id,
        key_hash=key_hash,
        audiences=audiences,
    )
