"""Write rules as TOML, in the order of their names. What is the default of a key is not written.

What the keys mean: `tables`. Whoever reads it again gets the same rules.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from cognomen.protocol.durations import format_duration
from cognomen.protocol.selector import Selector
from cognomen.rulebook.rules import Agent, Component, ComponentName, Nodes, Rulebook
from cognomen.rulebook.tables import AgentState, Mode

__all__ = ["line_of_nodes", "line_of_selectors", "written"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH = 100  # of a list in one line


def written(rulebook: Rulebook, comments: Sequence[str] = ()) -> str:
    """The agents of a rulebook and its types of selectors as one file.

    Args:
        comments: lines above all of it.
    """
    return "\n".join(_lines(rulebook, comments)) + "\n"


def _lines(rulebook: Rulebook, comments: Sequence[str]) -> Iterator[str]:
    for one in comments:
        yield f"# {one}"
    types = {
        key: sorted(found - {own})
        for key, own, found in (
            ("workload", "unix", rulebook.workload_types),
            ("node", "join_token", rulebook.node_types),
        )
    }
    if any(types.values()):
        yield from ("", "[selector_types]")
        for key, found in types.items():
            if found:
                yield f"{key} = {_list(found)}"
    for name in sorted(rulebook.agents):
        yield from _agent(rulebook.agents[name])


def _agent(agent: Agent) -> Iterator[str]:
    shared = {one.nodes for one in agent.components.values()}
    yield from ("", f"[agent.{_key(agent.name)}]")
    yield f"owner = {_text(agent.owner)}"
    yield f"purpose = {_text(agent.purpose)}"
    if agent.state is not AgentState.ACTIVE:
        yield f"state = {_text(agent.state)}"
    if agent.review_by is not None:
        yield f"review_by = {agent.review_by.isoformat()}"
    if agent.labels:
        pairs = ", ".join(f"{_key(key)} = {_text(agent.labels[key])}" for key in sorted(agent.labels))
        yield f"labels = {{ {pairs} }}"
    if len(shared) == 1:
        yield f"nodes = {line_of_nodes(*shared)}"
    for name in sorted(agent.components):
        yield from _component(agent.components[name], has_nodes=len(shared) > 1)


def _component(component: Component, *, has_nodes: bool) -> Iterator[str]:
    yield from ("", f"[agent.{_key(component.name.agent)}.component.{_key(component.name.component)}]")
    yield f"kind = {_text(component.kind)}"
    if component.mode is not Mode.ENFORCE:
        yield f"mode = {_text(component.mode)}"
    if has_nodes:
        yield f"nodes = {line_of_nodes(component.nodes)}"
    if len(component.proofs) == 1:
        yield f"selectors = {_selectors(component.proofs[0])}"
    else:
        yield "prove = ["
        yield from (f"  {_selectors(one)}," for one in component.proofs)
        yield "]"
    for key, ttl in (("x509_ttl", component.x509_ttl), ("jwt_ttl", component.jwt_ttl)):
        if ttl is not None:
            yield f"{key} = {_text(format_duration(ttl))}"
    lists: dict[str, Iterable[str]] = {
        "dns_names": component.dns_names,
        "may_call": (_callee(one, component.name) for one in component.may_call),
        "audiences": component.audiences,
        "allow": sorted(component.allow),
    }
    if component.model:
        yield f"model = {_text(component.model)}"
    for key, texts in lists.items():
        if found := list(texts):
            yield f"{key} = {_list(found)}"


def _callee(callee: ComponentName, caller: ComponentName) -> str:
    return callee.component if callee.agent == caller.agent else str(callee)


def line_of_nodes(nodes: Nodes) -> str:
    """The value of `nodes`."""
    if nodes.is_any:
        return _text("any")
    return _text(nodes.path) if nodes.path else _selectors(nodes.selectors)


def line_of_selectors(selectors: frozenset[Selector]) -> str:
    """Their list, in one line."""
    return f"[{', '.join(_text(str(one)) for one in sorted(selectors))}]"


def _selectors(selectors: frozenset[Selector]) -> str:
    return _list([str(one) for one in sorted(selectors)])


def _list(texts: Sequence[str]) -> str:
    line = f"[{', '.join(map(_text, texts))}]"
    if len(line) <= _WIDTH or len(texts) == 1:
        return line
    return "\n".join(("[", *(f"  {_text(one)}," for one in texts), "]"))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """A basic string of TOML, whose escapes are those of JSON; it has one more character that must be escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
