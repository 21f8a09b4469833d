"""`cognomen entry`: manage registration entries, one by flags or many from a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.entryhistory import entry_at, history
from cognomen.cli.options import (
    admin_socket_option,
    comment_option,
    duration,
    each_once,
    every_page_option,
    label,
    moment,
    output_option,
    page_size_option,
    page_token_option,
    read_source,
    selector,
)
from cognomen.cli.output import print_document, print_json, print_page, print_table, warn
from cognomen.cli.spireentries import from_spire, is_from_spire
from cognomen.cli.uses import last_used, warn_of_start
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector
from cognomen.wire.admin import document_from_message, entry_from_document, moment_to_text
from cognomen.wire.node import entry_to_pb, selector_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from svid.clock import SystemClock
from svid.encoding import JSON
from svid.errors import SVIDError

__all__ = ["entry"]

_COLUMNS = ("id", "spiffe_id", "parent_id", "selectors", "owner", "revision")

_FIELDS = [
    click.Option(["--spiffe-id"], help="The workload's SPIFFE ID; /PATH is one in the issuer's trust domain."),
    click.Option(["--parent-id", "--parent", "parent_id"], help="The node or node group; /PATH as above."),
    click.Option(
        ["--selector", "selectors"],
        type=selector,
        multiple=True,
        metavar="TYPE:VALUE",
        help="What a workload must have; repeatable: all must match.",
    ),
    click.Option(
        ["--x509-svid-ttl"], type=duration, help="X509-SVID lifetime, such as 1h; at most 1d.  [default: the issuer's]"
    ),
    click.Option(
        ["--jwt-svid-ttl"], type=duration, help="JWT-SVID lifetime, such as 5m; at most 1d.  [default: the issuer's]"
    ),
    click.Option(
        ["--dns", "dns_names"], multiple=True, metavar="NAME", help="A DNS name to put into the X509-SVID; repeatable."
    ),
    click.Option(["--hint"], help="Tells a workload with several identities which is which."),
    click.Option(["--owner"], help="Who is responsible for this identity."),
    click.Option(
        ["--label", "labels"],
        type=label,
        multiple=True,
        callback=each_once,
        metavar="KEY=VALUE",
        help="A label of your own; repeatable.",
    ),
    click.Option(["--expires-at"], type=moment, help="When the entry expires, such as 2026-12-31T00:00:00Z."),
]
_source_option = click.option(
    "--from", "source", metavar="FILE|-", help="Read many: JSON as printed by `entry list --output json`."
)


@click.group()
def entry() -> None:
    """Registration entries: which workload gets which SPIFFE ID.

    A program that has all selectors of an entry gets its SPIFFE ID, if its node is the
    entry's parent or belongs to it.
    """


@entry.command(params=[*_FIELDS])
@_source_option
@comment_option
@output_option
@admin_socket_option
def create(source: str | None, comment: str, output: str, socket: Path, **fields: object) -> None:
    """Create one entry by flags, or many from a file: all or none.

    The issuer chooses the ids. An entry with the parent /cognomen/issuer and node selectors
    is a node group, which other entries can have as their parent. The file may also be the
    output of SPIRE's `entry show -output json`; --parent-id then replaces the parents in the
    file by a node or group here.

    \b
    Examples:
      cognomen entry create --spiffe-id /agent/concierge/reasoning \\
        --parent /cognomen/node/join_token/ID --selector unix:uid:1001
      cognomen entry create --from entries.json
      spire-server entry show -output json | cognomen entry create --from - \\
        --parent-id /travel-nodes
    """  # noqa: D301 - \b is click's mark
    given = _given(fields)
    if source is not None and given.keys() - {"parent_id"}:
        raise click.UsageError(
            "expected either --from, with --parent-id at most, or the flags of one entry, found both"
        )
    if source is None and not {"spiffe_id", "parent_id", "selectors"} <= given.keys():
        raise click.UsageError("expected --spiffe-id, --parent-id and --selector, or --from")
    with connect(socket) as admin:
        parent = given.get("parent_id")
        entries = [_entry(given, admin)] if source is None else _entries_from(source, admin, parent_id=parent)
        fresh = [replace(one, id=EntryID(""), revision=0) for one in entries]
        _print_changed(admin.create_entries(_request(fresh, comment)), output)


@entry.command("list")
@click.option("--spiffe-id", help="Only those with this SPIFFE ID; /PATH is one in the issuer's trust domain.")
@click.option("--parent-id", "--parent", "parent_id", help="Only those with this parent; /PATH as above.")
@click.option("--selector", "wanted", type=selector, metavar="TYPE:VALUE", help="Only those with this selector.")
@click.option("--below", help="Only those with this SPIFFE ID or one below it; /PATH as above.")
@click.option("--owner", help="Only those with this owner.")
@click.option("--no-owner", is_flag=True, help="Only those without an owner.")
@click.option(
    "--label",
    "labels",
    type=label,
    multiple=True,
    callback=each_once,
    metavar="KEY=VALUE",
    help="Only those with this label; repeatable: all of them.",
)
@click.option(
    "--expiring-within", type=duration, help="Only those that have expired, or will within that time, such as 7d."
)
@click.option(
    "--unused-for",
    type=duration,
    help="Only those as old as that, of which no use was reported in that time, such as 30d.",
)
@page_size_option
@page_token_option
@every_page_option
@output_option
@admin_socket_option
def list_entries(
    spiffe_id: str | None,
    parent_id: str | None,
    wanted: Selector | None,
    below: str | None,
    owner: str | None,
    no_owner: bool,
    labels: tuple[tuple[str, str], ...],
    expiring_within: timedelta | None,
    unused_for: timedelta | None,
    page_size: int,
    page_token: str,
    every_page: bool,
    output: str,
    socket: Path,
) -> None:
    """List entries: all, or those that every given option names.

    An entry is used when a program gets an SVID of it; attestors report that within half a
    minute. The JSON says when each was last used. --unused-for leaves out node groups.

    \b
    Examples:
      cognomen entry list --selector unix:uid:1001
      cognomen entry list --below /agent --no-owner
    """  # noqa: D301 - \b is click's mark
    if (spiffe_id and below) or (owner is not None and no_owner):
        raise click.UsageError("expected --spiffe-id or --below, and --owner or --no-owner, found both")
    request = pb.ListEntriesRequest(page_size=page_size, page_token=page_token, labels=dict(labels), below=bool(below))
    if owner is not None or no_owner:
        request.owner = owner or ""
    if expiring_within is not None:
        request.expiring_within.FromTimedelta(expiring_within)
    if unused_for is not None:
        request.unused_for.FromTimedelta(unused_for)
    if wanted is not None:
        request.selector.CopyFrom(selector_to_pb(wanted))
    with connect(socket) as admin:
        named = spiffe_id or below
        request.spiffe_id = str(admin.complete_id(named)) if named else ""
        request.parent_id = str(admin.complete_id(parent_id)) if parent_id else ""
        found = list(pages(admin.list_entries, request, every=every_page))
    if unused_for is not None:
        warn_of_start(found[0].uses_since, SystemClock().now() - unused_for)
    entries = [
        document_from_message(one) | {"last_used": last_used(page, one.id)} for page in found for one in page.entries
    ]
    if not page_token and not found[-1].next_page_token:  # pages are in the order of ids, which nobody reads
        entries.sort(key=lambda one: (str(one["spiffe_id"]), str(one["parent_id"]), str(one["id"])))
    print_page("entries", _COLUMNS, entries, found[-1].next_page_token, output)


@entry.command()
@click.argument("entry_id", metavar="ID")
@click.option("--revision", type=click.IntRange(0), help="As it was at that revision, also after it was deleted.")
@output_option
@admin_socket_option
def show(entry_id: str, revision: int | None, output: str, socket: Path) -> None:
    """Show one entry as it is, or as it was.

    \b
    Examples:
      cognomen entry show 5f0c0f3a6c1d4e5b8a7f9e2d1c0b3a49
      cognomen entry show 5f0c0f3a6c1d4e5b8a7f9e2d1c0b3a49 --revision 2
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        if revision is None:
            document = document_from_message(admin.get_entry(pb.GetEntryRequest(id=entry_id)))
        else:
            document = dict(entry_at(admin, entry_id, revision))
    (print_json if output == "json" else print_document)(document)


