"""`cognomen rulebook observe`: what components that only observe would have been given, and refused."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.inforce import agent_of, in_force_or_none
from cognomen.cli.named import check_not_future
from cognomen.cli.options import admin_socket_option, moment, output_option
from cognomen.cli.output import Columns, View, print_json, print_table
from cognomen.cli.plainly import path_in_words
from cognomen.cli.uses import silent_nodes, warn_of_silence
from cognomen.protocol.printable import unmistakable
from cognomen.wire.admin import document_from_message, moment_to_text
from cognomen.wire.pb import admin_pb2 as pb
from svid.clock import SystemClock
from svid.encoding import JSON
from svid.spiffeid import SpiffeID

__all__ = ["observe"]

_AGENTS = "/agent"
_NONE = 1
_REPORTED_WITHIN = timedelta(seconds=30)
_COLUMNS = Columns(
    table=("component", "since", "would_be", "uid", "executable", "nodes", "times", "first_at", "last_at"),
    wide=(
        *("component", "since", "would_be", "uid", "pid", "executable", "nodes", "processes", "times"),
        *("first_at", "last_at", "entry_id"),
    ),
)


@click.command()
@click.option("--agent", default="", help="Only the components of this agent.")
@click.option("--since", type=moment, metavar="TIME", help="Only what lasted until that moment or later.")
@output_option
@admin_socket_option
def observe(agent: str, since: datetime | None, output: str, socket: Path) -> int:
    """Show what components with mode = "observe" would have been given, and refused.

    The nodes report which processes they would have given SVIDs, within half a minute. Each row
    is a uid and an executable. since is when the component began to observe. Audiences are those
    for which a JWT-SVID would have been refused.

    Exit code 1 if no component observes, and 4 if the rulebook in force has no such agent.

    \b
    Examples:
      cognomen rulebook observe
      cognomen rulebook observe --agent concierge --since 2026-11-23T08:00:00Z
    """  # noqa: D301 - \b is click's mark
    check_not_future(since=since)
    with connect(socket) as admin:
        entries, silent = _found(admin, agent, since)
        if agent and not entries and (rules := in_force_or_none(admin)) is not None:
            agent_of(rules, agent)
    components = list(_components(entries))
    if output == "json":
        print_json(
            {"components": list(components), "not_reporting": [dict(document_from_message(one)) for one in silent]}
        )
    else:
        _print(components, View(output=output))
    warn_of_silence(silent, "programs may be missing")
    return 0 if components else _NONE


def _found(
    admin: Admin, agent: str, since: datetime | None
) -> tuple[Sequence[pb.ObservedEntry], Sequence[pb.SilentNode]]:
    request = pb.ListObservedRequest(below=f"spiffe://{admin.trust_domain}{_AGENTS}/{agent}" if agent else "")
    if since is not None:
        request.since.FromDatetime(since)
    found = list(pages(admin.list_observed, request, every=True))
    silent = silent_nodes(one for page in found for one in page.not_reporting)
    return [entry for page in found for entry in page.entries], silent


def _components(entries: Sequence[pb.ObservedEntry]) -> Iterator[dict[str, JSON]]:
    """By name; a component that is proved in several ways has several entries."""
    by_id: dict[str, list[pb.ObservedEntry]] = {}
    for entry in entries:
        by_id.setdefault(entry.spiffe_id, []).append(entry)
    for spiffe_id, theirs in sorted(by_id.items()):
        programs = [(one.entry_id, program) for one in theirs for program in one.programs]
        since = min(one.since.ToDatetime(tzinfo=UTC) for one in theirs)
        yield {
            "component": _named(spiffe_id),
            "spiffe_id": spiffe_id,
            "since": moment_to_text(since),
            "issued": [_program(entry_id, one) for entry_id, one in programs if not one.refused_audience],
            "refused": [_program(entry_id, one) for entry_id, one in programs if one.refused_audience],
            "more": sum(one.programs_more for one in theirs),
        }


def _named(spiffe_id: str) -> str:
    """A component by its name; another entry that observes by its path."""
    path = SpiffeID.parse(spiffe_id).path
    return path.removeprefix(f"{_AGENTS}/")


def _program(entry_id: str, program: pb.ObservedProgram) -> JSON:
    return {**document_from_message(program), "entry_id": entry_id}


def _print(components: Sequence[dict[str, JSON]], view: View) -> None:
    if not components:
        click.echo('no component observes: give one, or its agent, mode = "observe"')
        return
    rows = [
        _row(one, program) for one in components for program in [*_programs(one, "issued"), *_programs(one, "refused")]
    ]
    if rows:
        print_table(_COLUMNS, rows, view)
    for one in components:
        if one["more"]:
            click.echo(f"{one['component']}: and {one['more']} more, which were seen earlier")
        if not _programs(one, "issued") and not _programs(one, "refused"):
            click.echo(f"{one['component']}: {_unmatched(str(one['since']))}")


def _unmatched(since: str) -> str:
    """Say that nobody matched a component, or that it is too early to say so."""
    observes = f"it observes since {_to_second(since)}"
    if SystemClock().now() - datetime.fromisoformat(since) < _REPORTED_WITHIN:
        return f"no report yet; {observes}, and nodes report within half a minute"
    return f"nobody matched it; {observes}"


def _programs(component: dict[str, JSON], key: str) -> list[dict[str, JSON]]:
    found = component[key]
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _row(component: dict[str, JSON], program: dict[str, JSON]) -> dict[str, JSON]:
    kinds = [name for key, name in (("x509", "X.509"), ("jwt", "JWT")) if program[key]]
    audience = unmistakable(str(program["refused_audience"]), marks=True)  # a node says what it likes
    return {
        **program,
        "component": component["component"],
        "since": component["since"],
        "would_be": f"refused: {audience}" if audience else f"issued: {', '.join(kinds)}",
        "pid": program["pid"] or f"{program['processes']} processes",
        "executable": path_in_words(str(program["executable"])) or "unknown",
    }


def _to_second(text: str) -> str:
    return f"{text[:19]}Z"
