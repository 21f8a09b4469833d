"""Decide what an update of entries takes away, and when the credentials signed before it end.

The ledger knows who holds them. issuer/flows/supersede ends them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.names import NodeID
from issuer.decisions.entitlement import entry_ends_at, is_entitled
from issuer.decisions.revocation import Blocks
from svid.spiffeid import SpiffeID

__all__ = ["PUSHED_WITHIN", "REPLACED_WITHIN", "Holding", "Supersession", "Takes", "loses_identity", "may_lose"]

REPLACED_WITHIN = timedelta(seconds=30)
"""How long an update waits at most until an SVID is replaced."""

PUSHED_WITHIN = timedelta(seconds=2)
"""How long after it was minted an SVID counts as delivered on the open streams of the workloads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """The live credentials that a node holds for an entry.

    Args:
        ends_at: when the last of them expires.
    """

    entry_id: EntryID
    node_id: NodeID
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Supersession:
    """The order to end what a node holds for an entry, because an operator's change took something away.

    Args:
        actor, at: who made the change, and when.
        due_at: when it ends, replaced or not.
        beyond: end only what expires later than that; None: all of it.
        number: its number; 0 until stored.
    """

    entry_id: EntryID
    node_id: NodeID
    actor: str
    at: datetime
    due_at: datetime
    beyond: datetime | None = None
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """A change of entries, and how it affects what was signed before it.

    Args:
        losing: the entries whose SVIDs said more before it, or went to more workloads.
    """

    losing: frozenset[EntryID]
    actor: str
    at: datetime

    def from_holding(
        self,
        held: Holding,
        entry: RegistrationEntry,
        parents: frozenset[SpiffeID],
        parent_ends: Mapping[SpiffeID, datetime],
    ) -> Supersession | None:
        """What the change takes from a node that holds something for an entry; None: nothing.

        Args:
            entry: as stored after the change.
            parents: the node's parents after the change; empty: the node is gone.
            parent_ends: when those parents expire that have an expiry.
        """
        due_at, beyond = self.at + REPLACED_WITHIN, None
        if entry.observe or not is_entitled(entry, parents, blocks=Blocks(), now=self.at):
            due_at = self.at  # nothing will replace it there
        elif entry.id not in self.losing:
            beyond = entry_ends_at(entry, parent_ends)
            if beyond is None or held.ends_at <= beyond:
                return None
        return Supersession(
            entry_id=held.entry_id, node_id=held.node_id, actor=self.actor, at=self.at, due_at=due_at, beyond=beyond
        )


def loses_identity(before: RegistrationEntry, after: RegistrationEntry) -> bool:
    """Whether SVIDs of the entry said something that they no longer say, or workloads had it that may not have it now."""
    names = ({name.lower() for name in entry.dns_names} for entry in (before, after))
    old_names, new_names = names
    return (
        before.spiffe_id != after.spiffe_id
        or not old_names <= new_names
        or not after.selectors <= before.selectors
        or after.allows_less_than(before)
        or (after.observe and not before.observe)
    )


def may_lose(before: RegistrationEntry, after: RegistrationEntry) -> bool:
    """Whether anybody at all may have lost anything."""
    ends_sooner = after.expires_at is not None and (before.expires_at is None or after.expires_at < before.expires_at)
    return ends_sooner or before.parent_id != after.parent_id or loses_identity(before, after)
