"""`cognomen explain`: which components a process would be by a rulebook, what it lacks for the nearest others, and what mends that."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from cognomen.cli.askednode import AskedIssuer, AskedNode, ask_issuer, ask_node
from cognomen.cli.cells import text_of
from cognomen.cli.links import links_of
from cognomen.cli.options import SocketPath, attestor_socket_option, output_option, selector
from cognomen.cli.output import print_json
from cognomen.cli.rulefiles import rules_and_files, rules_argument
from cognomen.protocol.selector import Selector
from cognomen.rulebook.engine import Engine, Miss, Shown
from cognomen.rulebook.mending import Known, mends, missing_parent
from cognomen.rulebook.places import Path as Place
from cognomen.rulebook.places import line_of, lines
from cognomen.rulebook.rules import Component, Rulebook
from cognomen.rulebook.tables import AgentState, Mode
from svid.encoding import JSON

__all__ = ["explain"]

_MOST_NEAR = 5
_NONE = 1
_NOT_KNOWN = "unless it is suspended beside the rules: that is not known here, only at the issuer (cognomen agent list, or --admin-socket)"


@click.command()
@rules_argument
@click.option("--pid", type=click.IntRange(1, 2**31 - 1), help="Ask the attestor about that process on this node.")
@click.option("--selector", "selectors", type=selector, multiple=True, help="What the process shows; repeatable.")
@click.option("--node", "node", type=selector, multiple=True, help="A selector that its node shows; repeatable.")
@click.option("--node-path", default="", help="The path of the node's SPIFFE ID, /cognomen/node/…")
@click.option(
    "--admin-socket",
    type=SocketPath(),
    envvar="COGNOMEN_ADMIN_SOCKET",
    show_envvar=True,
    default="/run/cognomen/admin/issuer.sock",
    show_default=True,
    help="With --pid, if the issuer runs on this machine: it knows what the node shows, and what is suspended.",
)
@attestor_socket_option
@output_option
def explain(
    rules: Path,
    pid: int | None,
    selectors: tuple[Selector, ...],
    node: tuple[Selector, ...],
    node_path: str,
    admin_socket: Path,
    socket: str,
    output: str,
) -> int:
    """Explain what a process would get by a rulebook, why not more, and what mends that.

    RULES is a file, or a folder with files *.toml. With --pid, on the node of the process, its
    attestor says what it shows; as for cognomen why, ordinary users may ask about their own
    processes. Without, --selector and --node say it, and nobody is asked. With both, the
    process also shows these selectors, such as a path that no entry asks for yet.

    The exit code is 1 if it would get nothing.

    \b
    Examples:
      cognomen explain rules/ --pid $(pidof crm)
      cognomen explain rules/ --selector unix:uid:1002 \\
        --node join_token:label:team:travel
    """  # noqa: D301 - \b is click's mark
    if pid is None and not selectors:
        raise click.UsageError("expected --pid or --selector, found neither")
    rulebook, files = rules_and_files(rules)
    asked = None if pid is None else ask_node(socket, pid)
    issuer = None if asked is None else ask_issuer(admin_socket)
    shown = _shown(asked, issuer, Shown(selectors=frozenset(selectors), node=frozenset(node), node_path=node_path))
    engine = Engine(rulebook)
    found, near = engine.match(shown), engine.misses(shown, limit=_MOST_NEAR)
    known = Known(
        place=_places(files),
        looked_at=None if asked is None else asked.looked_at,
        nodes=None if issuer is None else issuer.nodes,
        held=() if issuer is None else issuer.held,
        links={} if asked is None else links_of(one for miss in near for one in miss.lacks),
        knows_held=issuer is not None,
    )
    if output == "json":
        print_json(_whole(rulebook, found, [(one, list(mends(one, shown, known))) for one in near], known, asked))
    else:
        _print(found, near, shown, known, asked)
    return 0 if _gets_any(found, known, asked) else _NONE


def _gets_any(found: Sequence[Component], known: Known, asked: AskedNode | None) -> bool:
    is_withdrawn = asked is not None and bool(asked.withdrawn)
    return not is_withdrawn and any(one.mode is Mode.ENFORCE and not known.holds(one.name) for one in found)


def _shown(asked: AskedNode | None, issuer: AskedIssuer | None, given: Shown) -> Shown:
    """What the process and its node show: as the attestor and the issuer say, and as the operator does."""
    if asked is None:
        return given
    path = given.node_path or asked.node_path
    told = None if issuer is None else issuer.selectors_of(path)
    return Shown(
        selectors=asked.selectors | given.selectors,
        node=given.node or told or frozenset(),
        node_path=path,
        knows_node=told is not None,
    )


def _places(files: Mapping[str, str]) -> Callable[[Miss, str], str]:
    """Where a key of a component stands: in its own table, or in that of its agent."""
    known: dict[str, Mapping[Place, int]] = {}

    def place(miss: Miss, key: str) -> str:
        where = miss.component.where
        if where.file not in known:
            known[where.file] = lines(files[Path(where.file).name])
        at = known[where.file]
        own, shared = (*where.path, key), (*where.path[:2], key)
        path = shared if own not in at and (shared in at or key == "state") else own
        return f"{where.file}:{line_of(path, at)}"

    return place


def _match(component: Component, shown: Shown) -> str:
    place = f"{_place(component)}{_if_node(component, shown)}"
    return f"it would be {place}; that rule only observes" if component.mode is Mode.OBSERVE else f"it is {place}"


def _print(
    found: Sequence[Component], near: Sequence[Miss], shown: Shown, known: Known, asked: AskedNode | None
) -> None:
    told: list[str] = []
    if asked is not None:
        told.append(f"it shows {' '.join(map(str, sorted(shown.selectors)))}, on {shown.node_path}")
        told += [f"it cannot be seen whether it shows {one}" for one in asked.unseen]
        if asked.withdrawn:
            told.append(f"no identity for anybody on this node, whatever the rules are: {asked.withdrawn}")
    for one in found:
        told.append(_match(one, shown))
        if asked is not None and not known.knows_held:
            told.append(f"  {_NOT_KNOWN}")
        if held := known.holds(one.name):
            told += [f"  but {held} is suspended beside the rules: it gets nothing", f"  cognomen agent resume {held}"]
    if not found:
        told.append("it is nothing")
    for miss in near:
        told.append(f"it is not {_place(miss.component)}: {'; '.join(_reasons(miss, known))}")
        told += [f"  {one}" for one in mends(miss, shown, known)]
    for line in told:
        indent = line[: len(line) - len(line.lstrip())]
        click.echo(indent + text_of(line.lstrip()))


def _place(component: Component) -> str:
    return f"{component.name} ({component.where.file})"


def _if_node(component: Component, shown: Shown) -> str:
    """The condition where nobody said what the node shows."""
    left = sorted(component.nodes.selectors - shown.node)
    return f", if its node shows {' '.join(map(str, left))}" if left and not shown.knows_node else ""


def _whole(
    rulebook: Rulebook,
    found: Sequence[Component],
    near: Sequence[tuple[Miss, list[str]]],
    known: Known,
    asked: AskedNode | None,
) -> Mapping[str, JSON]:
    matches: list[JSON] = [
        {
            "component": str(one.name),
            "external_audiences": sorted(rulebook.external_audiences(one)),
            "held": known.holds(one.name),
            "mode": one.mode.value,
        }
        for one in found
    ]
    document: dict[str, JSON] = {"matches": matches, "near": [_document(one, known, mend) for one, mend in near]}
    if asked is not None:
        document |= {
            "selectors": [str(one) for one in sorted(asked.selectors)],
            "node_path": asked.node_path,
            "unseen": list(asked.unseen),
            "withdrawn": asked.withdrawn,
            "knows_held": known.knows_held,
        }
    return document


def _document(miss: Miss, known: Known, mend: Sequence[str]) -> dict[str, JSON]:
    return {
        "component": str(miss.component.name),
        "lacks": [str(one) for one in miss.lacks],
        "node_lacks": [str(one) for one in miss.node_lacks],
        "is_other_node": miss.is_other_node,
        "missing_parent": missing_parent(miss.component.nodes, known),
        "state": miss.state.value,
        "held": known.holds(miss.component.name),
        "mends": list(mend),
    }


def _reasons(miss: Miss, known: Known) -> list[str]:
    reasons = []
    if miss.lacks:
        reasons.append(f"it lacks {' '.join(map(str, miss.lacks))}")
    if miss.node_lacks:
        reasons.append(f"its node lacks {' '.join(map(str, miss.node_lacks))}")
    if miss.is_other_node:
        reasons.append(f"it is on another node than {miss.component.nodes}")
    if reason := missing_parent(miss.component.nodes, known):
        reasons.append(reason)
    if miss.state is not AgentState.ACTIVE:
        reasons.append(f"the agent is {miss.state}")
    if held := known.holds(miss.component.name):
        reasons.append(f"{held} is suspended beside the rules")
    return reasons
