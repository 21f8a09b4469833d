"""`cognomen entry`: manage registration entries, one by flags or many from a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import click

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.cells import View, cell_of
from cognomen.cli.emptytext import MAY_BE_EMPTY
from cognomen.cli.entryapply import apply
from cognomen.cli.entryfile import COLUMNS, entries_from, print_changed
from cognomen.cli.entryhistory import entry_at, history
from cognomen.cli.named import check_parent, warn_if_never_matches
from cognomen.cli.naming import full_id, full_ids, view_of, with_node
from cognomen.cli.options import (
    Labels,
    admin_socket_option,
    comment_option,
    duration,
    every_page_option,
    moment,
    output_option,
    page_size_option,
    page_token_option,
    selector,
    strict_option,
)
from cognomen.cli.output import Columns, counted, print_document, print_json, print_page
from cognomen.cli.uses import last_used, silent_nodes, some, warn_of_silence, warn_of_start
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.meaning import Nameable
from cognomen.protocol.selector import Selector
from cognomen.wire.admin import document_from_message, entry_from_document, moment_to_text
from cognomen.wire.node import entry_to_pb, selector_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = ["entry"]

_FIELDS = [
    click.Option(["--spiffe-id"], help="The workload's SPIFFE ID; /PATH is one in the issuer's trust domain."),
    click.Option(
        ["--parent-id", "--parent", "parent_id"],
        help="The node, by its name, id or SPIFFE ID, or the node group; /PATH as above.",
    ),
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
    click.Option(["--hint"], type=MAY_BE_EMPTY, help="Tells a workload with several identities which is which."),
    click.Option(
        ["--default/--no-default"],
        default=None,
        help="Whether it comes before others in a program's list, whose first is its default identity.  [default: no]",
    ),
    click.Option(["--owner"], type=MAY_BE_EMPTY, help="Who is responsible for this identity."),
    Labels(["--label", "labels"], help="A label of your own; repeatable."),
    click.Option(["--expires-at"], type=moment, help="When the entry expires, such as 2026-12-31T00:00:00Z."),
]
_LISTED = Columns(table=COLUMNS.table, wide=(*COLUMNS.wide, "last_used"))
_FOR_ALL = frozenset({"parent_id", "owner", "labels", "x509_svid_ttl", "jwt_svid_ttl", "expires_at"})
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
@strict_option
@comment_option
@output_option
@admin_socket_option
def create(source: str | None, *, strict: bool, comment: str, output: str, socket: Path, **fields: object) -> None:
    """Create one entry by flags, or many from a file.

    The issuer chooses the ids. An entry with the parent /cognomen/issuer and node selectors
    is a node group, which other entries can have as their parent. The file may also be the
    output of SPIRE's `entry show -output json`.

    Up to 500 entries (4 MiB) are one step: all or none. More are checked as a whole, then
    carried out in several steps, so that other changes need not wait.

    With --from, the options --parent-id, --owner, --label, --x509-svid-ttl, --jwt-svid-ttl and
    --expires-at replace what the file says, in all of its entries; --label replaces all labels.

    \b
    Examples:
      cognomen entry create --spiffe-id /agent/concierge/reasoning \\
        --parent /cognomen/node/join_token/ID --selector unix:uid:1001
      cognomen entry create --from entries.json
      spire-server entry show -output json | cognomen entry create --from - \\
        --parent-id /travel-nodes
    """  # noqa: D301 - \b is click's mark
    given = _given(fields)
    if source is not None:
        _check_for_all(given)
    if source is None and not {"spiffe_id", "parent_id", "selectors"} <= given.keys():
        raise click.UsageError("expected --spiffe-id, --parent-id and --selector, or --from")
    with connect(socket) as admin:
        _name_parent(given, admin)
        entries = [_entry(given, admin)] if source is None else entries_from(source, admin, given)
        fresh = [replace(one, id=EntryID(""), revision=0) for one in entries]
        _print_changed(admin, admin.create_entries(_request(fresh, comment, strict=strict)), output)


@entry.command("list")
@click.option("--spiffe-id", help="Only those with this SPIFFE ID; /PATH is one in the issuer's trust domain.")
@click.option(
    "--parent-id",
    "--parent",
    "parent_id",
    help="Only those with this parent: a node's name or id, a SPIFFE ID, or /PATH as above.",
)
@click.option("--selector", "wanted", type=selector, metavar="TYPE:VALUE", help="Only those with this selector.")
@click.option("--below", help="Only those with this SPIFFE ID or one below it; /PATH as above.")
@click.option("--owner", help="Only those with this owner.")
@click.option("--no-owner", is_flag=True, help="Only those without an owner.")
@click.option("--label", "labels", cls=Labels, help="Only those with this label; repeatable: all of them.")
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
    minute. -o wide and the JSON say when each was last used. --unused-for leaves out node groups.
    If a node did not report its uses in all of that time, a warning names it, and the entries that
    it may have used: they are not in the table (in JSON, they are in not_known).

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
        warn_if_never_matches(wanted)
        request.selector.CopyFrom(selector_to_pb(wanted))
    with connect(socket) as admin:
        named = spiffe_id or below
        request.spiffe_id = str(admin.complete_id(named)) if named else ""
        request.parent_id = str(admin.complete_id(with_node(admin, parent_id, past=True))) if parent_id else ""
        found = list(pages(admin.list_entries, request, every=every_page))
        if parent_id and not page_token and not any(page.entries or page.not_known for page in found):
            check_parent(admin, request.parent_id)
        view = view_of(admin, output, (one.parent_id for page in found for one in page.entries))
    entries, not_known = ([*_listed(found, field)] for field in ("entries", "not_known"))
    if not page_token and not found[-1].next_page_token:  # pages are in the order of ids, which nobody reads
        for each in (entries, not_known):
            each.sort(key=lambda one: (str(one["spiffe_id"]), str(one["parent_id"]), str(one["id"])))
    more: dict[str, JSON] = {}
    if unused_for is not None:
        warn_of_start(found[0].uses_since, SystemClock().now() - unused_for)
        silent = silent_nodes(one for page in found for one in page.not_reporting)
        _warn_of(not_known, silent, view)
        more = {"not_known": [*not_known], "not_reporting": [document_from_message(one) for one in silent]}
    print_page("entries", _LISTED, entries, found[-1].next_page_token, view, **more)


def _listed(
    pages: Sequence[pb.ListEntriesResponse], field: Literal["entries", "not_known"]
) -> Iterator[dict[str, JSON]]:
    """The entries in a field of these pages, with the time when each was last used."""
    for page in pages:
        for one in page.entries if field == "entries" else page.not_known:
            yield document_from_message(one) | {"last_used": last_used(page, one.id)}


def _warn_of(not_known: Sequence[dict[str, JSON]], silent: Sequence[pb.SilentNode], view: View) -> None:
    """Warn of entries that are not in the table although no use of them was reported."""
    names = some(" ".join(cell_of("spiffe_id", one["spiffe_id"], view, {})) for one in not_known)
    count = counted(len(not_known), "entry", "entries")
    warn_of_silence(silent, f"{count} not listed, because a use may not have been reported: {names}")


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
        entry_id = full_id(admin, Nameable.ENTRY, entry_id, past=revision is not None)
        if revision is None:
            document = document_from_message(admin.get_entry(pb.GetEntryRequest(id=entry_id)))
        else:
            recorded, order = entry_at(admin, entry_id, revision), document_from_message(node_pb2.Entry())
            document = {key: recorded[key] for key in (*order, *recorded) if key in recorded}
    (print_json if output == "json" else print_document)(document)


entry.add_command(history)
entry.add_command(apply)


@entry.command(params=[*_FIELDS])
@click.argument("entry_id", metavar="[ID]", required=False)
@_source_option
@strict_option
@click.option("--let-expire", is_flag=True, help="Leave what was signed before valid until it expires.")
@comment_option
@output_option
@admin_socket_option
def update(
    entry_id: str | None,
    source: str | None,
    *,
    strict: bool,
    let_expire: bool,
    comment: str,
    output: str,
    socket: Path,
    **fields: object,
) -> None:
    """Change the given fields of one entry, or replace many entries from a file.

    The update is refused if the entry has changed since it was read. In a file, revision 0
    means: replace it whatever its revision is. The options that go with --from replace what
    the file says, as for `entry create`. What changes nothing leaves the entry as it is.

    Up to 500 entries (4 MiB) are one step: all or none. More are checked as a whole, then
    carried out in several steps, so that other changes need not wait.

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
    if (entry_id is None) == (source is None) or (entry_id is not None and not given):
        raise click.UsageError("expected either an ID and the flags to change, or --from")
    if source is not None:
        _check_for_all(given)
    with connect(socket) as admin:
        if entry_id is not None:
            entry_id = full_id(admin, Nameable.ENTRY, entry_id)
            _name_parent(given, admin)
            entries = [_entry(document_from_message(admin.get_entry(pb.GetEntryRequest(id=entry_id))) | given, admin)]
        else:
            entries = entries_from(source or "", admin, given)
        request = _request(entries, comment, strict=strict)
        request.let_expire = let_expire
        _print_changed(admin, admin.update_entries(request), output)


