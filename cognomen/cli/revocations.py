"""What `cognomen revoke` prints about revocations and their enforcement, and the commands that list, show and lift them."""

from datetime import UTC
from pathlib import Path

import click

from cognomen.cli.admin import connect, pages
from cognomen.cli.cells import with_relative
from cognomen.cli.options import (
    admin_socket_option,
    comment_option,
    every_page_option,
    output_option,
    page_size_option,
    page_token_option,
)
from cognomen.cli.output import Columns, View, print_document, print_json, print_page, print_table, same_columns, warn
from cognomen.protocol.printable import printable
from cognomen.wire.admin import document_from_message, moment_to_text
from cognomen.wire.pb import admin_pb2 as pb
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = [
    "enforcement_of",
    "is_everywhere",
    "lift",
    "list_revocations",
    "print_fallen",
    "said_of",
    "show",
    "tell_enforcement",
]

_COLUMNS = Columns(
    table=("number", "at", "kind", "what", "blocks"),
    wide=(
        *("number", "at", "kind", "what", "reason", "denied", "over", "compromised", "blocks"),
        *("lifted_at", "lifted_by", "change", "actor", "comment"),
    ),
)
_FALLEN = same_columns("kind", "spiffe_id", "node_id", "count", "ends_at", "audiences")


def print_fallen(done: pb.RevokeResponse, view: View) -> None:
    """Print the table of what was revoked, or would be."""
    print_table(_FALLEN, [document_from_message(one) for one in done.fallen], view)
    if done.exchanged:
        last = max(one.until.ToDatetime(tzinfo=UTC) for one in done.exchanged)
        whom = ", ".join(one.audience for one in done.exchanged)
        warn(f"tokens that were exchanged live until at most {moment_to_text(last)}, at {whom}: end them there")
    if done.more:
        click.echo(f"and {done.more} more like these", err=True)


def said_of(done: pb.RevokeResponse, *, dry_run: bool) -> str:
    """The outcome of a command, in one line."""
    revocation = done.revocation
    what = f"{revocation.denied} {'credential' if revocation.denied == 1 else 'credentials'}"
    if dry_run:
        return f"dry run: {what} would end{_said_of_block(revocation, dry_run=True)}"
    beside = f"{_said_of_over(revocation.over)}{_said_of_compromised(revocation.compromised)}"
    return f"revocation {revocation.number}: {what} ended{_said_of_block(revocation)}{beside}"


def _said_of_block(revocation: pb.Revocation, *, dry_run: bool = False) -> str:
    if revocation.target.kind == "node":
        count = len(revocation.target.node_ids)
        nodes = "the node" if count == 1 else f"the {count} nodes"
        return f", and {nodes} {'would be' if dry_run else 'is' if count == 1 else 'are'} banned"
    verb = "would be" if dry_run else "is"
    return f", and nothing more {verb} signed until it is lifted" if revocation.blocks else ""


def tell_enforcement(status: pb.RevocationStatus) -> None:
    """Report the outcome of waiting on standard error."""
    who = (
        f"{status.enforcing} of {status.attestors} attestors"
        f" and {status.points_enforcing} of {status.points} enforcement points enforce it"
    )
    is_over = is_everywhere(status)
    last = f"; among the last: {_name(status.slowest)}" if is_over and status.HasField("slowest") else ""
    click.echo(f"{who}, {status.after_milliseconds} ms after the revocation{last}", err=True)
    _tell_silent(status)
    if status.away:
        click.echo(f"nodes that are away, and will learn of it when they return: {status.away}", err=True)
    if status.HasField("ends_at") and not is_over:
        until = with_relative(enforcement_of(status)["ends_at"], SystemClock().now())
        click.echo(f"what it revoked can be used there until {until}, open connections a day longer", err=True)


def is_everywhere(status: pb.RevocationStatus) -> bool:
    """Whether everybody enforces it, and no node is away that could accept what it revoked."""
    all_connected = (status.enforcing, status.points_enforcing) == (status.attestors, status.points)
    return all_connected and not status.away


