"""Decide which entries a node is entitled to: those below itself, and those below the groups it belongs to."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.selectorcheck import EVERY_NODE
from issuer.decisions.admission import Node
from issuer.decisions.revocation import Blocks, Revocation, blocks_of
from svid.spiffeid import SpiffeID

_EVERY_NODE = frozenset({EVERY_NODE})

__all__ = ["blocked_by", "entry_ends_at", "group_ends", "is_entitled", "parent_ends", "parents_of"]


def parents_of(
    node: Node, groups: Iterable[RegistrationEntry], *, blocks: Blocks, now: datetime
) -> frozenset[SpiffeID]:
    """The parents whose entries are this node's: its own ID, and those of groups all of whose selectors it has; none if it is blocked.

    Args:
        groups: every entry below the issuer.
    """
    if blocks.node(node):
        return frozenset()
    mine = {group.spiffe_id for group in groups if _covers(group, node) and not _is_over(group, now)}
    return frozenset(mine | {node.spiffe_id})


def group_ends(node: Node, groups: Iterable[RegistrationEntry]) -> tuple[datetime, ...]:
    """When the groups whose selectors this node has expire, in order, past ones included: at these times its parents change automatically.

    Args:
        groups: every entry below the issuer.
    """
    ends = {group.expires_at for group in groups if _covers(group, node)}
    return tuple(sorted(end for end in ends if end is not None))


def parent_ends(node: Node, groups: Iterable[RegistrationEntry], *, now: datetime) -> Mapping[SpiffeID, datetime]:
    """When those of a node's parents expire that have an expiry: with the last group that makes the node a member.

    Args:
        groups: every entry below the issuer.
    """
    ends: dict[SpiffeID, datetime | None] = {}
    for group in groups:
        if _covers(group, node) and not _is_over(group, now):
            known = ends.get(group.spiffe_id, group.expires_at)
            ends[group.spiffe_id] = known and group.expires_at and max(known, group.expires_at)
    return {parent: end for parent, end in ends.items() if end is not None}


def entry_ends_at(entry: RegistrationEntry, parent_ends: Mapping[SpiffeID, datetime]) -> datetime | None:
    """When an entry's identity ends on a node whose parents end like this; None: at no known time."""
    ends = (entry.expires_at, parent_ends.get(entry.parent_id))
    return min((end for end in ends if end is not None), default=None)


def is_entitled(entry: RegistrationEntry, parents: Collection[SpiffeID], *, blocks: Blocks, now: datetime) -> bool:
    """Whether a node with these parents may hold this entry's identity now."""
    return entry.parent_id in parents and not _is_over(entry, now) and not blocks.entry(entry)


def blocked_by(entry: RegistrationEntry, node: Node, standing: Iterable[Revocation]) -> Revocation | None:
    """The first of these revocations that keeps a node from an entry that would otherwise be its own; None: none does."""
    for revocation in standing:
        blocks = blocks_of([revocation])
        if blocks.node(node) or blocks.entry(entry):
            return revocation
    return None


def _covers(group: RegistrationEntry, node: Node) -> bool:
    return group.selectors <= node.selectors or group.selectors == _EVERY_NODE


def _is_over(entry: RegistrationEntry, now: datetime) -> bool:
    return entry.expires_at is not None and entry.expires_at <= now
