"""What a plan means to programs that run: the nodes are asked who would gain or lose which identity right now."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from cognomen.cli.admin import Admin
from cognomen.cli.asking import is_unknown
from cognomen.cli.output import counted, warn
from cognomen.cli.plainly import path_in_words
from cognomen.protocol.errors import Refused
from cognomen.protocol.printable import unmistakable
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from svid.encoding import JSON

if TYPE_CHECKING:
    from cognomen.cli.planned import Planned

__all__ = ["ask_option", "print_reach", "reach_document", "reach_of"]

_NOT_ASKED = {
    "silent": "silent",
    "older": "of an earlier release",
    "too_many": "too many changes for one question",
}
_UNSEEN = "a program that has not called its attestor within the last 10 minutes is not known to it"

ask_option = click.option(
    "--ask/--no-ask", default=True, help="Ask the connected nodes who gains or loses an identity (at most 2 s)."
)
"""Whether the nodes are asked."""


def reach_of(admin: Admin, found: "Planned", *, ask: bool) -> pb.AskAttestorsResponse | None:
    """Ask the nodes what a plan would mean to their programs; None: they were not asked.

    Raises:
        Refused: as the issuer refuses.
    """
    if not ask:
        return None
    if not found.has_changes:
        return pb.AskAttestorsResponse()
    request = pb.AskAttestorsRequest(files=found.files, digest=found.plan.digest, let_expire=found.let_expire)
    try:
        return admin.ask_attestors(request)
    except Refused as e:
        if not is_unknown(e):
            raise
        warn("the issuer is of an earlier release: it does not ask the nodes who gains or loses an identity")
        return None


def print_reach(reach: pb.AskAttestorsResponse | None) -> None:
    """Print what the nodes answered; nothing if none of them is concerned."""
    if reach is None or not reach.nodes:
        return
    for node in reach.nodes:
        for program in node.programs:
            click.secho(f"node {_name(node)}: {_in_words(program)}", fg="red" if program.loses else "green")
        if node.programs_more:
            more = counted(node.programs_more, "more program gains or loses", "more programs gain or lose")
            click.echo(f"node {_name(node)}: {more} an identity")
        if node.unknown:
            click.echo(f"node {_name(node)}: {counted(node.unknown, 'program')} could not be looked at")
    answered = sum(node.outcome == "answered" for node in reach.nodes)
    others = "".join(f"; {line}" for line in _others(reach.nodes))
    click.echo(f"{answered} of {counted(len(reach.nodes), 'node')} answered{others}")
    click.echo(_UNSEEN)


def reach_document(reach: pb.AskAttestorsResponse | None) -> dict[str, JSON]:
    """The same, for the JSON of a plan.

    Shape: {"nodes": null} if they were not asked.
    """
    return {"nodes": None if reach is None else [_document(node) for node in reach.nodes]}


def _others(nodes: Sequence[pb.AskedNode]) -> Iterator[str]:
    for outcome, words in _NOT_ASKED.items():
        if names := [_name(node) for node in nodes if node.outcome == outcome]:
            yield f"{words}: {', '.join(names)}"


def _name(node: pb.AskedNode) -> str:
    return unmistakable(node.name) or node.node_id


def _in_words(program: node_pb2.ProgramChange) -> str:
    executable = path_in_words(program.executable) or "unknown program"
    verbs = (("gains", program.gains, program.gains_more), ("loses", program.loses, program.loses_more))
    said = "; ".join(f"{verb} {_listed(ids, more)}" for verb, ids, more in verbs if ids)
    return f"pid {program.pid} (uid {program.uid}, {executable}) {said}"


def _listed(ids: Iterable[str], more: int) -> str:
    paths = [path_in_words("/" + one.removeprefix("spiffe://").partition("/")[2]) for one in ids]
    return ", ".join(paths) + (f" and {more} more" if more else "")


def _document(node: pb.AskedNode) -> JSON:
    programs: list[JSON] = [
        {
            "pid": one.pid,
            "uid": one.uid,
            "executable": one.executable,
            "gains": list(one.gains),
            "loses": list(one.loses),
            "gains_more": one.gains_more,
            "loses_more": one.loses_more,
        }
        for one in node.programs
    ]
    return {
        "id": node.node_id,
        "name": node.name,
        "outcome": node.outcome,
        "programs": programs,
        "programs_more": node.programs_more,
        "unknown": node.unknown,
    }
