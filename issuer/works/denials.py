"""Write a revocation and its denials, inside the transaction that ends something.

issuer/decisions/revocation decides what may be named. ADR-0015 says why.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from cognomen.protocol.names import NodeID, agent_and_component
from issuer.datastore.port import Transaction
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.revocation import Live, Reason, Revocation, Target
from svid.spiffeid import SpiffeID

__all__ = ["all_of_nodes", "deny_in", "end_in"]

_ALL_OF_A_NODE = frozenset({CredentialKind.X509, CredentialKind.JWT, CredentialKind.NODE})


def deny_in(tx: Transaction, asked: Revocation, live: Live, *, gone: Collection[SpiffeID] = ()) -> Revocation:
    """Write a revocation and its denials, with their change and their audit row; returns the revocation as stored.

    Args:
        gone: the SPIFFE IDs of those entries of its target that are deleted already.

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
                    **_of_agents(tx, asked.target, gone),
                },
            )
        ]
    )
    return stored


def end_in(tx: Transaction, asked: Revocation, live: Live, *, gone: Collection[SpiffeID] = ()) -> Revocation | None:
    """End what is left for something that another command removes; if nothing is left, write nothing."""
    is_leak = asked.reason is Reason.KEY_COMPROMISE
    return deny_in(tx, asked, live, gone=gone) if tx.denials.is_any(live, now=asked.at, is_leak=is_leak) else None


def all_of_nodes(node_ids: Sequence[NodeID]) -> Live:
    """Everything that was signed for these nodes and their workloads."""
    return Live(kinds=_ALL_OF_A_NODE, node_ids=node_ids)


def _of_agents(tx: Transaction, target: Target, gone: Collection[SpiffeID]) -> Mapping[str, str]:
    """The facts that say of which agents and of which component the entries are: the row's subject is the id of one."""
    left = tx.entries.get(target.entry_ids).values() if target.entry_ids else ()
    names = {agent_and_component(one) for one in (*gone, *(entry.spiffe_id for entry in left))} - {("", "")}
    if not names:
        return {}
    agents = {"of_agents": " ".join(sorted({agent for agent, _ in names}))}
    return agents if len(names) > 1 else {**agents, "of_component": "/".join(*names)}


def _subject(target: Target) -> str:
    """What the audit record calls it; the rest is in the revocation's own row."""
    many = target.serials or target.entry_ids or target.node_ids
    if target.spiffe_id is not None:
        return f"{target.spiffe_id}{'/…' if target.below else ''}"
    if target.selector is not None:
        return str(target.selector)
    return "" if not many else many[0] if len(many) == 1 else f"{many[0]} and {len(many) - 1} more"
