"""Write a revocation and its denials, inside the transaction that ends something.

issuer/decisions/revocation decides what may be named. ADR-0015 says why.
"""

from collections.abc import Sequence
from dataclasses import replace

from cognomen.protocol.names import NodeID
from issuer.datastore.port import Transaction
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.revocation import Live, Reason, Revocation, Target

__all__ = ["all_of_nodes", "deny_in", "end_in"]

_ALL_OF_A_NODE = frozenset({CredentialKind.X509, CredentialKind.JWT, CredentialKind.NODE})


def deny_in(tx: Transaction, asked: Revocation, live: Live) -> Revocation:
    """Write a revocation and its denials, with their change and their audit row; returns the revocation as stored.

    Once it is committed, call EnforcementWatch.committed, which begins to time it.
    """
    number = tx.revocations.add(asked)
    denied = tx.denials.deny(live, revocation=number, now=asked.at)
    is_leak = asked.reason is Reason.KEY_COMPROMISE
    compromised = tx.denials.compromise(live, revocation=number, now=asked.at) if is_leak else 0
    change = tx.changes.append([Change(kind=ChangeKind.DENIAL, subject=str(number))])
    stored = replace(asked, number=number, denied=denied.live, over=denied.over, compromised=compromised, change=change)
    tx.revocations.put(stored)
    tx.audit.append(
        [
            AuditEvent(
                at=asked.at,
                actor=asked.actor,
                action=Action.REVOKED,
                subject=_subject(asked.target),
                facts={
                    "revocation": str(number),
                    "kind": asked.target.kind.value,
                    "reason": asked.reason.value,
                    "comment": asked.comment,
                    "denied": str(stored.denied),
                    "over": str(stored.over),
                    "compromised": str(stored.compromised),
                },
            )
        ]
    )
    return stored


def end_in(tx: Transaction, asked: Revocation, live: Live) -> Revocation | None:
    """End what is left for something that another command removes; if nothing is left, write nothing."""
    is_leak = asked.reason is Reason.KEY_COMPROMISE
    return deny_in(tx, asked, live) if tx.denials.is_any(live, now=asked.at, is_leak=is_leak) else None


def all_of_nodes(node_ids: Sequence[NodeID]) -> Live:
    """Everything that was signed for these nodes and their workloads."""
    return Live(kinds=_ALL_OF_A_NODE, node_ids=node_ids)


def _subject(target: Target) -> str:
    """What the audit record calls it; the rest is in the revocation's own row."""
    many = target.serials or target.entry_ids or target.node_ids
    if target.spiffe_id is not None:
        return f"{target.spiffe_id}{'/…' if target.below else ''}"
    if target.selector is not None:
        return str(target.selector)
    return "" if not many else many[0] if len(many) == 1 else f"{many[0]} and {len(many) - 1} more"
