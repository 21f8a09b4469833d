"""What mends it when a process is not a component: what to do on its node, the command to type, or the line to change in the rules.

Which components a process nearly is: `engine`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import basename
from shlex import quote

from cognomen.protocol.selector import Selector
from cognomen.rulebook.engine import Miss, Shown
from cognomen.rulebook.rules import ComponentName, Nodes
from cognomen.rulebook.tables import AgentState
from cognomen.rulebook.writing import line_of_nodes, line_of_selectors

__all__ = ["Known", "fact_of", "mends", "missing_parent"]

_LABEL = "label:"
_PATH = "path:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known beside the rules.

    Args:
        place: where a key of a component stands, such as rules.toml:12.
        looked_at: the facts that the attestor looked at; None: nobody was asked, and what the process shows is all there is.
        nodes: what each node shows and its path; None: not known.
        held: the agents, and components as AGENT/COMPONENT, that are suspended beside the rules.
        links: the executables that rules name and that are links on the node of the process, and where each leads.
        knows_held: whether the issuer said who is.
    """

    place: Callable[[Miss, str], str]
    looked_at: frozenset[str] | None = None
    nodes: Collection[Shown] | None = None
    held: Collection[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    knows_held: bool = False

    def holds(self, name: ComponentName) -> str:
        """What is suspended so that a component gets nothing: its agent, or itself; empty: neither."""
        return next((one for one in (name.agent, str(name)) if one in self.held), "")


def fact_of(selector: Selector) -> str:
    """What a selector is about: `unix:path`; of other types the type alone, because we do not know their facts."""
    return f"unix:{selector.value.partition(':')[0]}" if selector.type == "unix" else selector.type


def missing_parent(nodes: Nodes, known: Known) -> str:
    """Say that no node is one of these; empty: there is one, or it is not known."""
    if known.nodes is None or nodes.is_any or any(one.is_on(nodes) for one in known.nodes):
        return ""
    return f"no node is {nodes.path}" if nodes.path else f"no node shows {nodes}"


def mends(miss: Miss, shown: Shown, known: Known) -> Iterator[str]:
    """Yield what mends each part of a miss, in the order in which it is told; one line each."""
    if miss.lacks:
        yield from _process(miss, shown, known)
    if miss.node_lacks or miss.is_other_node:
        yield from _node(miss, shown, known)
    match miss.state:
        case AgentState.RETIRED:
            yield "retired is for good: give the agent another name"
        case AgentState.DRAFT | AgentState.SUSPENDED:
            yield f'{known.place(miss, "state")}: state = "active"'
        case AgentState.ACTIVE:
            pass
    if held := known.holds(miss.component.name):
        yield f"cognomen agent resume {held}"


def _process(miss: Miss, shown: Shown, known: Known) -> Iterator[str]:
    unlooked = sorted({fact_of(one) for one in miss.lacks if not _is_known(one, known)})
    if unlooked:
        facts = " and ".join(unlooked)
        yield f"the attestor did not look at {facts}, because no entry of its node asks for that: give --selector {unlooked[0]}:… too"
        yield from (link for one in miss.lacks if (link := _link(one, known)))
        return
    yield "; ".join(_link(one, known) or _on_the_node(one) for one in miss.lacks)
    proof = next(
        (one for one in miss.component.proofs if frozenset(miss.lacks) == one - shown.selectors),
        miss.component.proofs[0],
    )
    meant = (proof & shown.selectors) | {one for lack in miss.lacks for one in shown.selectors if _replaces(one, lack)}
    if meant and len(miss.component.proofs) == 1:
        yield f"or, if the rule is wrong: {known.place(miss, 'selectors')}: selectors = {line_of_selectors(frozenset(meant))}"


def _is_known(selector: Selector, known: Known) -> bool:
    return known.looked_at is None or selector.type != "unix" or fact_of(selector) in known.looked_at


def _replaces(one: Selector, lack: Selector) -> bool:
    """Whether the process shows this in place of what it lacks."""
    return one.type == "unix" and fact_of(one) == fact_of(lack) and not fact_of(one).startswith("unix:supplementary")


def _link(lack: Selector, known: Known) -> str:
    """Say that it is a link, which no process shows: starting it shows where it leads; empty: it is none."""
    path = lack.value.removeprefix(_PATH)
    target = known.links.get(path) if lack.type == "unix" and path != lack.value else None
    if target is None:
        return ""
    or_venv = ", or make the venv with --copies" if basename(path).startswith("python") else ""
    return f"{path} is a link to {target}: name that{or_venv}"


def _on_the_node(lack: Selector) -> str:
    fact, _, value = lack.value.partition(":")
    if lack.type != "unix":
        return f"make it show {lack}"
    return {
        "uid": f"run it as uid {value}",
        "user": f"run it as the user {value}",
        "gid": f"run it with gid {value}",
        "group": f"run it with the group {value}",
        "supplementary_gid": f"give it the supplementary gid {value}",
        "supplementary_group": f"give it the supplementary group {value}",
        "path": f"start {value}",
        "sha256": f"start the executable with the digest {value}",
    }[fact]


def _node(miss: Miss, shown: Shown, known: Known) -> Iterator[str]:
    if miss.node_lacks and all(map(_is_label, miss.node_lacks)):
        wanted = [one.value.removeprefix(_LABEL) for one in sorted(miss.component.nodes.selectors) if _is_label(one)]
        options = " ".join(f"--label {quote(one.replace(':', '=', 1))}" for one in wanted)
        yield f"cognomen node invite {options}, and join the node with that: a node that joined keeps its labels"
    elif miss.node_lacks:
        yield f"run it on a node that shows {miss.component.nodes}"
    else:
        yield f"run it on the node {miss.component.nodes}"
    here = Nodes(selectors=shown.node) if shown.node else Nodes(path=shown.node_path)
    if not here.is_any:
        yield f"or, if the rule is wrong: {known.place(miss, 'nodes')}: nodes = {line_of_nodes(here)}"


def _is_label(one: Selector) -> bool:
    return one.type == "join_token" and one.value.startswith(_LABEL)
