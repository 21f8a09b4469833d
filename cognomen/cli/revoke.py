"""`cognomen revoke`: end credentials before their time, block who must get no more, and see who enforces it."""

from datetime import datetime, timedelta
from pathlib import Path

import click

from cognomen.cli.admin import connect, pages
from cognomen.cli.options import (
    admin_socket_option,
    comment_option,
    duration,
    every_page_option,
    moment,
    output_option,
    page_size_option,
    page_token_option,
    reason_option,
    selector,
)
from cognomen.cli.output import print_document, print_json, print_page
from cognomen.cli.serials import serial_from_text
from cognomen.daemon.errors import Kind, Refused
from cognomen.wire.admin import document_from_message
from cognomen.wire.node import selector_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON
from svid.selector import Selector

__all__ = ["revoke"]

_FALLEN = ("kind", "spiffe_id", "node_id", "count", "ends_at", "audiences")
_COLUMNS = ("number", "at", "kind", "what", "reason", "denied", "blocks", "actor", "comment")
_CALL_SECONDS = 300.0
_LONGEST = timedelta(days=1)


@click.group()
def revoke() -> None:
    """End credentials before their time: SVIDs, entries, SPIFFE IDs, nodes.

    What ends is refused by every verifier that is connected within a quarter of a second;
    by others once they have read the CRL, and in any case at its own end.
    """


_OPTIONS = (
    reason_option,
    comment_option,
    click.option("--dry-run", is_flag=True, help="Only show what would end."),
    click.option(
        "--wait",
        type=duration,
        is_flag=False,
        flag_value="10s",
        metavar="[DURATION]",
        help="Return when every enforcement point that is connected enforces it; exit code 3 when some do not in time.  [10s]",
    ),
    output_option,
    admin_socket_option,
)


@revoke.command()
@click.argument("serials", metavar="SERIAL|JTI...", nargs=-1, required=True)
def svid(
    serials: tuple[str, ...],
    reason: str,
    comment: str,
    dry_run: bool,
    wait: timedelta | None,
    output: str,
    socket: Path,
) -> None:
    """End these SVIDs; whoever still matches their entry gets another at once, for a fresh key.

    All processes that match one entry on one node share one X509-SVID, so it ends for all
    of them. `cognomen svid list` shows serials and jtis.

    \b
    Example:
      cognomen revoke svid 81a21c36058f7f927323df0b8e9fb56d --reason keyCompromise --wait
    """  # noqa: D301 - \b is click's mark
    target = pb.RevocationTarget(kind="svid", serials=map(serial_from_text, serials))
    _revoke(target, reason, comment, dry_run, wait, output, socket)


@revoke.command("issued-before")
@click.argument("before", metavar="TIME", type=moment)
@click.option(
    "--entry", "entry_ids", multiple=True, metavar="ID", help="Only what was signed for this entry; repeatable."
)
@click.option("--node", "node_ids", multiple=True, metavar="ID", help="Only what was signed for this node; repeatable.")
@click.option("--spiffe-id", default="", help="Only what has this SPIFFE ID; /PATH is one of the trust domain.")
def issued_before(
    before: datetime,
    entry_ids: tuple[str, ...],
    node_ids: tuple[str, ...],
    spiffe_id: str,
    reason: str,
    comment: str,
    dry_run: bool,
    wait: timedelta | None,
    output: str,
    socket: Path,
) -> None:
    """End every SVID that was signed until then; whoever still matches gets another at once.

    \b
    Example:
      cognomen revoke issued-before 2026-11-23T08:00:00Z --dry-run
    """  # noqa: D301 - \b is click's mark
    target = pb.RevocationTarget(kind="issued-before", entry_ids=entry_ids, node_ids=node_ids, spiffe_id=spiffe_id)
    target.before.FromDatetime(before)
    _revoke(target, reason, comment, dry_run, wait, output, socket)


@revoke.command()
@click.argument("entry_ids", metavar="ID...", nargs=-1, required=True)
def entry(
    entry_ids: tuple[str, ...],
    reason: str,
    comment: str,
    dry_run: bool,
    wait: timedelta | None,
    output: str,
    socket: Path,
) -> None:
    """End all that was signed for these entries, and sign nothing more for them until `revoke lift`.

    \b
    Example:
      cognomen revoke entry ID --comment "task ended" --wait
    """  # noqa: D301 - \b is click's mark
    target = pb.RevocationTarget(kind="entry", entry_ids=entry_ids)
    _revoke(target, reason, comment, dry_run, wait, output, socket)


