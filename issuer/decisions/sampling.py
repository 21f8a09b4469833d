"""Decide how to record a refusal of a caller who may come back any number of times: what it is counted with, and in which words.

Each class of callers has its own room, so that no class can push another out of the record. Alarms are never pushed out. The record
does not repeat what a stranger says, unless a node attestor does. issuer/keepers/refusal_record decides when a row is written.
"""

from dataclasses import dataclass
from enum import StrEnum

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from issuer.decisions.actions import Action

__all__ = ["ABOUT", "Alarm", "NotProved", "Principal", "Sighting", "sighting", "told", "too_many"]

ABOUT = "about"
"""The fact that names the agent whose entry a node was refused, or the entry. It is in no row."""

_FIELDS = frozenset(
    {"attestor", "certificate", "evidence", "join token", "key_signature", "nonce", "public_key", "signature"}
)
"""What a stranger's refusal may be about. Anything else before the colon of its detail could be the stranger's own words."""


class Principal(StrEnum):
    """The class of a refused caller, by what it proved."""

    STRANGER = "stranger"  # nothing was proved
    WORKLOAD = "workload"  # one of our X509-SVIDs, but not a node's
    NODE = "node"  # a node's X509-SVID, or the key of an expired one


class Alarm(Refused):
    """A refusal that an operator must see: somebody can prove to be a node, but may not be that node.

    Args:
        node: the node in question.
        facts: as for any refusal.
    """

    def __init__(self, detail: str, *, node: str, hint: str = "", **facts: str | int) -> None:
        super().__init__(Kind.DENIED, detail, hint=hint, node=node, **facts)
        self.node = node


class NotProved(Refused):
    """A refusal by a node attestor, or because of its failure, which the record names; a stranger reads only the detail.

    Args:
        attestor: its name in the configuration.
        said: what the record says of it.
    """

    def __init__(self, kind: Kind, detail: str, *, attestor: str, said: str, hint: str = "") -> None:
        super().__init__(kind, printable(detail), hint=printable(hint))
        self.attestor = attestor
        self.said = printable(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A refusal as the record shows it; refusals with equal sightings are counted together.

    Args:
        room: whose room in the record it takes; refusals compete only with others in the same room.
        about: the agent whose entry a node was refused, or the entry's id; empty: neither is known.
        is_alarm: it always has room, however many others there are.
    """

    room: tuple[str, str]
    actor: str
    action: str
    reason: str
    about: str = ""
    is_alarm: bool = False


def sighting(refused: Refused, *, principal: Principal, actor: str, action: str) -> Sighting:
    """Decide how a refusal is recorded."""
    if isinstance(refused, Alarm):
        room = ("alarm", refused.node)
        return Sighting(room=room, actor=actor, action=action, reason=refused.detail, is_alarm=True)
    if principal is not Principal.STRANGER:
        about = str(refused.facts.get(ABOUT, ""))
        return Sighting(room=(principal, actor), actor=actor, action=action, reason=refused.detail, about=about)
    if "node" in refused.facts:  # one of our tokens names it, so our own rows decided the refusal
        return Sighting(room=("invite", str(refused.facts["node"])), actor=actor, action=action, reason=refused.detail)
    if isinstance(refused, NotProved):  # its own room: what it says may quote the stranger, in any number of ways
        room = ("node attestor", refused.attestor)
        return Sighting(room=room, actor=principal.value, action=action, reason=refused.said)
    field = refused.detail.partition(":")[0]
    reason = f"{field if field in _FIELDS else 'request'}: not accepted, {refused.kind}"
    return Sighting(room=(principal, ""), actor=principal.value, action=action, reason=reason)


def told(refused: Refused, seen: Sighting) -> Refused:
    """The refusal in the words of the record, which leaves out a stranger's facts as well."""
    facts = {} if seen.room == (Principal.STRANGER, "") else refused.facts
    return Refused(refused.kind, seen.reason, hint=refused.hint, **facts)


def too_many(seen: Sighting, *, actors: bool) -> Sighting:
    """How a refusal is recorded when its room is full, or when there are too many actors to give each a room."""
    room = (seen.room[0], "") if actors else seen.room
    what = "actors" if actors else "reasons"
    return Sighting(
        room=room,
        actor="many" if actors else seen.actor,
        action=Action.MANY_REFUSED,
        reason=f"too many {what} to tell apart",
    )
