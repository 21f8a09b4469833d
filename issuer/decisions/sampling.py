"""How a refusal goes on record when whoever is refused may come back as often as they like: with what it is counted, and in which words.

Each class of callers has room of its own, so that none pushes another out of the record. Alarms are never pushed out. What a stranger
says is not repeated. When a row is written: issuer/flows/audit_refusals.
"""

from dataclasses import dataclass
from enum import StrEnum

from cognomen.daemon.errors import Kind, Refused

__all__ = ["Alarm", "Principal", "Sighting", "sighting", "told", "too_many"]

_FIELDS = frozenset({"attestor", "certificate", "evidence", "join token", "nonce", "public_key", "signature"})
"""What a stranger's refusal may be about; whatever comes before the colon of its detail otherwise may be the stranger's own words."""


class Principal(StrEnum):
    """Who is refused, by how well we know them."""

    STRANGER = "stranger"  # nothing was proved
    WORKLOAD = "workload"  # an X509-SVID of ours, but no node's
    NODE = "node"  # a node's X509-SVID, or the key of one that ran out


class Alarm(Refused):
    """A refusal that an operator must see: somebody has what proves a node, and may not be that node.

    Args:
        node: the node in question.
        facts: as of any refusal.
    """

    def __init__(self, detail: str, *, node: str, hint: str = "", **facts: str | int) -> None:
        super().__init__(Kind.DENIED, detail, hint=hint, node=node, **facts)
        self.node = node


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A refusal as the record tells it; refusals with equal ones are counted together.

    Args:
        room: whose room in the record it takes: those of one room compete with each other only.
        is_alarm: it has its room, however many others there are.
    """

    room: tuple[str, str]
    actor: str
    action: str
    reason: str
    is_alarm: bool = False


def sighting(refused: Refused, *, principal: Principal, actor: str, action: str) -> Sighting:
    """Say as what a refusal goes on record."""
    if isinstance(refused, Alarm):
        room = ("alarm", refused.node)
        return Sighting(room=room, actor=actor, action=action, reason=refused.detail, is_alarm=True)
    if principal is not Principal.STRANGER:
        return Sighting(room=(principal, actor), actor=actor, action=action, reason=refused.detail)
    if "node" in refused.facts:  # a token of ours names it: what is refused was decided on our own rows
        return Sighting(room=("invite", str(refused.facts["node"])), actor=actor, action=action, reason=refused.detail)
    field = refused.detail.partition(":")[0]
    reason = f"{field if field in _FIELDS else 'request'}: not accepted, {refused.kind}"
    return Sighting(room=(principal, ""), actor=principal.value, action=action, reason=reason)


def told(refused: Refused, seen: Sighting) -> Refused:
    """The refusal in the words of the record; a stranger's facts are not told either."""
    facts = {} if seen.room == (Principal.STRANGER, "") else refused.facts
    return Refused(refused.kind, seen.reason, hint=refused.hint, **facts)


def too_many(seen: Sighting, *, actors: bool) -> Sighting:
    """As what a refusal goes on record when its room is full, or when there are too many actors to give each a room."""
    room = (seen.room[0], "") if actors else seen.room
    what = "actors" if actors else "reasons"
    return Sighting(
        room=room,
        actor="many" if actors else seen.actor,
        action="many refused",
        reason=f"more {what} than are told apart",
    )
