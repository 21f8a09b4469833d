"""Record drafts in the ledger and the audit record, inside the deciding transaction: only what came from here can be signed.

decisions/profile and decisions/crl decide what a draft says, and decisions/lint whether it may be signed. issuer/signing signs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Generic, TypeVar

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.decisions import audit
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import Authority
from issuer.decisions.crl import CRLDraft, SignedCRL
from issuer.decisions.ledger import Credential, CredentialState
from issuer.decisions.lint import lint_crl_draft, lint_draft
from issuer.decisions.profile import Draft, Intent, JWTDraft, serial_to_text
from issuer.decisions.rulebooks import is_of_rulebook
from svid.keys import KeyID, thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["OnRecord", "Recorded", "record", "record_again", "record_crl"]

DraftT = TypeVar("DraftT", bound=Draft)
AnyDraftT = TypeVar("AnyDraftT", bound=Draft | CRLDraft)

_SEAL = object()
_ACTOR = "issuer"


@dataclass(frozen=True, slots=True)
class OnRecord(Generic[AnyDraftT]):
    """A draft that is in the audit record, good for one signature by its authority. Only this module makes one.

    Args:
        name: its serial, jti or number.

    Raises:
        TypeError: made outside this module.
    """

    _seal: object = field(repr=False)
    _draft: AnyDraftT
    authority: Authority
    name: str
    _spent: list[None] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("recorded: only record() may make one")

    def spend(self, by: KeyID) -> AnyDraftT:
        """Use up the draft, which this key signs now.

        Raises:
            Refused: INTERNAL when it is for another key, or was already signed: a second signature would not be recorded.
        """
        if by != self.authority.key_id or self._spent:
            found = f"one of {self.authority.key_id}" if by != self.authority.key_id else "one that was"
            raise Refused(
                Kind.INTERNAL,
                f"issuance: expected a draft that {by} has not signed yet, found {found}",
                serial=self.name,
            )
        self._spent.append(None)
        return self._draft


@dataclass(frozen=True, slots=True)
class Recorded(OnRecord[DraftT]):
    """The draft of a credential, which is also in the ledger."""

    credential: Credential = field(kw_only=True)


def record(
    tx: Transaction,
    intents: Sequence[Intent[DraftT]],
    authority: Authority,
    *,
    trust_domain: TrustDomain,
    now: datetime,
    actor: str,
) -> list[Recorded[DraftT]]:
    """Write drafts for this authority to sign into the ledger and the audit record, in order.

    Args:
        actor: who asked, as the audit record names them.

    Raises:
        Refused: INTERNAL for a draft that must not be signed.
    """
    for intent in intents:
        lint_draft(intent.draft, trust_domain=trust_domain, authority=authority, now=now)
    is_of_rules = any(intent.entry is not None and is_of_rulebook(intent.entry.spiffe_id) for intent in intents)
    revision = tx.rulebooks.revision() if is_of_rules else 0
    credentials = [_credential(intent, authority, now, revision) for intent in intents]
    if credentials:
        tx.ledger.record(credentials)
        tx.audit.append([audit.issued(credential, actor=actor) for credential in credentials])
    return [
        Recorded(_SEAL, intent.draft, authority, credential.serial, credential=credential)
        for intent, credential in zip(intents, credentials, strict=True)
    ]


def record_again(
    tx: Transaction, intent: Intent[DraftT], authority: Authority, *, trust_domain: TrustDomain, now: datetime
) -> Recorded[DraftT] | None:
    """Take up a draft that is on record already, because its signature failed or its answer was lost; None: it is not on record.

    The same bytes are signed, however often that is tried, so the rows that there are say all of it. The ledger's row is `intended` again.

    Raises:
        Refused: INTERNAL for a draft that must not be signed.
    """
    lint_draft(intent.draft, trust_domain=trust_domain, authority=authority, now=now)
    asked = _credential(intent, authority, now)
    known = tx.ledger.get(asked.serial)
    if known is None:
        return None
    if known != replace(asked, number=known.number, issued_at=known.issued_at, state=known.state):
        raise Refused(
            Kind.INTERNAL, "issuance: expected the draft that is on record, found another", serial=asked.serial
        )
    tx.ledger.resolve([known.serial], CredentialState.INTENDED)
    return Recorded(_SEAL, intent.draft, authority, known.serial, credential=known)


def record_crl(tx: Transaction, draft: CRLDraft, authority: Authority, *, now: datetime) -> OnRecord[CRLDraft]:
    """Write a list for this authority to sign into the audit record, and use up its number.

    Raises:
        Refused: INTERNAL for a list that must not be signed.
    """
    last = tx.crls.get(authority.key_id)
    lint_crl_draft(draft, last=last, authority=authority, now=now)
    tx.crls.put(replace(last or SignedCRL(authority_id=authority.key_id, number=0), number=draft.number))
    event = AuditEvent(
        at=now,
        actor=_ACTOR,
        action=Action.CRL_SIGNED,
        subject=authority.key_id,
        facts={"number": str(draft.number), "certificates": str(len(draft.denied))},
    )
    tx.audit.append([event])
    return OnRecord(_SEAL, draft, authority, str(draft.number))


def _credential(intent: Intent[DraftT], authority: Authority, now: datetime, revision: int = 0) -> Credential:
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
        rulebook=revision if entry is not None and is_of_rulebook(entry.spiffe_id) else 0,
    )