@revoke.command("spiffe-id")
@click.argument("spiffe_id", metavar="ID|/PATH")
@click.option("--below", is_flag=True, help="Every SPIFFE ID below it, too.")
def spiffe_id(
    spiffe_id: str,
    below: bool,
    reason: str,
    comment: str,
    dry_run: bool,
    wait: timedelta | None,
    output: str,
    socket: Path,
) -> None:
    """End every SVID of a SPIFFE ID, and sign nothing more for it until `revoke lift`.

    It holds for entries that come later, too.

    \b
    Example:
      cognomen revoke spiffe-id /agent/concierge --below --reason privilegeWithdrawn
    """  # noqa: D301 - \b is click's mark
    target = pb.RevocationTarget(kind="spiffe-id", spiffe_id=spiffe_id, below=below)
    _revoke(target, reason, comment, dry_run, wait, output, socket)


@revoke.command("selector")
@click.argument("named", metavar="TYPE:VALUE", type=selector)
def by_selector(
    named: Selector,
    reason: str,
    comment: str,
    dry_run: bool,
    wait: timedelta | None,
    output: str,
    socket: Path,
) -> None:
    """End all that was signed for entries or nodes with a selector; nothing more until `revoke lift`.

    \b
    Example:
      cognomen revoke selector unix:path:/opt/agents/browser
    """  # noqa: D301 - \b is click's mark
    target = pb.RevocationTarget(kind="selector", selector=selector_to_pb(named))
    _revoke(target, reason, comment, dry_run, wait, output, socket)


@revoke.command()
@click.argument("node_ids", metavar="ID...", nargs=-1, required=True)
def node(
    node_ids: tuple[str, ...],
    reason: str,
    comment: str,
    dry_run: bool,
    wait: timedelta | None,
    output: str,
    socket: Path,
) -> None:
    """Ban nodes, and end their SVIDs and all that was signed for their workloads.

    Their feeds and calls end at once, and no invite lets them in again.

    \b
    Example:
      cognomen revoke node ID --reason keyCompromise --comment "stolen disk"
    """  # noqa: D301 - \b is click's mark
    target = pb.RevocationTarget(kind="node", node_ids=node_ids)
    _revoke(target, reason, comment, dry_run, wait, output, socket)


@revoke.command("list")
@page_size_option
@page_token_option
@every_page_option
@output_option
@admin_socket_option
def list_revocations(page_size: int, page_token: str, every_page: bool, output: str, socket: Path) -> None:
    """List revocations, newest first; blocks says which of them still keep somebody from getting SVIDs.

    \b
    Example:
      cognomen revoke list --output json | jq '.revocations[] | select(.blocks) | .number'
    """  # noqa: D301 - \b is click's mark
    request = pb.ListRevocationsRequest(page_size=page_size, page_token=page_token)
    with connect(socket) as admin:
        found = list(pages(admin.list_revocations, request, every=every_page))
    revocations = [document_from_message(one) for page in found for one in page.revocations]
    if output != "json":
        revocations = [_flat(one) for one in revocations]
    print_page("revocations", _COLUMNS, revocations, found[-1].next_page_token, output)


@revoke.command()
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@output_option
@admin_socket_option
def show(number: int, output: str, socket: Path) -> None:
    """Show one revocation, who of those that are connected enforces it, and until when what it ended can live.

    \b
    Example:
      cognomen revoke show 7
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        _print_status(admin.get_revocation(number), output)


@revoke.command()
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@output_option
@admin_socket_option
def lift(number: int, output: str, socket: Path) -> None:
    """End the block of a revocation of an entry, a SPIFFE ID or a selector.

    Whoever matches gets new SVIDs; what was ended stays ended.

    \b
    Example:
      cognomen revoke lift 7
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        _print_status(admin.lift_revocation(number), output)


for _command in (svid, issued_before, entry, spiffe_id, by_selector, node):
    for _option in _OPTIONS:
        _option(_command)


