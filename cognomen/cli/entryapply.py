"""`cognomen entry apply`: make the issuer's entries those of a file, and show what changes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.emptytext import MAY_BE_EMPTY
from cognomen.cli.entrydiff import in_words
from cognomen.cli.entryfile import entries_from, print_ended, print_warnings
from cognomen.cli.options import Labels, admin_socket_option, comment_option, output_option, strict_option
from cognomen.cli.output import print_json
from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.entrydifference import Difference, compare
from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.admin import document_from_message
from cognomen.wire.node import entry_from_pb, entry_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON
from svid.spiffeid import SpiffeID

__all__ = ["apply"]

_PAGE = 10_000
_MOST_ASKED_SINGLY = 500  # of ids and SPIFFE IDs; for more of them, all entries are read
_SHOWN_ID = 8  # of the characters of an id
_GOES_ON = "a part of a long file may be done: the same command goes on with the rest"
_CHANGED_MEANWHILE = (Kind.CONFLICT, Kind.NOT_FOUND, Kind.EXISTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """Which entries the file is the whole list of. A part that is None or empty does not narrow it."""

    below: SpiffeID | None
    owner: str | None
    labels: Sequence[tuple[str, str]]

    def has(self, entry: RegistrationEntry) -> bool:
        """Whether an entry belongs to it."""
        return (
            (self.below is None or _is_at_or_below(entry.spiffe_id, self.below))
            and (self.owner is None or entry.owner == self.owner)
            and all(entry.labels.get(key) == value for key, value in self.labels)
        )

    def request(self) -> pb.ListEntriesRequest:
        """Asks for them."""
        asked = pb.ListEntriesRequest(
            spiffe_id="" if self.below is None else str(self.below),
            below=self.below is not None,
            labels=dict(self.labels),
        )
        if self.owner is not None:
            asked.owner = self.owner
        return asked


@click.command()
@click.argument("source", metavar="FILE|-")
@click.option("--dry-run", is_flag=True, help="Show what would change, checked by the issuer, and change nothing.")
@click.option("--prune", is_flag=True, help="Delete the entries that the file does not have, among those of:")
@click.option("--below", help="With --prune: this SPIFFE ID and those below it; /PATH is one in the trust domain.")
@click.option("--owner", type=MAY_BE_EMPTY, help="With --prune: this owner; empty: no owner.")
@click.option("--label", "labels", cls=Labels, help="With --prune: this label; repeatable: all of them.")
@click.option("--all", "every", is_flag=True, help="With --prune: all entries, node groups included.")
@click.option("--let-expire", is_flag=True, help="Leave what was signed before valid until it expires.")
@strict_option
@comment_option
@output_option
@admin_socket_option
def apply(
    source: str,
    *,
    dry_run: bool,
    prune: bool,
    below: str | None,
    owner: str | None,
    labels: tuple[tuple[str, str], ...],
    every: bool,
    let_expire: bool,
    strict: bool,
    comment: str,
    output: str,
    socket: Path,
) -> None:
    """Make the entries those of a file, and show what changes.

    The file is what `entry list --all --output json` prints; ids and revisions may be left
    out, and revisions mean nothing. An entry of the file is the one that has its id, else the
    one with the same SPIFFE ID, parent and selectors. If one in the file and one here are
    left with the same SPIFFE ID and parent, that one gets other selectors. The rest is new.

    Prints + for a new entry, ~ for a changed one with what changes, - for a deleted one. If
    nothing differs, nothing is changed or recorded. If somebody changes the same entries
    meanwhile, it is refused: run it again.

    Without --prune, nothing is deleted. With it, say which entries the file is the whole list
    of: by --below, --owner and --label together, or by --all. The file may have no others,
    and no others are changed.
    A file without entries is refused, because it is more often a mistake: use `entry delete`.

    Up to 500 changes (4 MiB) are one step: all or none. More are checked as a whole, then
    carried out in several steps, so that other changes need not wait. If it stops in the
    middle, the same command goes on with the rest.

    Exit code 0 also if --dry-run finds differences: scripts read --output json.

    \b
    Examples:
      cognomen entry apply entries.json --dry-run
      cognomen entry apply entries.json --prune --below /agent/concierge \\
        --comment "$(git rev-parse HEAD)"
    """  # noqa: D301 - \b is click's mark
    is_scoped = bool(below) or owner is not None or bool(labels)
    if prune and every == is_scoped:
        raise click.UsageError("expected --prune with --below, --owner or --label, or with --all")
    if not prune and (every or is_scoped):
        raise click.UsageError("--below, --owner, --label and --all need --prune")
    with connect(socket) as admin:
        wanted = entries_from(source, admin, {}, whole=True)
        scope = _Scope(below=admin.complete_id(below) if below else None, owner=owner, labels=labels)
        _check_scope(wanted, scope)
        found = (
            _entries(admin, pb.ListEntriesRequest()) if every else _concerned(admin, wanted, scope if prune else None)
        )
        difference = compare(wanted, found, prune=scope.has if prune else None)
        request = _request(difference)
        request.dry_run, request.let_expire, request.strict, request.comment = dry_run, let_expire, strict, comment
        response = _apply(admin, request) if difference else pb.EntriesResponse()
    print_warnings(response)
    if output == "json":
        print_json(_document(difference, response, dry_run=dry_run))
        return
    for line in _lines(difference):
        click.echo(line)
    click.echo(_summary(difference, dry_run=dry_run))
    print_ended(response, "would be " if dry_run else "")


def _concerned(admin: Admin, wanted: Sequence[RegistrationEntry], scope: _Scope | None) -> Iterator[RegistrationEntry]:
    """The issuer's entries that a file can be about: those with its ids or SPIFFE IDs, and all of the scope; a long file is about all."""
    ids, names = {entry.id for entry in wanted if entry.id}, {entry.spiffe_id for entry in wanted}
    if len(ids) + len(names) > _MOST_ASKED_SINGLY:
        yield from _entries(admin, pb.ListEntriesRequest())
        return
    for entry_id in ids:
        try:
            yield entry_from_pb(admin.get_entry(pb.GetEntryRequest(id=entry_id)))
        except Refused as e:
            if e.kind is not Kind.NOT_FOUND:
                raise
    for name in names:
        yield from _entries(admin, pb.ListEntriesRequest(spiffe_id=str(name)))
    if scope is not None:
        yield from _entries(admin, scope.request())


