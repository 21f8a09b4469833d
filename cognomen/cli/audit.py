"""`cognomen audit`: the record of decisions, and whether it is whole."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.options import (
    admin_socket_option,
    every_page_option,
    moment,
    output_option,
    page_size_option,
    page_token_option,
    read_source,
)
from cognomen.cli.output import print_json, print_page, print_table
from cognomen.daemon.auditlog import AuditRow, ChainCheck, Checkpoint
from cognomen.daemon.errors import Kind, Refused
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON

__all__ = ["audit"]

_PAGE = 1000
_FOLLOW_SECONDS = 1.0
_COLUMNS = ("number", "at", "actor", "action", "decision", "subject", "reason")
_WHO_COLUMNS = ("kind", "serial", "node_id", "entry_id", "entry_revision", "issued_at", "not_after", "audiences")


@click.group()
def audit() -> None:
    """The record of decisions: who did what, and whether nobody changed it since."""


@audit.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many of the newest.")
@click.option("--follow", "-f", is_flag=True, help="Stay, and show each new one until Ctrl-C.")
@output_option
@admin_socket_option
def tail(limit: int, follow: bool, output: str, socket: Path) -> None:
    """Show the newest decisions; JSON is one object on a line each.

    \b
    Example:
      cognomen audit tail --follow --output json | jq 'select(.decision == "refused")'
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        rows = list(admin.list_audit(pb.ListAuditRequest(page_size=limit, newest=True)).rows)
        _print_rows(rows, output)
        after = rows[-1].number if rows else 0
        while follow:
            time.sleep(_FOLLOW_SECONDS)
            for row in _rows(admin, after=after):
                after = row.number
                _print_rows([row], output)


@audit.command()
@click.option(
    "--checkpoint",
    "files",
    type=click.Path(path_type=Path, allow_dash=True),
    multiple=True,
    metavar="FILE|-",
    help="Checkpoints, a line each; repeatable.  [default: the issuer's own]",
)
@click.option("--key", metavar="SHA256", help="The checkpoint key's thumbprint, if you noted it.")
@output_option
@admin_socket_option
def verify(files: tuple[Path, ...], key: str | None, output: str, socket: Path) -> None:
    """Check that the record is whole: no row edited, deleted or cut off before a checkpoint.

    Take the checkpoints from where the issuer's machine cannot change them: an attestor's
    checkpoints.jsonl in its state directory, a file of audit_checkpoint_file, the log
    server. Exit code 1 when something was changed.

    \b
    Examples:
      cognomen audit verify
      ssh node cat /var/lib/cognomen/attestor/checkpoints.jsonl | cognomen audit verify --checkpoint -
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        texts = [line for file in files for line in read_source(str(file)).encode().splitlines() if line.strip()]
        checkpoints = [_checkpoint(text, key) for text in (texts if files else admin.list_checkpoints().checkpoints)]
        keys = {one.key_thumbprint for one in checkpoints}
        if len(keys) > 1:
            raise _changed(f"checkpoints: expected one key, found {len(keys)}: {', '.join(sorted(keys))}")
        check = ChainCheck(checkpoints)
        try:
            for page in _pages_of_rows(admin):
                check.read(page)
            shown = [(one, check.compare(one)) for one in checkpoints]
        except ValueError as e:
            raise _changed(str(e)) from e
    _print_verified(check, shown, "".join(keys), output, own=not files)


@audit.command()
@click.option("--spiffe-id", required=True, help="Whose; /PATH is one of the trust domain.")
@click.option("--at", "held_at", type=moment, required=True, metavar="TIME", help="Such as 2026-11-23T08:00:00Z.")
@page_size_option
@page_token_option
@every_page_option
@output_option
@admin_socket_option
def who(
    spiffe_id: str,
    held_at: datetime,
    page_size: int,
    page_token: str,
    every_page: bool,
    output: str,
    socket: Path,
) -> None:
    """Show who held an identity at a moment: every credential that was valid then.

    \b
    Example:
      cognomen audit who --spiffe-id /agent/concierge/reasoning --at 2026-11-23T08:00:00Z
    """  # noqa: D301 - \b is click's mark
    request = pb.ListCredentialsRequest(page_size=page_size, page_token=page_token)
    request.held_at.FromDatetime(held_at)
    with connect(socket) as admin:
        request.spiffe_id = str(admin.complete_id(spiffe_id))
        found = list(pages(admin.list_credentials, request, every=every_page))
    credentials = [document_from_message(one) for page in found for one in page.credentials]
    print_page("credentials", _WHO_COLUMNS, credentials, found[-1].next_page_token, output)


def _rows(admin: Admin, *, after: int) -> Iterator[pb.AuditRow]:
    while page := admin.list_audit(pb.ListAuditRequest(after=after, page_size=_PAGE)).rows:
        yield from page
        after = page[-1].number


def _pages_of_rows(admin: Admin) -> Iterator[list[AuditRow]]:
    for row in _rows(admin, after=0):
        yield [AuditRow(number=row.number, body=row.body, hash=row.hash)]


def _checkpoint(text: bytes, key: str | None) -> Checkpoint:
    try:
        checkpoint = Checkpoint.parse(text)
        checkpoint.check_signature()
    except ValueError as e:
        raise _changed(str(e)) from e
    if key is not None and checkpoint.key_thumbprint != key.lower():
        raise _changed(f"checkpoint: expected the key {key.lower()}, found {checkpoint.key_thumbprint}")
    return checkpoint


def _changed(what: str) -> Refused:
    return Refused(
        Kind.CONFLICT, what, hint="the record is not what it was: keep the machine as it is, and look into it"
    )


def _print_rows(rows: list[pb.AuditRow], output: str) -> None:
    documents: list[dict[str, JSON]] = [{"number": row.number, **json.loads(row.body)} for row in rows]
    if output == "json":
        for document in documents:
            click.echo(json.dumps(document, ensure_ascii=False))
    elif documents:
        print_table(_COLUMNS, [[document[key] for key in _COLUMNS] for document in documents])


def _print_verified(
    check: ChainCheck, shown: list[tuple[Checkpoint, str]], key: str, output: str, *, own: bool
) -> None:
    last = max((one.count for one, _ in shown), default=0)
    limits = [
        f"rows {last + 1} to {check.count} came after the last checkpoint: cutting them off would not show",
        "that every decision was written down",
        "anything against somebody who had the issuer's checkpoint key before a checkpoint left that machine",
    ][0 if check.count > last else 1 :]
    if own:
        limits.append("anything against the issuer's machine itself: these checkpoints are its own")
    checkpoints: list[dict[str, JSON]] = [
        {"at": one.at.astimezone(UTC).isoformat(), "count": one.count, "shows": text} for one, text in shown
    ]
    if output == "json":
        print_json({"rows": check.count, "key": key, "checkpoints": list(checkpoints), "not_proved": list(limits)})
        return
    click.echo(f"{check.count} rows, each follows from the one before it")
    for one in checkpoints:
        click.echo(f"checkpoint of {one['at']}: {one['shows']}")
    if key:
        click.echo(f"checkpoint key: {key}")
    click.echo("not proved:")
    for limit in limits:
        click.echo(f"  {limit}")