@entry.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--let-expire", is_flag=True, help="Leave what was signed for them valid until it expires.")
@comment_option
@output_option
@admin_socket_option
def delete(ids: tuple[str, ...], let_expire: bool, comment: str, output: str, socket: Path) -> None:
    """Delete entries. Their workloads lose these identities at once.

    What was signed for the entries is revoked, so verifiers refuse it. Up to 500 entries are
    one step: all or none. More are checked as a whole, then deleted in several steps.

    \b
    Example:
      cognomen entry delete $(cognomen entry list --parent /old/group \\
        --output json | jq -r '.entries[].id')
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        request = pb.DeleteEntriesRequest(
            ids=full_ids(admin, Nameable.ENTRY, ids), let_expire=let_expire, comment=comment
        )
        _print_changed(admin, admin.delete_entries(request), output)


def _print_changed(admin: Admin, response: pb.EntriesResponse, output: str) -> None:
    print_changed(response, view_of(admin, output, (one.parent_id for one in response.entries)))


def _given(fields: Mapping[str, object]) -> dict[str, JSON]:
    """Write the given fields as in a JSON document."""
    return {key: _written(key, value) for key, value in fields.items() if value not in (None, ())}


def _written(key: str, value: object) -> JSON:
    match value:
        case bool():
            return value
        case timedelta():
            return f"{int(value.total_seconds())}s"
        case datetime():
            return moment_to_text(value)
        case tuple() if key == "labels":
            return {str(name): str(text) for name, text in value}
        case tuple():
            return [str(item) for item in value]
    return str(value)


def _name_parent(given: dict[str, JSON], admin: Admin) -> None:
    if isinstance(parent := given.get("parent_id"), str):
        given["parent_id"] = with_node(admin, parent, past=True)


def _entry(document: object, admin: Admin) -> RegistrationEntry:
    return entry_from_document(document, admin.complete_id)


def _check_for_all(given: Mapping[str, JSON]) -> None:
    """Check the flags beside --from."""
    if given.keys() - _FOR_ALL:
        raise click.UsageError(
            "expected either --from, with --parent-id, --owner, --label, --x509-svid-ttl, --jwt-svid-ttl and --expires-at at most, "
            "or the flags of one entry, found both"
        )


def _request(entries: Sequence[RegistrationEntry], comment: str, *, strict: bool) -> pb.EntriesRequest:
    return pb.EntriesRequest(entries=[entry_to_pb(one) for one in entries], comment=comment, strict=strict)
