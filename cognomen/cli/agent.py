"""`cognomen agent`: the agents of the rulebook in force, and who answers for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.options import admin_socket_option, comment_option, output_option
from cognomen.cli.output import Columns, View, counted, print_document, print_json, print_table
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.compiling import audiences_of
from cognomen.rulebook.faults import suggestion
from cognomen.rulebook.rules import Agent, Component, Rulebook
from cognomen.rulebook.tables import AgentState
from cognomen.rulebook.whole import read_whole
from cognomen.wire.pb import admin_pb2 as pb
from svid.clock import SystemClock
from svid.encoding import JSON
from svid.spiffeid import TrustDomain

__all__ = ["agent"]

_AGENTS = Columns(
    table=("name", "state", "mode", "owner", "components", "review_by"),
    wide=("name", "state", "mode", "held_by", "owner", "components", "review_by", "is_overdue", "purpose", "labels"),
)
_COMPONENTS = Columns(
    table=("component", "kind", "mode", "nodes", "proofs", "audiences"),
    wide=(
        *("component", "kind", "mode", "nodes", "proofs", "audiences", "may_call", "model", "allow"),
        *("x509_ttl", "jwt_ttl"),
    ),
)


@click.group()
def agent() -> None:
    """Show the agents of the rulebook in force: what they are for, and who answers for them."""


@agent.command("list")
@click.option("--overdue", is_flag=True, help="Only those whose review is overdue.")
@output_option
@admin_socket_option
def list_agents(output: str, socket: Path, *, overdue: bool) -> None:
    """List the agents, by name.

    \b
    Examples:
      cognomen agent list
      cognomen agent list --overdue --output json
    """  # noqa: D301 - \b is click's mark
    in_force = _in_force(socket)
    agents = [_agent(in_force, name) for name in sorted(in_force.rulebook.agents)]
    shown = [one for one in agents if one["is_overdue"] or not overdue]
    if output == "json":
        print_json({"agents": list(shown)})
    else:
        print_table(_AGENTS, shown, View(output=output))


@agent.command()
@click.argument("name")
@output_option
@admin_socket_option
def show(name: str, output: str, socket: Path) -> None:
    """Show an agent and its components.

    \b
    Example:
      cognomen agent show concierge
    """  # noqa: D301 - \b is click's mark
    in_force = _in_force(socket)
    rulebook = in_force.rulebook
    found = rulebook.agents.get(name)
    if found is None:
        raise Refused(
            Kind.NOT_FOUND,
            f"agent: none of the rulebook in force is called {name!r}",
            hint=suggestion(name, rulebook.agents) or "list them: cognomen agent list",
        )
    components = [
        _component(rulebook, found.components[one], in_force.trust_domain) for one in sorted(found.components)
    ]
    if output == "json":
        print_json({**_agent(in_force, name), "components": list(components)})
        return
    print_document(_agent(in_force, name))
    click.echo()
    print_table(_COMPONENTS, components, View(output=output))


@agent.command()
@click.argument("name")
@comment_option
@admin_socket_option
def suspend(name: str, comment: str, socket: Path) -> None:
    """Suspend an agent at once, whatever the rulebook says.

    Its identities are revoked, and nothing more is signed for it, through each rulebook that is
    applied later, until `agent resume`.

    \b
    Example:
      cognomen agent suspend concierge --comment "it books flights to nowhere"
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        done = admin.suspend_agent(pb.AgentRequest(name=name, comment=comment))
    ended = counted(done.ended, "credential")
    click.echo(f"{name}: suspended; {counted(done.deleted, 'entry', 'entries')} deleted, {ended} revoked")


@agent.command()
@click.argument("name")
@comment_option
@admin_socket_option
def resume(name: str, comment: str, socket: Path) -> None:
    """End a suspension: what the rulebook says counts again.

    \b
    Example:
      cognomen agent resume concierge --comment "fixed in PR 12"
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        done = admin.resume_agent(pb.AgentRequest(name=name, comment=comment))
    click.echo(f"{name}: resumed; {counted(done.created, 'entry', 'entries')} created")


@dataclass(frozen=True, slots=True, kw_only=True)
class _InForce:
    """The rulebook in force; held: what operators said of the agents that they suspended."""

    trust_domain: TrustDomain
    rulebook: Rulebook
    held: Mapping[str, str]


def _in_force(socket: Path) -> _InForce:
    with connect(socket) as admin:
        found = admin.get_rulebook(pb.GetRulebookRequest())
        held = {one.name: f"{one.actor} {one.comment}".strip() for one in admin.list_held_agents().agents}
        trust_domain = admin.trust_domain
    rulebook, _ = read_whole({name: text.encode() for name, text in found.files.items()})
    return _InForce(trust_domain=trust_domain, rulebook=rulebook, held=held)


def _agent(in_force: _InForce, name: str) -> dict[str, JSON]:
    found = in_force.rulebook.agents[name]
    is_held = name in in_force.held and found.state is AgentState.ACTIVE
    return {
        "name": found.name,
        "state": AgentState.SUSPENDED.value if is_held else found.state.value,
        "mode": _mode(found),
        "held_by": in_force.held.get(name, ""),
        "owner": found.owner,
        "components": len(found.components),
        "review_by": None if found.review_by is None else found.review_by.isoformat(),
        "is_overdue": found.review_by is not None and found.review_by < _today(),
        "purpose": found.purpose,
        "labels": dict(found.labels),
    }


def _mode(found: Agent) -> str:
    """That of its components, if they all have one."""
    modes = {one.mode.value for one in found.components.values()}
    return modes.pop() if len(modes) == 1 else "mixed"


def _component(rulebook: Rulebook, found: Component, trust_domain: TrustDomain) -> dict[str, JSON]:
    proofs: list[JSON] = [" ".join(map(str, sorted(one))) for one in found.proofs]
    own = f"spiffe://{trust_domain}"
    return {
        "component": found.name.component,
        "kind": found.kind.value,
        "mode": found.mode.value,
        "nodes": str(found.nodes),
        "proofs": proofs,
        "audiences": [
            one.removeprefix(own) if one.startswith(f"{own}/") else one
            for one in audiences_of(rulebook, found, trust_domain)
        ],
        "may_call": [str(one) for one in found.may_call],
        "model": found.model,
        "allow": sorted(one.value for one in found.allow),
        "x509_ttl": None if found.x509_ttl is None else f"{found.x509_ttl.total_seconds():.0f}s",
        "jwt_ttl": None if found.jwt_ttl is None else f"{found.jwt_ttl.total_seconds():.0f}s",
    }


def _today() -> date:
    return SystemClock().now().date()