entry.add_command(history)


@entry.command(params=[*_FIELDS])
@click.argument("entry_id", metavar="[ID]", required=False)
@_source_option
@click.option("--let-expire", is_flag=True, help="Leave what was signed before valid until it expires.")
@comment_option
@output_option
@admin_socket_option
def update(
    entry_id: str | None,
    source: str | None,
    *,
    let_expire: bool,
    comment: str,
    output: str,
    socket: Path,
    **fields: object,
) -> None:
    """Change the given fields of one entry, or replace many entries from a file: all or none.

    The update is refused if the entry has changed since it was read. In a file, revision 0
    means: replace it whatever its revision is.

    A change that takes something away (another SPIFFE ID, parent or selectors, one DNS name
    fewer, an earlier expiry) revokes what was signed before: once the replacement has reached
    the workloads, at most 30 s later, and at once on nodes that no longer have the entry.

    \b
    Examples:
      cognomen entry update ID --x509-svid-ttl 30m --owner ann@example.org
      cognomen entry list --all --output json | jq '.entries[].owner = "ann"' \\
        | cognomen entry update --from -
    """  # noqa: D301 - \b is click's mark
    given = _given(fields)
    if (entry_id is None) == (source is None) or bool(given) == (entry_id is None):
        raise click.UsageError("expected either an ID and the flags to change, or --from")
    with connect(socket) as admin:
        if entry_id is not None:
            entries = [_entry(document_from_message(admin.get_entry(pb.GetEntryRequest(id=entry_id))) | given, admin)]
        else:
            entries = _entries_from(source or "", admin)
        request = _request(entries, comment)
        request.let_expire = let_expire
        _print_changed(admin.update_entries(request), output)