def _revoke(
    target: pb.RevocationTarget,
    reason: str,
    comment: str,
    dry_run: bool,
    wait: timedelta | None,
    output: str,
    socket: Path,
) -> None:
    if dry_run and wait is not None:
        raise click.UsageError("expected --dry-run or --wait, found both")
    if wait is not None and wait > _LONGEST:  # before anything ends
        raise click.UsageError(f"expected a --wait of at most a day, found {wait}")
    with connect(socket, seconds=_CALL_SECONDS + (wait or timedelta()).total_seconds()) as admin:
        if target.spiffe_id:
            target.spiffe_id = str(admin.complete_id(target.spiffe_id))
        request = pb.RevokeRequest(target=target, reason=reason, comment=comment, dry_run=dry_run)
        done = admin.revoke(request)
        status = admin.await_revocation(done.revocation.number, wait) if wait is not None else None
    if output == "json":
        document: dict[str, JSON] = document_from_message(done)
        if status is not None:
            document["enforcement"] = _enforcement(status)
        print_json(document)
    else:
        print_page("fallen", _FALLEN, [document_from_message(one) for one in done.fallen], "", output)
        click.echo(_said(done, dry_run=dry_run), err=True)
        if status is not None:
            _tell(status)
    if status is not None and not _is_everywhere(status):
        raise Refused(
            Kind.UNAVAILABLE,
            f"wait: expected revocation {done.revocation.number} enforced everywhere, found"
            f" {status.enforcing} of {status.attestors} attestors,"
            f" {status.points_enforcing} of {status.points} enforcement points",
            hint=f"see how it goes on: cognomen revoke show {done.revocation.number}",
        )


def _said(done: pb.RevokeResponse, *, dry_run: bool) -> str:
    count, blocks = done.revocation.denied, done.revocation.blocks
    what = f"{count} credential{'' if count == 1 else 's'}"
    block = ", and nothing more is signed until it is lifted" if blocks else ""
    if dry_run:
        return f"dry run: {what} would end{block}"
    return f"revocation {done.revocation.number}: {what} ended{block}{_said_of_over(done.revocation.over)}"


def _said_of_over(count: int) -> str:
    if not count:
        return ""
    are = "that had ended by itself is" if count == 1 else "that had ended by themselves are"
    return f"; {count} {are} denied as well, for connections that are still open and for clocks that lag"


def _print_status(status: pb.RevocationStatus, output: str) -> None:
    document, enforcement = document_from_message(status.revocation), _enforcement(status)
    if output == "json":
        print_json({"revocation": document, "enforcement": enforcement})
        return
    lines: dict[str, JSON] = {
        "attestors": f"{status.enforcing} of {status.attestors} enforce it",
        "points": f"{status.points_enforcing} of {status.points} enforcement points enforce it",
        "away": f"{status.away} nodes, which hear of it when they return" if status.away else "",
        "ends_at": enforcement["ends_at"],
    }
    print_document({**_flat(document), **lines})
    _tell_silent(status)


def _tell(status: pb.RevocationStatus) -> None:
    """What came of waiting."""
    who = (
        f"{status.enforcing} of {status.attestors} attestors"
        f" and {status.points_enforcing} of {status.points} enforcement points enforce it"
    )
    is_over = _is_everywhere(status)
    last = f"; among the last: {_name(status.slowest)}" if is_over and status.HasField("slowest") else ""
    click.echo(f"{who}, {status.after_milliseconds} ms after the revocation{last}", err=True)
    _tell_silent(status)
    if status.away:
        click.echo(f"nodes that are away and hear of it when they return: {status.away}", err=True)
    if status.HasField("ends_at") and (status.away or not is_over):
        until = _enforcement(status)["ends_at"]
        click.echo(f"what it ended can live there until {until}, open connections a day longer", err=True)


def _tell_silent(status: pb.RevocationStatus) -> None:
    for one in status.silent:
        click.echo(f"does not enforce it: {_name(one)}", err=True)


def _name(one: pb.Silent) -> str:
    if not one.point:
        return f"attestor of node {one.node_id}"
    return f"{one.point} of pid {one.pid}, uid {one.uid}, on node {one.node_id}"


def _is_everywhere(status: pb.RevocationStatus) -> bool:
    return (status.enforcing, status.points_enforcing) == (status.attestors, status.points)


def _enforcement(status: pb.RevocationStatus) -> dict[str, JSON]:
    return {key: value for key, value in document_from_message(status).items() if key != "revocation"}


def _flat(document: dict[str, JSON]) -> dict[str, JSON]:
    """The document with what it names as one text."""
    target = document["target"]
    assert isinstance(target, dict)  # noqa: S101 - narrows what the protocol says
    kind = target.pop("kind")
    named = ", ".join(
        str(value[0]) + (f" and {len(value) - 1} more" if len(value) > 1 else "")
        if isinstance(value, list)
        else f"{key}"
        if value is True
        else str(value)
        for key, value in target.items()
        if value
    )
    return {**{key: value for key, value in document.items() if key != "target"}, "kind": kind, "what": named}
