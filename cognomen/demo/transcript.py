"""The transcript: what the events of a scene mean to a reader, and whether all that should happen did."""

from collections.abc import Mapping

from cognomen.demo.scene import DAEMONS, Event

__all__ = ["EXPECTED", "achievement", "sentence"]

_WIDTH = 13

EXPECTED: Mapping[str, str] = {
    "connector holds an identity": "connector has an X509-SVID and a JWT-SVID of its own",
    "reasoning holds an identity": "reasoning has an X509-SVID and a JWT-SVID of its own",
    "orchestrator holds an identity": "orchestrator has an X509-SVID and a JWT-SVID of its own",
    "reasoning answered orchestrator": "orchestrator called reasoning over mTLS",
    "connector answered orchestrator": "orchestrator called the connector over mTLS, with a JWT-SVID for that audience",
    "connector refused reasoning": "reasoning's call to the connector was refused: nobody allowed it",
}
"""What must have happened for exit code 0, and how it is summed up."""


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
        case "failed":
            text = f"was refused by {facts['peer']}: {facts['what']}"
        case _:
            return ""
    return f"{event.who:<{_WIDTH}} {text}"


def _role(spiffe_id: str | int) -> str:
    return str(spiffe_id).rpartition("/")[2]
