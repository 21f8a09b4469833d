"""`cognomen explain`: which components a process would be by a rulebook, and what it lacks for the nearest others."""

from pathlib import Path

import click

from cognomen.cli.cells import text_of
from cognomen.cli.options import output_option, selector
from cognomen.cli.output import print_json
from cognomen.cli.rulefiles import rules_argument, rules_from
from cognomen.protocol.selector import Selector
from cognomen.rulebook.engine import Engine, Miss, Shown
from cognomen.rulebook.rules import Component
from cognomen.rulebook.tables import AgentState, Mode
from svid.encoding import JSON

__all__ = ["explain"]

_MOST_NEAR = 5
_NONE = 1


@click.command()
@rules_argument
@click.option(
    "--selector", "selectors", type=selector, multiple=True, required=True, help="What the process shows; repeatable."
)
@click.option("--node", "node", type=selector, multiple=True, help="A selector that its node shows; repeatable.")
@click.option("--node-path", default="", help="The path of the node's SPIFFE ID, /cognomen/node/…")
@output_option
def explain(
    rules: Path, selectors: tuple[Selector, ...], node: tuple[Selector, ...], node_path: str, output: str
) -> int:
    """Explain what a process would get by a rulebook, and why not more.

    RULES is a file, or a folder with files *.toml. No issuer is asked. On a node, `cognomen
    why --pid N` shows the selectors of a process, and what it gets now. The exit code is 1 if
    it would get nothing.

    \b
    Example:
      cognomen explain rules/ --selector unix:uid:1002 \\
        --node join_token:label:team:travel
    """  # noqa: D301 - \b is click's mark
    rulebook = rules_from(rules)
    engine = Engine(rulebook)
    shown = Shown(selectors=frozenset(selectors), node=frozenset(node), node_path=node_path)
    found, near = engine.match(shown), engine.misses(shown, limit=_MOST_NEAR)
    if output == "json":
        matches: list[JSON] = [
            {
                "component": str(one.name),
                "external_audiences": sorted(rulebook.external_audiences(one)),
                "mode": one.mode.value,
            }
            for one in found
        ]
        print_json({"matches": matches, "near": [_document(one) for one in near]})
    else:
        for one in found:
            click.echo(_match(one))
        if not found:
            click.echo("it is nothing")
        for miss in near:
            click.echo(f"it is not {_place(miss.component)}: {'; '.join(_reasons(miss))}")
    return 0 if any(one.mode is Mode.ENFORCE for one in found) else _NONE


def _match(component: Component) -> str:
    if component.mode is Mode.OBSERVE:
        return f"it would be {_place(component)}; that rule only observes"
    return f"it is {_place(component)}"


def _place(component: Component) -> str:
    return f"{component.name} ({text_of(component.where.file)})"


def _document(miss: Miss) -> dict[str, JSON]:
    return {
        "component": str(miss.component.name),
        "lacks": [str(one) for one in miss.lacks],
        "node_lacks": [str(one) for one in miss.node_lacks],
        "is_other_node": miss.is_other_node,
        "state": miss.state.value,
    }


def _reasons(miss: Miss) -> list[str]:
    reasons = []
    if miss.lacks:
        reasons.append(f"it lacks {text_of(' '.join(map(str, miss.lacks)))}")
    if miss.node_lacks:
        reasons.append(f"its node lacks {text_of(' '.join(map(str, miss.node_lacks)))}")
    if miss.is_other_node:
        reasons.append(f"it is on another node than {miss.component.nodes}")
    if miss.state is not AgentState.ACTIVE:
        reasons.append(f'the agent is {miss.state}: set state = "active"')
    return reasons
