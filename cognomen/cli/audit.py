"""`cognomen audit`: show the record of decisions, and write it to files; auditverify verifies it."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Unpack

import click

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.agentnames import credential_document, named_path
from cognomen.cli.auditfile import FILTERED, checkpoint_line, row_line
from cognomen.cli.auditrows import FILTERS, Filters, asked, check_order, event_of, rows_of
from cognomen.cli.auditverify import verify
from cognomen.cli.emptytext import MAY_BE_EMPTY
from cognomen.cli.named import check_holders, check_not_future, warn_of_beginnings
from cognomen.cli.naming import view_of
from cognomen.cli.options import (
    Renamed,
    admin_socket_option,
    every_page_option,
    moment,
    output_option,
    page_size_option,
    page_token_option,
)
from cognomen.cli.output import Columns, Table, json_text, print_json, print_page, warn
from cognomen.cli.uses import print_uses, uses_of
from cognomen.process.standardstreams import LostOutputError
from cognomen.protocol.auditlog import AuditRow
from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.pb import admin_pb2 as pb
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = ["audit"]

_PAGE = 1000
_FOLLOW_SECONDS = 1.0
_COLUMNS = Columns(
    table=("number", "at", "actor", "action", "subject", "refused"),
    wide=(
        *("number", "at", "actor", "login", "action", "decision", "subject", "entry"),
        *("entry_revision", "credential", "reason", "comment", "facts"),
    ),
)
_WHO_COLUMNS = Columns(
    table=("serial", "kind", "spiffe_id", "node_id", "until", "then"),
    wide=(
        *("number", "kind", "spiffe_id", "serial", "then", "node_id", "entry_id", "entry_revision", "authority_id"),
        *("state", "issued_at", "not_after", "ended_at", "revocation", "audiences", "exchanged_until", "rulebook"),
    ),
)


@click.group()
def audit() -> None:
    """Show the record of decisions, and verify that nobody changed it since."""


audit.add_command(verify)


@audit.command()
@click.option(
    "--page-size", "--limit", cls=Renamed, type=click.IntRange(1, 1000), default=20, show_default=True, help="How many."
)
@click.option("--follow", "-f", is_flag=True, help="Keep running, and show each new one until Ctrl-C.")
@output_option
@admin_socket_option
def tail(page_size: int, follow: bool, output: str, socket: Path) -> None:
    """Show the newest decisions; with -o json, one object a line.

    \b
    Example:
      cognomen audit tail --follow --output json \\
        | jq 'select(.decision == "refused")'
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        newest = admin.list_audit(pb.ListAuditRequest(page_size=page_size, newest=True)).rows
        rows = [AuditRow(number=row.number, body=row.body, hash=row.hash) for row in newest]
        view = admin.view(output) if follow else view_of(admin, output, _holders(rows))  # later rows name other nodes
        table = Table(_COLUMNS, replace(view, has_moments=follow))
        _print_rows(rows, output, table)
    if len(rows) < page_size and rows and rows[0].number > 1:
        warn(f"these are {len(rows)} and not {page_size}, because rows are large: cognomen audit list has all")
    if follow:
        request = pb.ListAuditRequest(after=rows[-1].number if rows else 0)
        for row in _rows_from(socket, request, follow=True):
            _print_rows([row], output, table)


