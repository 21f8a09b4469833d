"""`cognomen rulebook import`: a rulebook that means what entries mean, of the issuer or of SPIRE."""

from collections.abc import Sequence
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.givenfile import write_new
from cognomen.cli.importreport import left_out_lines, notes, print_lines
from cognomen.cli.importsources import Read, entries_of_issuer, read_file
from cognomen.cli.options import GivenPath, admin_socket_option, read_source
from cognomen.cli.output import counted
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.equality import differences
from cognomen.rulebook.faults import Fault, counted_faults
from cognomen.rulebook.given import Choices, Extra
from cognomen.rulebook.importing import Imported, component_name, import_entries
from cognomen.rulebook.importmap import ImportMap, parse_nodes, read_map
from cognomen.rulebook.rules import Nodes
from cognomen.rulebook.tables import ComponentKind
from cognomen.rulebook.writing import written
from svid.errors import SVIDError
from svid.spiffeid import TrustDomain

__all__ = ["import_rules"]

_LEFT_OUT = 1
_MODE = 0o644
_MOST_SHOWN = 100


def _agent(text: str) -> str:
    """Parse the name of an agent."""
    if component_name(text, "x") is None:
        raise click.BadParameter(f"expected a name of a-z 0-9 . _ -, found {text!r}")
    return text


@click.command("import")
@click.option(
    "--from",
    "sources",
    metavar="FILE",
    multiple=True,
    help="SPIRE's entries as JSON, or manifests; - is standard input; repeatable.  [default: the issuer's entries]",
)
@click.option("--write", "target", type=GivenPath(), metavar="FILE", help="Write the rulebook into this new file.")
@click.option("--owner", default="", help="Who answers for the agents of which nothing else says it.")
@click.option("--purpose", default="", help="What these agents are for.")
@click.option(
    "--kind",
    type=click.Choice([one.value for one in ComponentKind]),
    default=ComponentKind.OTHER.value,
    show_default=True,
    help="What the components do in their agents.",
)
@click.option("--rename", is_flag=True, help="Give other SPIFFE IDs to those that are not /agent/AGENT/COMPONENT.")
@click.option("--agent", type=_agent, metavar="NAME", help="The agent of all components that are renamed.")
@click.option("--agent-from-path", type=click.IntRange(1, 64), help="Which segment of a path names the agent, from 1.")
@click.option(
    "--component-from-path",
    type=click.IntRange(1, 64),
    help="Which segment of a path names the component.  [default: the last]",
)
@click.option(
    "--nodes",
    multiple=True,
    metavar="SELECTOR",
    help="Which nodes SPIRE's agents are here: a node selector, repeatable; the path of a node; or any.",
)
@click.option("--map", "table", type=GivenPath(), metavar="FILE", help="A TOML file with names, nodes and owners.")
@click.option(
    "--keep-selector-types", is_flag=True, help="Keep selectors of other types than ours: plugins must write them."
)
@click.option(
    "--drop",
    "drops",
    type=click.Choice([one.value for one in Extra]),
    multiple=True,
    metavar="FIELD",
    help=f"What entries may lose; repeatable: {', '.join(Extra)}.",
)
@click.option("--trust-domain", default="", help="The trust domain of SPIRE's entries.  [default: that of the first]")
@admin_socket_option
def import_rules(
    sources: tuple[str, ...],
    target: Path | None,
    owner: str,
    purpose: str,
    kind: str,
    agent: str | None,
    agent_from_path: int | None,
    component_from_path: int | None,
    nodes: tuple[str, ...],
    table: Path | None,
    drops: tuple[str, ...],
    trust_domain: str,
    socket: Path,
    *,
    rename: bool,
    keep_selector_types: bool,
) -> int:
    """Make a rulebook from existing entries: those of the issuer, or of SPIRE.

    Files may be the output of SPIRE's `entry show -output json`, and manifests of
    spire-controller-manager as YAML or JSON (ClusterStaticEntry, ClusterSPIFFEID).

    An entry whose SPIFFE ID is /agent/AGENT/COMPONENT keeps it. The rulebook is read again
    and compared: it gives the same SPIFFE IDs for the same selectors on the same nodes, or
    nothing is written. What is left out is listed on standard error with what helps, and the
    exit code is 1.

    The file of --map has the tables [names] ("/ns/a/sa/b" = "concierge/crm"), [nodes]
    ("/spire/agent/x509pop/7f3a" = ["join_token:label:team:travel"]), and [agent.concierge]
    with owner and purpose.

    \b
    Examples:
      cognomen rulebook import --write rules/all.toml
      spire-server entry show -output json | cognomen rulebook import --from - \\
        --rename --agent-from-path 2 --owner travel-platform@example.org
    """  # noqa: D301 - \b is click's mark
    mapped, faults = _map(table)
    choices = Choices(
        owner=owner,
        purpose=purpose,
        kind=ComponentKind(kind),
        names=mapped.names,
        nodes=mapped.nodes,
        other_nodes=_nodes(nodes),
        people=mapped.people,
        agent=agent or "",
        agent_from=agent_from_path,
        component_from=component_from_path,
        renames=rename,
        keeps_types=keep_selector_types,
        drops=frozenset(map(Extra, drops)),
    )
    if sources:
        reads = [read_file(one, trust_domain) for one in sources]
    else:
        with connect(socket) as admin:
            reads = [entries_of_issuer(admin)]
            trust_domain = admin.trust_domain.name
    _check([*faults, *(fault for one in reads for fault in one.faults)])
    domain = _trust_domain(trust_domain, reads)
    found = import_entries([one for each in reads for one in each.entries], domain, choices)
    left_out = [*(one for each in reads for one in each.left_out), *found.left_out]
    print_lines(left_out_lines(left_out))
    if not found.placed:
        raise Refused(Kind.INVALID, "expected at least one entry that can be a component, found none")
    text = written(
        found.rulebook, [f"Made by cognomen rulebook import, from {counted(len(found.placed), 'entry', 'entries')}."]
    )
    _check_same(text, found, domain)
    if target is None:
        click.echo(text, nl=False)
    else:
        write_new(target, text.encode(), mode=_MODE)
    print_lines(notes(found, choices))
    return _LEFT_OUT if left_out else 0