def enforcement_of(status: pb.RevocationStatus) -> dict[str, JSON]:
    """The document of who enforces it, without the revocation itself."""
    return {key: value for key, value in document_from_message(status).items() if key != "revocation"}


@click.command("list")
@page_size_option
@page_token_option
@every_page_option
@output_option
@admin_socket_option
def list_revocations(page_size: int, page_token: str, every_page: bool, output: str, socket: Path) -> None:
    """List revocations, newest first.

    The column `blocks` says which of them still block new SVIDs.

    \b
    Example:
      cognomen revoke list --output json \\
        | jq '.revocations[] | select(.blocks) | .number'
    """  # noqa: D301 - \b is click's mark
    request = pb.ListRevocationsRequest(page_size=page_size, page_token=page_token)
    with connect(socket) as admin:
        found = list(pages(admin.list_revocations, request, every=every_page))
        view = admin.view(output)
    revocations = [document_from_message(one) for page in found for one in page.revocations]
    if output != "json":
        revocations = [_flat(one) for one in revocations]
    print_page("revocations", _COLUMNS, revocations, found[-1].next_page_token, view)


@click.command()
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@output_option
@admin_socket_option
def show(number: int, output: str, socket: Path) -> None:
    """Show one revocation, and who enforces it.

    It counts the connected attestors and enforcement points that enforce it, and says until
    when what it revoked can be used elsewhere.

    \b
    Example:
      cognomen revoke show 7
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        _print_status(admin.get_revocation(pb.GetRevocationRequest(number=number)), output)


@click.command()
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@comment_option
@output_option
@admin_socket_option
def lift(number: int, comment: str, output: str, socket: Path) -> None:
    """End the block of a revocation of an entry, a SPIFFE ID or a selector.

    Workloads that match get new SVIDs again; what was revoked stays revoked.

    \b
    Example:
      cognomen revoke lift 7
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        _print_status(admin.lift_revocation(pb.GetRevocationRequest(number=number, comment=comment)), output)


def _print_status(status: pb.RevocationStatus, output: str) -> None:
    document, enforcement = document_from_message(status.revocation), enforcement_of(status)
    if output == "json":
        print_json({"revocation": document, "enforcement": enforcement})
        return
    lines: dict[str, JSON] = {
        "attestors": f"{status.enforcing} of {status.attestors} enforce it",
        "points": f"{status.points_enforcing} of {status.points} enforcement points enforce it",
        "away": f"{status.away} nodes, which will learn of it when they return" if status.away else "",
        "ends_at": enforcement["ends_at"],
    }
    print_document({**_flat(document), **lines})
    _tell_silent(status)


def _flat(document: dict[str, JSON]) -> dict[str, JSON]:
    """A revocation's document, with its target as one text."""
    target = document["target"]
    assert isinstance(target, dict)  # noqa: S101 - narrows the type, as the protocol says
    kind = target.pop("kind")
    named = ", ".join(_named(key, value) for key, value in target.items() if value)
    return {**{key: value for key, value in document.items() if key != "target"}, "kind": kind, "what": named}


def _named(key: str, value: JSON) -> str:
    match value:
        case list():
            return str(value[0]) + (f" and {len(value) - 1} more" if len(value) > 1 else "")
        case True:
            return key
        case _:
            return str(value)


def _said_of_over(count: int) -> str:
    if not count:
        return ""
    are = "that had expired is" if count == 1 else "that had expired are"
    return f"; {count} {are} also denied, for connections that are still open and for slow clocks"


def _said_of_compromised(count: int) -> str:
    if not count:
        return ""
    are = "that had ended before counts" if count == 1 else "that had ended before count"
    return f"; {count} {are} as compromised from now on"


def _tell_silent(status: pb.RevocationStatus) -> None:
    for one in status.silent:
        click.echo(f"does not enforce it: {_name(one)}", err=True)
    if status.silent_more:
        click.echo(f"and {status.silent_more} more that do not enforce it", err=True)


def _name(one: pb.Silent) -> str:
    if not one.point:
        return f"attestor of node {one.node_id}"
    return f"{printable(one.point)} of pid {one.pid}, uid {one.uid}, on node {one.node_id}"
