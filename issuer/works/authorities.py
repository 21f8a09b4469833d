"""Change which authority signs and which is trusted, inside a transaction, with the change and the audit row.

issuer/decisions/authority decides what a step does to a row; rotation decides which authority follows.
"""

import secrets
from datetime import datetime

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.decisions import authority, rotation
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import Authority, AuthorityKind
from issuer.decisions.changes import Change, ChangeKind
from svid.keys import KeyID

__all__ = ["activate_in", "ask_in", "new_key_id", "retire_in"]


def new_key_id(kind: AuthorityKind) -> KeyID:
    """A key name that is not in use yet."""
    return KeyID(f"{kind}-{secrets.token_hex(8)}")


def ask_in(tx: Transaction, kind: AuthorityKind, *, actor: str, why: str = "", now: datetime) -> Authority:
    """On request, have the next authority of this kind sign as soon as everybody knows it; returns that authority.

    Args:
        why: for the audit record, if no operator gives a reason.

    Raises:
        Refused: UNAVAILABLE while no next one is published.
    """
    following = rotation.successor(tx.authorities.list(), kind, now=now)
    if following is None:
        raise Refused(Kind.UNAVAILABLE, f"{kind} authority: none is published to follow yet")
    tx.authorities.put(authority.asked(following, now=now))
    event = AuditEvent(
        at=now,
        actor=actor,
        action=Action.AUTHORITY_ROTATION_ASKED,
        subject=following.key_id,
        facts={"why": why} if why else {},
    )
    tx.audit.append([event])
    return following


def activate_in(tx: Transaction, row: Authority, *, acknowledged: int | None, actor: str, now: datetime) -> AuditEvent:
    """Let an authority sign in place of the current one, with the change and the audit row.

    Args:
        acknowledged: the last change that every connected attestor has; None: nobody is connected.
    """
    for after in rotation.activation(tx.authorities.list(), row, now=now):
        tx.authorities.put(after)
    tx.changes.append([Change(kind=ChangeKind.AUTHORITY)])
    known = acknowledged is None or acknowledged >= row.published_change
    told = "every connected attestor" if known else "not every connected attestor"
    event = AuditEvent(
        at=now, actor=actor, action=Action.AUTHORITY_ACTIVATED, subject=row.key_id, facts={"acknowledged by": told}
    )
    tx.audit.append([event])
    return event


def retire_in(tx: Transaction, row: Authority, *, now: datetime) -> None:
    """Take an authority out of the bundle for good, with the change; the caller audits it and destroys the key."""
    if row.is_published:
        tx.bundles.advance()
        tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
    tx.crls.delete(row.key_id)
    tx.authorities.put(authority.retired(row, now=now))