def _map(path: Path | None) -> tuple[ImportMap, Sequence[Fault]]:
    return (ImportMap({}, {}, {}), ()) if path is None else read_map(read_source(str(path)), str(path))


def _nodes(texts: Sequence[str]) -> Nodes | None:
    try:
        return parse_nodes(texts) if texts else None
    except ValueError as e:
        raise click.BadParameter(str(e), param_hint="--nodes") from e


def _check(faults: Sequence[Fault]) -> None:
    """Refuse files with faults; all are printed."""
    if not faults:
        return
    print_lines(map(str, faults[:_MOST_SHOWN]))
    count = counted_faults(faults)
    more = f"; the first {_MOST_SHOWN} are shown" if count > _MOST_SHOWN else ""
    raise Refused(Kind.INVALID, f"{counted(count, 'fault')} in what is to be imported{more}")


def _trust_domain(name: str, reads: Sequence[Read]) -> TrustDomain:
    try:
        if name:
            return TrustDomain(name)
    except SVIDError as e:
        raise click.BadParameter(str(e), param_hint="--trust-domain") from e
    first = next((one for each in reads for one in each.entries), None)
    if first is None:
        for each in reads:
            print_lines(left_out_lines(each.left_out))
        raise Refused(Kind.INVALID, "expected at least one entry, found none")
    return first.spiffe_id.trust_domain


def _check_same(text: str, found: Imported, trust_domain: TrustDomain) -> None:
    """Refuse a rulebook that would mean something else."""
    different = list(differences(text, found.placed, trust_domain))
    if not different:
        return
    print_lines(different[:_MOST_SHOWN])
    raise Refused(
        Kind.INVALID,
        f"{counted(len(different), 'difference')} between the rulebook and the entries: nothing is written",
    )
