"""The rows of the audit record: what was decided, and how events become rows. cognomen/protocol/auditlog defines how rows are chained.

The flow decides when to write a row. By convention (37) it does so in the transaction that decides.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import msgspec

from cognomen.protocol.auditlog import AuditRow, link
from cognomen.protocol.entry import RegistrationEntry, entry_to_document
from cognomen.protocol.errors import Refused
from cognomen.protocol.printable import printable
from issuer.decisions import actions
from issuer.decisions.ledger import Credential
from issuer.decisions.operator import Operator
from svid.encoding import JSON
from svid.spiffeid import MAX_ID_BYTES

__all__ = [
    "ENTRY_REVISION",
    "SPIFFE_ID",
    "AuditEvent",
    "Decision",
    "chain",
    "issued",
    "refused",
]

SPIFFE_ID, ENTRY_REVISION = "spiffe_id", "entry_revision"
"""The facts of a refusal that name the entry that it is about."""


class Decision(StrEnum):
    """The outcome of a decision."""

    ALLOWED = "allowed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One decision, as the audit record has it.

    Args:
        at: when it was decided.
        actor: who asked: an Operator on the admin socket, a node's SPIFFE ID, or `issuer`.
        action: what was asked for, constant text (actions).
        reason: why it was refused, or empty; in the row, its first 256 characters.
        subject: the SPIFFE ID or entry id it is about.
        credential: the serial in lower-case hexadecimal, or the jti.
        before, after: if an entry changed: the whole entry before and after that; None: it did not exist. In the row, a long `before` is
            a digest.
        facts: the rest, never a secret.
    """

    at: datetime
    actor: str
    action: str
    decision: Decision = Decision.ALLOWED
    reason: str = ""
    subject: str = ""
    entry_revision: int = 0
    credential: str = ""
    before: RegistrationEntry | None = None
    after: RegistrationEntry | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def changed_entry(self) -> RegistrationEntry | None:
        """The entry that changed, if one did: as it is after that or, if it is gone, as it was."""
        return self.after or self.before


_MOST_FACT = 4096
_MOST_COMMENT = 1024
_MOST_BEFORE = 32 * 1024  # bytes of JSON

_encode = msgspec.json.Encoder(order="sorted").encode


def _body(event: AuditEvent) -> bytes:
    """Limits every text in it, whoever wrote it."""
    row: dict[str, JSON] = {
        "at": event.at.isoformat(),
        "actor": printable(str(event.actor), most=MAX_ID_BYTES),
        "action": event.action,
        "decision": event.decision.value,
        "reason": printable(event.reason),
        "subject": printable(event.subject, most=MAX_ID_BYTES),
        "entry_revision": event.entry_revision,
        "credential": printable(event.credential),
        "facts": {name: printable(fact, most=_MOST_FACT) for name, fact in event.facts.items()},
    }
    if isinstance(event.actor, Operator):
        row |= {"login": event.actor.login, "comment": printable(event.actor.comment, most=_MOST_COMMENT)}
    if event.changed_entry is not None:
        row |= {
            "before": _before(event.before),
            "after": None if event.after is None else entry_to_document(event.after),
        }
    return _encode(row)


def _before(entry: RegistrationEntry | None) -> JSON:
    """The entry, or its digest if that is long: the row that made it has the text, and changing or deleting it must cost little room."""
    if entry is None:
        return None
    document = entry_to_document(entry)
    text = _encode(document)
    return document if len(text) <= _MOST_BEFORE else {"sha256": hashlib.sha256(text).hexdigest()}


def chain(events: Iterable[AuditEvent], *, number: int, head: bytes) -> Iterator[AuditRow]:
    """Turn events into rows that follow the row `number`, whose hash is `head` (0 and GENESIS at the beginning)."""
    for event in events:
        number += 1
        body = _body(event)
        head = link(head, body)
        yield AuditRow(number=number, body=body, hash=head)


def issued(credential: Credential, *, actor: str) -> AuditEvent:
    """The event for a credential that goes into the ledger."""
    facts = {"authority": str(credential.authority_id), "not_after": credential.not_after.isoformat()}
    if credential.entry_id is not None:
        facts["entry"] = credential.entry_id
    if credential.rulebook:
        facts["rulebook"] = str(credential.rulebook)
    if credential.audiences:
        facts["audiences"] = _audiences(credential.audiences)
    return AuditEvent(
        at=credential.issued_at,
        actor=actor,
        action=actions.issued(credential.kind),
        subject=str(credential.spiffe_id),
        entry_revision=credential.entry_revision,
        credential=credential.serial,
        facts=facts,
    )


def _audiences(audiences: tuple[str, ...]) -> str:
    """The list as JSON, or its digest if that is shorter: the ledger's row has the list, and no text is stored twice."""
    text = _encode(audiences)
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    return text.decode() if len(text) <= len(digest) else digest


def refused(refusal: Refused, *, at: datetime, actor: str, action: str, subject: str = "") -> AuditEvent:
    """The event for a request that was refused.

    If its facts have the SPIFFE ID of an entry, that is the subject, and its revision is the event's, as in the row of what is issued.
    """
    facts = {name: str(fact) for name, fact in refusal.facts.items()}
    spiffe_id, revision = facts.pop(SPIFFE_ID, ""), facts.pop(ENTRY_REVISION, "0")
    return AuditEvent(
        at=at,
        actor=actor,
        action=action,
        decision=Decision.REFUSED,
        reason=refusal.detail,
        subject=spiffe_id or subject,
        entry_revision=int(revision),
        facts={"kind": refusal.kind.value, **facts},
    )