@entry.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--let-expire", is_flag=True, help="Leave what was signed for them valid until it expires.")
@comment_option
@output_option
@admin_socket_option
def delete(ids: tuple[str, ...], let_expire: bool, comment: str, output: str, socket: Path) -> None:
    """Delete entries: all or none. Their workloads lose these identities at once.

    What was signed for the entries is revoked, so verifiers refuse it.

    \b
    Example:
      cognomen entry delete $(cognomen entry list --parent /old/group \\
        --output json | jq -r '.entries[].id')
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        request = pb.DeleteEntriesRequest(ids=ids, let_expire=let_expire, comment=comment)
        _print_changed(admin.delete_entries(request), output)


def _given(fields: Mapping[str, object]) -> dict[str, JSON]:
    """Write the given fields as in a JSON document."""
    return {key: _written(key, value) for key, value in fields.items() if value not in (None, ())}


def _written(key: str, value: object) -> JSON:
    match value:
        case timedelta():
            return f"{int(value.total_seconds())}s"
        case datetime():
            return moment_to_text(value)
        case tuple() if key == "labels":
            return {str(name): str(text) for name, text in value}
        case tuple():
            return [str(item) for item in value]
    return str(value)


def _entry(document: object, admin: Admin) -> RegistrationEntry:
    return entry_from_document(document, admin.complete_id)


def _entries_from(source: str, admin: Admin, *, parent_id: JSON = None) -> list[RegistrationEntry]:
    """Read an array of entries, or an object with that array under "entries"; SPIRE's entries are accepted as well.

    Args:
        parent_id: the parent of all of them, instead of those in the file.
    """
    try:
        document: object = json.loads(read_source(source))
    except (ValueError, RecursionError) as e:
        raise Refused(Kind.INVALID, f"{source}: expected JSON: {e}") from e
    if isinstance(document, dict):
        document = document.get("entries")
    if document == []:
        raise Refused(Kind.INVALID, f"{source}: expected at least 1 entry, found 0")
    if not isinstance(document, list):
        raise Refused(Kind.INVALID, f'{source}: expected an array of entries, or {{"entries": […]}}')
    entries = []
    for number, item in enumerate(document):
        try:
            ours = from_spire(item) if isinstance(item, dict) and is_from_spire(item) else item
            entries.append(
                _entry(ours | {"parent_id": parent_id} if parent_id and isinstance(ours, dict) else ours, admin)
            )
        except SVIDError as e:
            raise Refused(Kind.INVALID, f"{source}: entries[{number}]: {e}") from e
    return entries


def _request(entries: Sequence[RegistrationEntry], comment: str) -> pb.EntriesRequest:
    return pb.EntriesRequest(entries=[entry_to_pb(one) for one in entries], comment=comment)


def _print_changed(response: pb.EntriesResponse, output: str) -> None:
    for warning in response.warnings:
        warn(warning)
    document = document_from_message(response)
    if output == "json":
        print_json(document)
        return
    print_table(_COLUMNS, [[one[key] for key in _COLUMNS] for one in map(document_from_message, response.entries)])
    if response.ended:
        click.echo(f"revoked: {_credentials(response.ended)}")
    if response.superseded:
        click.echo(f"revoked once replaced, at most 30 s from now: {_credentials(response.superseded)}")


def _credentials(count: int) -> str:
    return "1 credential" if count == 1 else f"{count} credentials"
