"""What an update of entries takes away, and when what was signed before it ends.

Who holds what was signed is found in the ledger. Who ends it: issuer/flows/supersede.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from issuer.decisions.audit import NodeID
from issuer.decisions.entitlement import entry_ends_at, is_entitled
from issuer.decisions.revocation import Blocks
from svid.entry import EntryID, RegistrationEntry
from svid.spiffeid import SpiffeID

__all__ = ["PUSHED_WITHIN", "REPLACED_WITHIN", "Holding", "Supersession", "Takes", "loses_identity", "may_lose"]

REPLACED_WITHIN = timedelta(seconds=30)
"""How long an update waits at most for what replaces an SVID."""

PUSHED_WITHIN = timedelta(seconds=2)
"""How long after its mint an SVID counts as being on the open streams of the workloads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a node holds for an entry: live credentials.

    Args:
        ends_at: the latest end among them.
    """

    entry_id: EntryID
    node_id: NodeID
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Supersession:
    """What a node holds for an entry is to end, because an operator's change took something away.

    Args:
        actor, at: who made the change, and when.
        due_at: when it ends, replaced or not.
        beyond: only what ends later than that; None: all of it.
        number: its own; 0 until stored.
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
    """A change of entries, as it bears on what was signed before it.

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
            entry: as it stands after the change.
            parents: the node's, after the change; empty: it is gone.
            parent_ends: when those end that end by themselves.
        """
        due_at, beyond = self.at + REPLACED_WITHIN, None
        if not is_entitled(entry, parents, blocks=Blocks(), now=self.at):
            due_at = self.at  # nothing will replace it there
        elif entry.id not in self.losing:
            beyond = entry_ends_at(entry, parent_ends)
            if beyond is None or held.ends_at <= beyond:
                return None
        return Supersession(
            entry_id=held.entry_id, node_id=held.node_id, actor=self.actor, at=self.at, due_at=due_at, beyond=beyond
        )


def loses_identity(before: RegistrationEntry, after: RegistrationEntry) -> bool:
    """Whether SVIDs of the entry said something that they do not say any more, or workloads had it that may not have it now."""
    names = ({name.lower() for name in entry.dns_names} for entry in (before, after))
    old_names, new_names = names
    return before.spiffe_id != after.spiffe_id or not old_names <= new_names or not after.selectors <= before.selectors


def may_lose(before: RegistrationEntry, after: RegistrationEntry) -> bool:
    """Whether anybody at all may have lost anything."""
    ends_sooner = after.expires_at is not None and (before.expires_at is None or after.expires_at < before.expires_at)
    return ends_sooner or before.parent_id != after.parent_id or loses_identity(before, after)
