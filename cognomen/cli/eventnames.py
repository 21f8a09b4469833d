"""Which agent and which component a row of the record is about: its subject says it, or, if that is something else, a fact."""

from collections.abc import Mapping

from cognomen.cli.agentnames import names_in
from svid.encoding import JSON

__all__ = ["names_of"]

_OF_AGENTS = ("agent suspended", "agent resumed", "agent retired")
_ALL_BELOW = "/…"


def names_of(event: Mapping[str, JSON]) -> dict[str, JSON]:
    """Both, as keys; a text is empty if the row is about none, or about several."""
    subject, facts = event.get("subject"), event.get("facts")
    if event.get("action") in _OF_AGENTS:
        return _both(subject)
    names = names_in(subject)
    if names["agent"]:
        return names
    facts = facts if isinstance(facts, Mapping) else {}
    if component := facts.get("of_component"):
        return _both(component)
    agents = str(facts.get("of_agents", "")).split()
    if len(agents) == 1:
        return _both(agents[0])
    if isinstance(subject, str) and subject.endswith(_ALL_BELOW):
        return _below(subject.removesuffix(_ALL_BELOW))
    return names


def _both(name: JSON) -> dict[str, JSON]:
    agent, _, component = str(name).partition("/")
    return {"agent": agent, "component": component}


def _below(spiffe_id: str) -> dict[str, JSON]:
    """What names all below an agent, or below a component; other IDs are of neither."""
    _, _, path = spiffe_id.removeprefix("spiffe://").partition("/")
    match path.split("/"):
        case ["agent", agent]:
            return {"agent": agent, "component": ""}
        case ["agent", agent, component]:
            return {"agent": agent, "component": component}
        case _:
            return {"agent": "", "component": ""}
