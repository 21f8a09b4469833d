"""`cognomen audit`: the record of decisions, and whether it is whole."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.options import (
    GivenPath,
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
from svid.keys import thumbprint

__all__ = ["audit"]

_PAGE = 1000
_FOLLOW_SECONDS = 1.0
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_COLUMNS = ("number", "at", "actor", "action", "decision", "subject", "reason")
_WHO_COLUMNS = (
    *("kind", "serial", "then", "node_id", "entry_id", "entry_revision"),
    *("issued_at", "not_after", "ended_at", "revocation", "audiences"),
)


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
        _print_rows(rows, output, header=True)
        while follow:
            after = rows[-1].number if rows else 0
            time.sleep(_FOLLOW_SECONDS)
            rows = list(_rows(admin, after=after)) or rows[-1:]
            _print_rows([row for row in rows if row.number > after], output, header=False)


@audit.command()
@click.option(
    "--checkpoint",
    "files",
    type=GivenPath(allow_dash=True),
    multiple=True,
    metavar="FILE|-",
    help="Checkpoints, a line each; repeatable.  [default: the issuer's own]",
)
@click.option(
    "--key", metavar="SHA256|FILE", help="The checkpoint key, if you noted it: its thumbprint, or itself in PEM or DER."
)
@click.option(
    "--accept-restore",
    "accepted",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="ROW",
    help="A restored backup that you know of, by its row; repeatable.",
)
@output_option
@admin_socket_option
def verify(files: tuple[Path, ...], key: str | None, accepted: tuple[int, ...], output: str, socket: Path) -> None:
    """Check that the record is whole: no row edited, deleted or cut off before a checkpoint.

    Take the checkpoints from where the issuer's machine cannot change them: an attestor's
    checkpoints.jsonl in its state directory, a file of audit_checkpoint_file, the log
    server. Exit code 1 when something was changed, and when a restored backup lacked rows
    that a checkpoint covers: whoever can write the store can also claim a restore.

    \b
    Examples:
      cognomen audit verify
      ssh node cat /var/lib/cognomen/attestor/checkpoints.jsonl | cognomen audit verify --checkpoint -
    """  # noqa: D301 - \b is click's mark
    pinned = None if key is None else _thumbprint(key)
    with connect(socket) as admin:
        texts = [text for file in files for text in _lines(file)] if files else admin.list_checkpoints().checkpoints
        trust_domain = admin.get_bundle().trust_domain
        checkpoints = [_checkpoint(text, pinned, trust_domain) for text in texts]
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
        _check_restores(check, shown, accepted)
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
    """Show who held an identity at a moment: every credential whose time it was then.

    then says whether it was valid, or revoked already: by a revocation, or because its
    authority had left the bundle. ended_at says when that was, before then or after.

    \b
    Example:
      cognomen audit who --spiffe-id /agent/concierge/reasoning --at 2026-11-23T08:00:00Z
    """  # noqa: D301 - \b is click's mark
    request = pb.ListCredentialsRequest(page_size=page_size, page_token=page_token)
    request.held_at.FromDatetime(held_at)
    with connect(socket) as admin:
        request.spiffe_id = str(admin.complete_id(spiffe_id))
        found = list(pages(admin.list_credentials, request, every=every_page))
    credentials = [_as_of(one, held_at) for page in found for one in page.credentials]
    if output != "json":
        credentials = [{**one, "revocation": one["revocation"] or None} for one in credentials]
    print_page("credentials", _WHO_COLUMNS, credentials, found[-1].next_page_token, output)


def _as_of(one: pb.Credential, moment: datetime) -> dict[str, JSON]:
    was_over = one.HasField("ended_at") and one.ended_at.ToDatetime(tzinfo=UTC) <= moment
    return {**document_from_message(one), "then": "revoked" if was_over else "valid"}


def _rows(admin: Admin, *, after: int) -> Iterator[pb.AuditRow]:
    while page := admin.list_audit(pb.ListAuditRequest(after=after, page_size=_PAGE)).rows:
        yield from page
        after = page[-1].number


def _pages_of_rows(admin: Admin) -> Iterator[list[AuditRow]]:
    for row in _rows(admin, after=0):
        yield [AuditRow(number=row.number, body=row.body, hash=row.hash)]


def _lines(file: Path) -> list[bytes]:
    """The checkpoints in a file; a last line without its end, which is none, was cut off when it was written."""
    lines = read_source(str(file)).encode().split(b"\n")
    kept = [line for line in lines if line.strip()]
    for number, line in enumerate(kept, start=1):
        try:
            Checkpoint.parse(line)
        except ValueError as e:
            if line is lines[-1]:
                return kept[:-1]
            raise Refused(Kind.INVALID, f"{file} line {number}: {e}") from e
    return kept


def _checkpoint(text: bytes, key: str | None, trust_domain: str) -> Checkpoint:
    try:
        checkpoint = Checkpoint.parse(text)
        checkpoint.check_signature()
    except ValueError as e:
        raise _changed(str(e)) from e
    if key is not None and checkpoint.key_thumbprint != key:
        raise _changed(f"checkpoint: expected the key {key}, found {checkpoint.key_thumbprint}")
    if checkpoint.trust_domain.name != trust_domain:
        raise Refused(Kind.INVALID, f"checkpoint: expected one of {trust_domain}, found {checkpoint.trust_domain}")
    return checkpoint


def _thumbprint(text: str) -> str:
    if _SHA256.fullmatch(text):
        return text.lower()
    try:
        data = Path(text).read_bytes()
        load = load_pem_public_key if data.startswith(b"-----BEGIN") else load_der_public_key
        return thumbprint(load(data).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    except (OSError, ValueError, UnsupportedAlgorithm) as e:
        raise click.BadParameter(
            f"expected 64 hexadecimal digits or a public key's file, found {text}", param_hint="--key"
        ) from e


def _check_restores(check: ChainCheck, shown: list[tuple[Checkpoint, str]], accepted: tuple[int, ...]) -> None:
    for one, text in reversed(shown):
        row = check.lost_by(one)
        if row and row not in accepted:
            raise Refused(
                Kind.CONFLICT,
                f"checkpoint of {one.at.isoformat()}: {text}",
                hint=f"did you restore that backup? then --accept-restore {row}; if nobody did, the record was cut off there",
            )


def _changed(what: str) -> Refused:
    return Refused(
        Kind.CONFLICT, what, hint="the record is not what it was: keep the machine as it is, and look into it"
    )


def _document(row: pb.AuditRow) -> dict[str, JSON]:
    """A row's number and what its event says; what is no event any more is shown as it is, and verify says the rest."""
    try:
        event = json.loads(row.body)
    except (ValueError, RecursionError):
        event = None
    return {
        "number": row.number,
        **(event if isinstance(event, dict) else {"unreadable": row.body.decode(errors="replace")}),
    }


def _print_rows(rows: list[pb.AuditRow], output: str, *, header: bool) -> None:
    documents = [_document(row) for row in rows]
    if output == "json":
        for document in documents:
            click.echo(json.dumps(document, ensure_ascii=False))
    elif documents:
        print_table(_COLUMNS, [[document.get(key) for key in _COLUMNS] for document in documents], header=header)


def _print_verified(
    check: ChainCheck, shown: list[tuple[Checkpoint, str]], key: str, output: str, *, own: bool
) -> None:
    last = max((one.count for one, _ in shown), default=0)
    limits = [
        f"rows {last + 1} to {check.count} came after the last checkpoint: cutting them off would not show",
        "that every decision was written down",
        "anything against somebody who had the issuer's checkpoint key before a checkpoint left that machine",
    ][0 if check.count > last else 1 :]
    limits.append(
        "the ledger, which svid list and audit who read: it is no part of the chain, the row of the same serial is"
    )
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
