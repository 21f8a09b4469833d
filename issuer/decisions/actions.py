"""The names of actions in the audit record: what was asked for, or what happened. docs/reference/audit.md says what each means.

If something was signed, the name is made from its kind (issued).
"""

from enum import StrEnum

from cognomen.protocol.auditlog import RESTORED
from issuer.decisions.ledger import CredentialKind

__all__ = ["AGENT_ACTIONS", "Action", "is_action", "issued"]


class Action(StrEnum):
    """What was asked for, or what happened. A name never changes, because old rows have it."""

    INVITE_CREATED = "invite created"
    NODE_ATTESTED = "node attested"
    NODE_ATTESTATION = "node attestation"
    NODE_READMITTED = "node readmitted"
    NODE_READMISSION = "node readmission"
    NODE_SVID_FIRST_USED = "node svid first used"
    NODE_SVID_RENEWAL = "node svid renewal"
    NODE_CALL = "node call"
    NODE_EVICTED = "node evicted"
    NODE_BANNED = "node banned"
    NODE_UNBANNED = "node unbanned"
    NODE_PURGED = "node purged"
    NODE_RENAMED = "node renamed"
    ENTRY_CREATED = "entry created"
    ENTRY_UPDATED = "entry updated"
    ENTRY_DELETED = "entry deleted"
    ENTRIES_APPLIED = "entries applied"
    RULEBOOK_APPLIED = "rulebook applied"
    AGENT_SUSPENDED = "agent suspended"
    AGENT_RESUMED = "agent resumed"
    BREAKER_TRIPPED = "breaker tripped"
    BREAKER_HALF_OPENED = "breaker half-opened"
    BREAKER_CLOSED = "breaker closed"
    AGENT_RETIRED = "agent retired"
    REVIEW_EXPORTED = "review exported"
    REVOKED = "revoked"
    REVOCATION_LIFTED = "revocation lifted"
    REVOCATION_ENFORCED = "revocation enforced"
    AUTHORITY_INTENDED = "authority intended"
    AUTHORITY_PREPARED = "authority prepared"
    AUTHORITY_PUBLISHED = "authority published"
    AUTHORITY_ACTIVATED = "authority activated"
    AUTHORITY_RETIRED = "authority retired"
    AUTHORITY_NOT_LET_SIGN_AGAIN = "authority not let sign again"
    AUTHORITY_ROTATION_ASKED = "authority rotation asked"
    AUTHORITY_PREPARATION_ASKED = "authority preparation asked"
    AUTHORITY_TAINTED = "authority tainted"
    AUTHORITY_REVOKED = "authority revoked"
    NODES_CUT_OFF = "nodes cut off"
    BUNDLE_EXPORTED = "bundle exported"
    EXPORT_FORGOTTEN = "export forgotten"
    EXPORTS_CUT_OFF = "exports cut off"
    CRL_SIGNED = "crl signed"
    CHECKPOINT_KEY_MADE = "checkpoint key made"
    CLOCK_LOOKED_AT = "clock looked at"
    CLOCK_CONFIRMED = "clock confirmed"
    X509_MINTED = "x509 minted"
    JWT_MINTED = "jwt minted"
    MANY_REFUSED = "many refused"
    STORE_RESTORED = RESTORED


AGENT_ACTIONS = frozenset({Action.AGENT_SUSPENDED, Action.AGENT_RESUMED, Action.AGENT_RETIRED})
"""Whose rows have an agent's name as their subject."""


def issued(kind: CredentialKind) -> str:
    """The name of what happened when a credential of that kind was signed."""
    return f"{kind} issued"


def is_action(name: str) -> bool:
    """Whether a row can have that action."""
    return name in {*Action, *map(issued, CredentialKind)}
