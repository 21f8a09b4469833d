"""`cognomen agent`: the agents of the rulebook in force, and who answers for them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.agentlife import owner, resume, retire, suspend
from cognomen.cli.agentreview import review
from cognomen.cli.inforce import InForce, agent_of, in_force, in_force_or_none, said_of
from cognomen.cli.limits import LIMITS, limits_of_agent
from cognomen.cli.options import admin_socket_option, output_option
from cognomen.cli.output import Columns, View, print_document, print_json, print_table, same_columns
from cognomen.rulebook.compiling import audiences_of
from cognomen.rulebook.reviews import is_overdue
from cognomen.rulebook.rules import Agent, Component
from cognomen.rulebook.tables import AgentState
from cognomen.wire.admin import document_from_message
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = ["agent"]

_AGENTS = Columns(
    table=("name", "state", "mode", "owner", "components", "review_by"),
    wide=(
        *("name", "state", "mode", "held_by", "retired_by", "owner", "components", "review_by", "on_overdue"),
        *("is_overdue", "purpose", "labels"),
    ),
)
_HELD = same_columns("name", "in_rulebook", "at", "held_by")
_COMPONENTS = Columns(
    table=("component", "state", "kind", "mode", "nodes", "proofs", "may_call", "model", "audiences"),
    wide=(
        *(
            "component",
            "state",
            "held_by",
            "kind",
            "mode",
            "nodes",
            "proofs",
            "audiences",
            "may_call",
            "model",
            "allow",
        ),
        *("x509_ttl", "jwt_ttl"),
    ),
    is_broad=True,
)


@click.group()
def agent() -> None:
    """The agents of the rulebook in force: what they are for, who answers for them, and their end."""


for _command in (suspend, resume, retire, owner, review):
    agent.add_command(_command)


@agent.command("list")
@click.option("--overdue", is_flag=True, help="Only those whose review is overdue.")
@output_option
@admin_socket_option
def list_agents(output: str, socket: Path, *, overdue: bool) -> None:
    """List the agents, by name, and below them what is suspended.

    The table `suspended` has each agent and component that is suspended, whatever the rulebook
    says: in_rulebook is false if the one in force has nothing of that name any more.

    The mode is mixed if only some of the components observe. held_by (--output wide) is who
    suspended an agent beside its rules, and retired_by who retired it.

    \b
    Examples:
      cognomen agent list
      cognomen agent list --overdue --output json
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = in_force_or_none(admin)
    agents = [] if found is None else [_agent(found, name) for name in sorted(found.rulebook.agents)]
    held = [] if found is None or overdue else _held(found, found.held)
    shown = [one for one in agents if one["is_overdue"] or not overdue]
    if output == "json":
        print_json({"agents": list(shown), **({} if overdue else {"held": held})})
        return
    print_table(_AGENTS, shown, View(output=output))
    if not overdue:
        _print_held(held, output)


@agent.command()
@click.argument("name")
@output_option
@admin_socket_option
def show(name: str, output: str, socket: Path) -> None:
    """Show an agent, its components, and its limits on issuance.

    proofs are the sets of selectors of which a process must show one. held_by is who suspended
    the agent or the component beside the rules. A terminal that is too narrow for the table has
    a line for each field.

    The table `suspended` has components that are suspended, and that the rulebook in force does
    not have any more. They may be there by another name: the plan says so.

    The table `limits` has what is used of each limit now, and how often it refused something or,
    in the mode count, would have: since the issuer started, or the limit was changed.

    \b
    Example:
      cognomen agent show concierge
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = in_force(admin)
    one = agent_of(found, name)
    components = [_component(found, one.components[each]) for each in sorted(one.components)]
    limits = limits_of_agent(socket, name)
    held = _held(found, (each for each in found.held if each.startswith(f"{name}/") and not found.has(each)))
    if output == "json":
        print_json({**_agent(found, name), "components": list(components), "limits": list(limits), "held": list(held)})
        return
    print_document(_agent(found, name))
    click.echo()
    print_table(_COMPONENTS, components, View(output=output))
    if limits:
        click.echo("\nlimits:")
        print_table(LIMITS, limits, View(output=output))
    _print_held(held, output)


def _agent(found: InForce, name: str) -> dict[str, JSON]:
    one, state = found.rulebook.agents[name], found.state(name)
    is_held = name in found.held and state is AgentState.SUSPENDED
    return {
        "name": one.name,
        "state": state.value,
        "mode": _mode(one),
        "held_by": said_of(found.held[name]) if is_held else "",
        "retired_by": said_of(found.retired[name]) if name in found.retired else "",
        "owner": one.owner,
        "components": len(one.components),
        "review_by": None if one.review_by is None else one.review_by.isoformat(),
        "on_overdue": one.on_overdue.value,
        "is_overdue": state is not AgentState.RETIRED and is_overdue(one, _today()),
        "purpose": one.purpose,
        "labels": dict(one.labels),
    }


def _held(found: InForce, names: Iterable[str]) -> list[dict[str, JSON]]:
    """What is suspended by these names."""
    return [
        {
            **document_from_message(found.held[name]),
            "held_by": said_of(found.held[name]),
            "in_rulebook": found.has(name),
        }
        for name in sorted(names)
    ]


def _print_held(held: Sequence[Mapping[str, JSON]], output: str) -> None:
    if held:
        click.echo("\nsuspended:")
        print_table(_HELD, held, View(output=output))


def _mode(found: Agent) -> str:
    """That of its components, if they all have one."""
    modes = {one.mode.value for one in found.components.values()}
    return modes.pop() if len(modes) == 1 else "mixed"


def _component(at: InForce, found: Component) -> dict[str, JSON]:
    proofs: list[JSON] = [" ".join(map(str, sorted(one))) for one in found.proofs]
    own = f"spiffe://{at.trust_domain}"
    held, state = at.held.get(str(found.name)), at.state(found.name.agent)
    return {
        "component": found.name.component,
        "state": (AgentState.SUSPENDED if held is not None and state is AgentState.ACTIVE else state).value,
        "held_by": "" if held is None else said_of(held),
        "kind": found.kind.value,
        "mode": found.mode.value,
        "nodes": str(found.nodes),
        "proofs": proofs,
        "audiences": [
            one.removeprefix(own) if one.startswith(f"{own}/") else one
            for one in audiences_of(at.rulebook, found, at.trust_domain)
        ],
        "may_call": [str(one) for one in found.may_call],
        "model": found.model,
        "allow": sorted(one.value for one in found.allow),
        "x509_ttl": None if found.x509_ttl is None else f"{found.x509_ttl.total_seconds():.0f}s",
        "jwt_ttl": None if found.jwt_ttl is None else f"{found.jwt_ttl.total_seconds():.0f}s",
    }


def _today() -> date:
    return SystemClock().now().date()