def _entries(admin: Admin, request: pb.ListEntriesRequest) -> Iterator[RegistrationEntry]:
    request.page_size = _PAGE
    for page in pages(admin.list_entries, request, every=True):
        yield from map(entry_from_pb, page.entries)


def _is_at_or_below(spiffe_id: SpiffeID, above: SpiffeID) -> bool:
    return spiffe_id == above or (
        spiffe_id.trust_domain == above.trust_domain and spiffe_id.path.startswith(f"{above.path}/")
    )


def _check_scope(wanted: Sequence[RegistrationEntry], scope: _Scope) -> None:
    for number, entry in enumerate(wanted):
        if not scope.has(entry):
            raise Refused(
                Kind.INVALID,
                f"entries[{number}]: expected an entry of what --below, --owner and --label name, found {entry.spiffe_id}",
                hint="name a part that all entries of the file belong to",
            )


def _request(difference: Difference) -> pb.ApplyEntriesRequest:
    return pb.ApplyEntriesRequest(
        creates=map(entry_to_pb, difference.create),
        updates=(entry_to_pb(after) for _, after in difference.update),
        deletes=(pb.EntryAt(id=entry.id, revision=entry.revision) for entry in difference.delete),
    )


def _apply(admin: Admin, request: pb.ApplyEntriesRequest) -> pb.EntriesResponse:
    try:
        return admin.apply_entries(request)
    except Refused as e:
        if e.kind is Kind.UNAVAILABLE and not request.dry_run:
            hint = "; ".join(filter(None, (e.hint, _GOES_ON)))
        elif e.kind in _CHANGED_MEANWHILE:
            hint = "entries were changed since they were compared with the file: run it again"
        else:
            raise
        raise Refused(e.kind, e.detail, hint=hint) from e


def _lines(difference: Difference) -> Iterator[str]:
    """The differences, sorted by path."""
    lines = [(entry.spiffe_id.path, f"+ {entry.spiffe_id.path}  {_said(entry)}") for entry in difference.create]
    for before, after in difference.update:
        changes = in_words(_shown(before), _shown(after))
        lines.append((before.spiffe_id.path, f"~ {_named(before)}  {changes}"))
    lines += [(entry.spiffe_id.path, f"- {_named(entry)}  {_said(entry)}") for entry in difference.delete]
    return (line for _, line in sorted(lines))


def _named(entry: RegistrationEntry) -> str:
    return f"{entry.spiffe_id.path} ({entry.id[:_SHOWN_ID]})"


def _said(entry: RegistrationEntry) -> str:
    return in_words(None, {key: value for key, value in _shown(entry).items() if key != "spiffe_id"})


def _shown(entry: RegistrationEntry) -> dict[str, JSON]:
    """An entry with paths for its SPIFFE IDs: the issuer accepts those of its own trust domain only."""
    return _as_document(entry) | {"spiffe_id": entry.spiffe_id.path, "parent_id": entry.parent_id.path}


def _summary(difference: Difference, *, dry_run: bool) -> str:
    unchanged = f"{difference.unchanged} unchanged"
    if not difference:
        return f"nothing to do: {unchanged}"
    counts = f"{len(difference.create)} created, {len(difference.update)} updated, {len(difference.delete)} deleted"
    return f"dry run: {counts}, {unchanged}; nothing was changed" if dry_run else f"{counts}, {unchanged}"


def _document(difference: Difference, response: pb.EntriesResponse, *, dry_run: bool) -> Mapping[str, JSON]:
    """Shape: entries as `entry list` prints them; what a dry run would create has no id."""
    created: list[JSON] = [_as_document(entry) for entry in difference.create]
    updated: list[JSON] = []
    for before, after in difference.update:
        updated.append({"before": _as_document(before), "after": _as_document(after)})
    if not dry_run:
        news = [document_from_message(one) for one in response.entries]
        chosen = [{key: one[key] for key in ("id", "revision", "created_at")} for one in news]
        created = [{**_as_document(entry), **new} for entry, new in zip(difference.create, chosen, strict=False)]
        updated = [
            {"before": _as_document(before), "after": {**_as_document(after), "revision": new["revision"]}}
            for (before, after), new in zip(difference.update, chosen[len(created) :], strict=False)
        ]
    return {
        "dry_run": dry_run,
        "created": created,
        "updated": updated,
        "deleted": [_as_document(entry) for entry in difference.delete],
        "unchanged": difference.unchanged,
        "warnings": list(response.warnings),
        "change": response.change,
        "ended": response.ended,
        "superseded": response.superseded,
    }


def _as_document(entry: RegistrationEntry) -> dict[str, JSON]:
    return document_from_message(entry_to_pb(entry))
