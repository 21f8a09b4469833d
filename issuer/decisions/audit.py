"""What goes on record: the ledger's rows and the audit rows. How rows are chained: cognomen/daemon/auditlog.

When a row is written is the flow's business; that it is written in the transaction that decides is a convention (37).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

import msgspec

from cognomen.daemon.auditlog import AuditRow, link
from cognomen.daemon.errors import Refused
from cognomen.daemon.printable import printable
from svid.entry import EntryID
from svid.keys import KeyID
from svid.spiffeid import SpiffeID

__all__ = [
    "AuditEvent",
    "Credential",
    "CredentialKind",
    "CredentialState",
    "Decision",
    "NodeID",
    "chain",
    "issued",
    "refused",
]

NodeID = NewType("NodeID", str)
"""A node's random name, the last segment of its SPIFFE ID."""


class Decision(StrEnum):
    """What was decided."""

    ALLOWED = "allowed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One decision, as it goes on record.

    Args:
        at: when it was decided.
        actor: who asked: `uid:1000` on the admin socket, a node's SPIFFE ID, or `issuer`.
        action: what was asked, constant text: `node attested`, `x509-svid minted`, `entry created` …
        reason: why it was refused, or empty; in the row, its first 256 characters.
        subject: the SPIFFE ID or entry id it is about.
        credential: the serial in lower-case hexadecimal, or the jti.
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
    facts: Mapping[str, str] = field(default_factory=dict)


class CredentialKind(StrEnum):
    """What was signed."""

    X509 = "x509"
    JWT = "jwt"
    NODE = "node"
    ISSUER = "issuer"
    AUTHORITY = "authority"


class CredentialState(StrEnum):
    """How far a signature got; `intended` counts as issued: over-recording after a crash is the safe side."""

    INTENDED = "intended"
    ISSUED = "issued"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A row of the ledger: one credential that we signed, or are about to.

    Args:
        number: its place in the ledger; 0 until stored.
        serial: serial in lower-case hexadecimal, or the jti.
        key_hash: SHA-256 of the certified SubjectPublicKeyInfo, lower-case hexadecimal; empty for a JWT.
        authority_id: the key id of the authority that signs.
        revocation: the number of the one that ended it before its time; 0: none.
    """

    kind: CredentialKind
    serial: str
    spiffe_id: SpiffeID
    authority_id: KeyID
    issued_at: datetime
    not_after: datetime
    number: int = 0
    entry_id: EntryID | None = None
    entry_revision: int = 0
    node_id: NodeID | None = None
    key_hash: str = ""
    audiences: tuple[str, ...] = ()
    state: CredentialState = CredentialState.INTENDED
    revocation: int = 0


_MOST_ID = 2048  # as long as a SPIFFE ID may be
_MOST_FACT = 4096

_encode = msgspec.json.Encoder(order="sorted").encode


def _body(event: AuditEvent) -> bytes:
    """Every text in it is bounded here, whoever wrote it."""
    row = {
        "at": event.at.isoformat(),
        "actor": printable(event.actor, most=_MOST_ID),
        "action": event.action,
        "decision": event.decision.value,
        "reason": printable(event.reason),
        "subject": printable(event.subject, most=_MOST_ID),
        "entry_revision": event.entry_revision,
        "credential": printable(event.credential),
        "facts": {name: printable(fact, most=_MOST_FACT) for name, fact in event.facts.items()},
    }
    return _encode(row)


def chain(events: Iterable[AuditEvent], *, number: int, head: bytes) -> Iterator[AuditRow]:
    """Turn events into rows that follow the row `number`, whose hash is `head` (0 and GENESIS at the beginning)."""
    for event in events:
        number += 1
        body = _body(event)
        head = link(head, body)
        yield AuditRow(number=number, body=body, hash=head)


def issued(credential: Credential, *, actor: str) -> AuditEvent:
    """The event of a credential that goes into the ledger."""
    facts = {"authority": str(credential.authority_id), "not_after": credential.not_after.isoformat()}
    if credential.entry_id is not None:
        facts["entry"] = credential.entry_id
    if credential.audiences:
        facts["audiences"] = _audiences(credential.audiences)
    return AuditEvent(
        at=credential.issued_at,
        actor=actor,
        action=f"{credential.kind} issued",
        subject=str(credential.spiffe_id),
        entry_revision=credential.entry_revision,
        credential=credential.serial,
        facts=facts,
    )


def _audiences(audiences: tuple[str, ...]) -> str:
    """The list as JSON; one that is longer than its digest as that, because the ledger's row has it: no text is stored twice."""
    text = _encode(audiences)
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    return text.decode() if len(text) <= len(digest) else digest


def refused(refusal: Refused, *, at: datetime, actor: str, action: str, subject: str = "") -> AuditEvent:
    """The event of something that was asked and refused."""
    return AuditEvent(
        at=at,
        actor=actor,
        action=action,
        decision=Decision.REFUSED,
        reason=refusal.detail,
        subject=subject,
        facts={"kind": refusal.kind.value, **{name: str(fact) for name, fact in refusal.facts.items()}},
    )
