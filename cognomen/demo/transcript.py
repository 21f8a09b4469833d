"""The transcript: what the events of a scene mean to a reader, and whether all that should happen did."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cognomen.demo.scene import DAEMONS, Event

__all__ = ["EXPECTED", "LATE", "ROTATIONS", "Tally", "achievement", "latency", "sentence"]

_WIDTH = 13

ROTATIONS = 3
"""How many each component must live through."""

LATE = "/agent/concierge/archivist"
"""The identity that the connector gets while everything runs."""

EXPECTED: Mapping[str, str] = {
    "connector holds an identity": "connector has an X509-SVID and a JWT-SVID of its own",
    "reasoning holds an identity": "reasoning has an X509-SVID and a JWT-SVID of its own",
    "orchestrator holds an identity": "orchestrator has an X509-SVID and a JWT-SVID of its own",
    "reasoning answered orchestrator": "orchestrator called reasoning over mTLS",
    "connector answered orchestrator": "orchestrator called the connector over mTLS, with a JWT-SVID for that audience",
    "connector refused reasoning": "reasoning's call to the connector was refused: nobody allowed it",
    "connector gained an identity": "an entry was added, and the connector's open stream had its SVID",
    "connector rotated": f"connector's X509-SVID was renewed {ROTATIONS} times",
    "reasoning rotated": f"reasoning's X509-SVID was renewed {ROTATIONS} times",
    "orchestrator rotated": f"orchestrator's X509-SVID was renewed {ROTATIONS} times",
    "no call failed": "no call of the orchestrator failed meanwhile",
}
"""What must have happened for exit code 0, and how it is summed up."""


@dataclass(slots=True)
class Tally:
    """What is counted while everything runs."""

    rotations: Counter[str] = field(default_factory=Counter)
    made: int = 0
    failed: int = 0

    def note(self, event: Event) -> None:
        """Count an event in."""
        if event.name == "rotated":
            self.rotations[event.who] += 1
        if event.name == "counted" and event.who == "orchestrator":
            self.made, self.failed = int(event.facts["made"]), int(event.facts["failed"])


def latency(gained: Event, created_at: datetime) -> timedelta:
    """How long after its entry a component held the identity; both read the clock of this machine."""
    return datetime.fromisoformat(str(gained.facts["at"])) - created_at


def achievement(event: Event) -> str | None:
    """Name the key of EXPECTED that this event fulfils."""
    facts = event.facts
    match event.who, event.name:
        case role, "identity":
            return f"{role} holds an identity"
        case "reasoning", "answered" if _role(facts["caller"]) == "orchestrator":
            return "reasoning answered orchestrator"
        case "connector", "answered" if _role(facts["caller"]) == _role(facts["token_of"]) == "orchestrator":
            return "connector answered orchestrator"
        case "connector", "refused" if _role(facts["caller"]) == "reasoning":
            return "connector refused reasoning"
        case "connector", "gained":
            return "connector gained an identity"
        case _:
            return None


def sentence(event: Event) -> str:
    """Tell an event in one line; empty for what a reader need not know."""
    if event.who == DAEMONS:
        return ""
    facts = event.facts
    match event.name:
        case "identity":
            text = f"is {facts['spiffe_id']}  serial {str(facts['serial'])[:8]}…  until {facts['not_after']}"
        case "answered":
            token = f", token of {facts['token_of']}" if facts["token_of"] else ""
            text = f"answered {facts['caller']}: {facts['what']}{token}"
        case "refused":
            text = f"REFUSED {facts['caller']}: {facts['why']}"
        case "called":
            text = f"called {facts['peer']} over mTLS{' with a ' if facts['token'] else ''}{facts['token']}: {facts['what']}"
        case "rotated":
            text = f"rotated: serial {str(facts['serial'])[:8]}…  until {facts['not_after']}"
        case "gained":
            text = f"has another identity: {facts['spiffe_id']}"
        case "broken":
            text = f"CALL FAILED to {facts['peer']}: {facts['why']}"
        case "failed":
            text = f"was refused by {facts['peer']}: {facts['what']}"
        case _:
            return ""
    return f"{event.who:<{_WIDTH}} {text}"


def _role(spiffe_id: str | int) -> str:
    return str(spiffe_id).rpartition("/")[2]