@audit.command("list", params=[*FILTERS])
@page_size_option
@every_page_option
@output_option
@admin_socket_option
def list_rows(page_size: int, every_page: bool, output: str, socket: Path, **filters: Unpack[Filters]) -> None:
    """List decisions, oldest first: those that the options name, or all.

    The JSON has each decision with its hash, and its body exactly as it was hashed. To go on
    where a list ended, use --page-token with its next_page_token, the number of its last row;
    next_after is the old name of that key.

    \b
    Examples:
      cognomen audit list --action "entry updated" --since 2026-11-23T08:00:00Z
      cognomen audit list --subject /agent/ --decision refused --all
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        request = asked(admin, filters)
        _check_length(admin, request.after)
        found = rows_of(admin, request)
        rows = list(found if every_page else islice(found, page_size))
        more = next(found, None) is not None
        table = Table(_COLUMNS, view_of(admin, output, _holders(rows)))
    last = rows[-1].number if more else 0
    if output == "json":
        documents = [
            {**event_of(row), "hash": row.hash.hex(), "body": row.body.decode(errors="replace")} for row in rows
        ]
        print_json({"rows": list(documents), "next_page_token": str(last or ""), "next_after": last})
    else:
        _print_rows(rows, output, table)
    if more:
        click.echo(f"there are more: use --page-token {last}, or --all", err=True)


@audit.command(params=[*FILTERS])
@click.option("--follow", "-f", is_flag=True, help="Keep running, and write each new row until Ctrl-C.")
@click.option("--output", "-o", type=click.Choice(["json"]), default="json", help="JSON, which it writes in any case.")
@admin_socket_option
def export(follow: bool, output: str, socket: Path, **filters: Unpack[Filters]) -> None:
    """Write decisions to standard output, one JSON object a line, for a SIEM or an auditor.

    A row is {"number": N, "hash": HEX, "body": TEXT}: the text is exactly what was hashed.
    Without filters, the issuer's checkpoints come first, each as {"checkpoint": TEXT}, so that
    cognomen audit verify --file can check the file anywhere. With filters, the first line says
    so: such rows do not follow each other, and cannot be checked. To go on later, use
    --page-token with the last number: the parts belong together in their order.

    \b
    Examples:
      cognomen audit export > audit.jsonl
      cognomen audit export --page-token 1200 >> audit.jsonl
    """  # noqa: D301 - \b is click's mark
    del output  # other commands take it, and so may a script for all of them
    with connect(socket) as admin:
        request = asked(admin, filters)
        first = [FILTERED]
        if request == pb.ListAuditRequest(after=request.after):
            made = admin.list_checkpoints(pb.ListCheckpointsRequest(page_size=_PAGE)).checkpoints
            first = [checkpoint_line(text) for text in made]
    last = request.after
    try:
        for line in first:
            click.echo(line)
        for row in _rows_from(socket, request, follow=follow):
            click.echo(row_line(row))
            last = row.number
    except LostOutputError as e:
        if e.is_hangup:
            raise
        hint = f"the last line may be incomplete: remove it, and go on with the same command and --page-token {last}"
        raise Refused(Kind.INTERNAL, str(e), hint=hint) from e


@audit.command()
@click.option("--spiffe-id", help="The SPIFFE ID; /PATH is one in the trust domain.")
@click.option("--below", help="This SPIFFE ID, and every one below it; /PATH as above.")
@click.option("--agent", metavar="NAME", help="Every component of this agent of the rulebook.")
@click.option(
    "--owner", type=MAY_BE_EMPTY, help="Only what was signed for entries that have this owner now; empty: none."
)
@click.option("--at", "held_at", type=moment, metavar="TIME", help="The moment, such as 2026-11-23T08:00:00Z, or now.")
@click.option("--since", type=moment, metavar="TIME", help="Instead of --at: at any time from that moment on.")
@click.option("--until", type=moment, metavar="TIME", help="With --since: before that moment.  [default: now]")
@page_size_option
@page_token_option
@every_page_option
@output_option
@admin_socket_option
def who(
    spiffe_id: str | None,
    below: str | None,
    agent: str | None,
    owner: str | None,
    held_at: datetime | None,
    since: datetime | None,
    until: datetime | None,
    page_size: int,
    page_token: str,
    every_page: bool,
    output: str,
    socket: Path,
) -> None:
    """Show who held an identity at a moment or in a time, and which programs used it.

    First every credential whose lifetime includes the moment, or a part of the time. The
    column `then` says whether it was valid, already revoked (by a revocation, or because its
    authority had left the bundle), or, within a time, revoked meanwhile. The column `until`
    says when it was revoked, or else when it expires: in JSON, ended_at and not_after.

    Then the processes that nodes gave SVIDs of the same entries while those credentials
    lived, as their attestors reported it. A process keeps an SVID until it ends.

    \b
    Examples:
      cognomen audit who --spiffe-id /agent/concierge/reasoning \\
        --at 2026-11-23T08:00:00Z
      cognomen audit who --agent concierge --since 2026-11-23T08:00:00Z
    """  # noqa: D301 - \b is click's mark
    named, is_below = named_path(spiffe_id=spiffe_id, below=below, agent=agent)
    if not (named or owner is not None):
        raise click.UsageError("expected one of --spiffe-id, --below and --agent, or --owner")
    if (held_at is None) == (since is None) or (until is not None and since is None):
        raise click.UsageError("expected either --at, or --since, with --until if it ended before now")
    check_order(since, until)
    check_not_future(at=held_at, since=since)
    request = pb.ListCredentialsRequest(page_size=page_size, page_token=page_token, below=is_below, owner=owner)
    end = held_at or until or SystemClock().now()
    if held_at is not None:
        request.held_at.FromDatetime(held_at)
    if since is not None:
        request.held_since.FromDatetime(since)
        request.held_until.FromDatetime(end)
    with connect(socket) as admin:
        request.spiffe_id = str(admin.complete_id(named)) if named else ""
        view = admin.view(output)
        found = list(pages(admin.list_credentials, request, every=every_page))
        held = [one for page in found for one in page.credentials]
        if not (held or page_token):
            check_holders(admin, request)
            warn_of_beginnings(admin, held_at or since or end)
        uses = uses_of(admin, held, until=end)
    credentials = [_as_of(one, held_at or since or end, end) for one in held]
    if output != "json":
        credentials = [
            {**one, "revocation": one["revocation"] or None, "until": one["ended_at"] or one["not_after"]}
            for one in credentials
        ]
    print_page("credentials", _WHO_COLUMNS, credentials, found[-1].next_page_token, view, **uses.as_json())
    if output != "json":
        print_uses(uses, view)


def _holders(rows: Iterable[AuditRow]) -> Iterator[str]:
    """The SPIFFE IDs in rows that can be those of nodes."""
    for event in map(event_of, rows):
        yield from (str(event.get(key)) for key in ("actor", "subject"))


def _rows_from(socket: Path, request: pb.ListAuditRequest, *, follow: bool) -> Iterator[AuditRow]:
    """The rows that a request names and, if they are followed, each new one, also after the issuer was away.

    Raises:
        Refused: CONFLICT if the record is shorter than what was read before.
    """
    is_away = False
    while True:
        try:
            with connect(socket) as admin:
                _check_length(admin, request.after)
                while True:
                    for row in rows_of(admin, request):
                        yield row
                        request.after = row.number
                    if not follow:
                        return
                    is_away = False
                    time.sleep(_FOLLOW_SECONDS)
        except Refused as e:
            if not follow or e.kind is not Kind.UNAVAILABLE:
                raise
            if not is_away:
                warn(f"{e.detail}; waiting for it")
            is_away = True
            time.sleep(_FOLLOW_SECONDS)


def _check_length(admin: Admin, after: int) -> None:
    last = sum(row.number for row in admin.list_audit(pb.ListAuditRequest(page_size=1, newest=True)).rows)
    if last < after:
        raise Refused(
            Kind.CONFLICT,
            f"after: expected at most {last}, which is the last row, found {after}",
            hint="if row numbers were right before, the record was cut off, or goes on from a backup: cognomen audit verify",
        )


def _as_of(one: pb.Credential, since: datetime, until: datetime) -> dict[str, JSON]:
    """A credential's document, with what it was in that time."""
    ended_at = one.ended_at.ToDatetime(tzinfo=UTC) if one.HasField("ended_at") else None
    then = "valid"
    if ended_at is not None and ended_at <= until:
        then = "revoked" if ended_at <= since else "revoked meanwhile"
    return {**credential_document(one), "then": then}


def _print_rows(rows: Iterable[AuditRow], output: str, table: Table) -> None:
    documents = [event_of(row) for row in rows]
    if output == "json":
        for document in documents:
            click.echo(json_text(document))
    else:
        table.print([_shown(one) for one in documents])


def _shown(event: dict[str, JSON]) -> dict[str, JSON]:
    """The same event, with what a column of its own shows."""
    facts = event.get("facts")
    return {
        **event,
        "refused": event.get("reason") if event.get("decision") == "refused" else None,
        "entry": facts.get("entry") if isinstance(facts, dict) else None,
    }
