"""What became of an entry: its revisions, from the record of decisions. They outlive the entry."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect
from cognomen.cli.auditrows import event_of, rows_of
from cognomen.cli.entrycheck import is_digest, same_entry
from cognomen.cli.entrydiff import in_words
from cognomen.cli.naming import full_id, unknown
from cognomen.cli.options import admin_socket_option, output_option
from cognomen.cli.output import Columns, print_json, print_table
from cognomen.protocol.entry import LEFT_OUT
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.meaning import Nameable
from cognomen.protocol.printable import printable
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON

__all__ = ["entry_at", "history"]

_COLUMNS = Columns(
    table=("revision", "at", "actor", "action", "comment", "changes"),
    wide=("number", "revision", "at", "actor", "login", "action", "comment", "changes"),
)
_DELETED = "entry deleted"


@click.command()
@click.argument("entry_id", metavar="ID")
@output_option
@admin_socket_option
def history(entry_id: str, output: str, socket: Path) -> None:
    """Show who changed an entry, when and how, also after it was deleted.

    A SPIFFE ID or path means the entry that has it or, if there is none, the deleted one that
    had it. If there are several, they are named, and nothing is shown.

    Exit code 1 if rows are missing between those that are shown, or after them.

    \b
    Examples:
      cognomen entry history 5f0c0f3a6c1d4e5b8a7f9e2d1c0b3a49
      cognomen entry history /agent/billing
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        entry_id = full_id(admin, Nameable.ENTRY, entry_id, past=True)
        current = _revision_of(admin, entry_id)
        steps = list(_steps(admin, entry_id))
        view = admin.view(output)
    if not (steps or current):
        raise unknown(Nameable.ENTRY, entry_id)
    documents = [step.document() for step in steps]
    if output == "json":
        print_json({"id": entry_id, "history": list(documents)})
    else:
        own = f"spiffe://{view.trust_domain}/"
        changes = [step.changes().replace(own, "/") if view.trust_domain else step.changes() for step in steps]
        shown = [{**document, "changes": text} for document, text in zip(documents, changes, strict=True)]
        print_table(_COLUMNS, shown, view)
    _check_whole(steps, current)


def entry_at(admin: Admin, entry_id: str, revision: int) -> Mapping[str, JSON]:
    """An entry as it was at that revision.

    Raises:
        Refused: NOT_FOUND
    """
    for step in _steps(admin, entry_id):
        if step.after is not None and step.revision == revision:
            return step.after
    raise Refused(
        Kind.NOT_FOUND,
        f"entry: no text of revision {revision} is on record",
        hint=f"see its history: cognomen entry history {entry_id}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A row of the record about one entry.

    Args:
        before, after: the entry; None: it did not exist, or the row is of a release that did not record it.
    """

    event: Mapping[str, JSON]
    revision: int
    before: Mapping[str, JSON] | None
    after: Mapping[str, JSON] | None

    @property
    def action(self) -> str:
        """What was done, printable."""
        return printable(str(self.event.get("action", "")))

    def document(self) -> dict[str, JSON]:
        """As JSON."""
        of_event = {key: self.event.get(key) for key in ("at", "actor", "login", "action", "comment", "number")}
        before, after = (None if one is None else dict(one) for one in (self.before, self.after))
        return {"revision": self.revision, **of_event, "before": before, "after": after}

    def changes(self) -> str:
        """What changed, in words."""
        if self.before is None and self.after is None:
            return "not recorded by the release of that time"
        return "" if self.after is None else in_words(self.before, self.after)


def _revision_of(admin: Admin, entry_id: str) -> int:
    """The revision of an entry now; 0: there is no such entry."""
    try:
        return admin.get_entry(pb.GetEntryRequest(id=entry_id)).revision
    except Refused as e:
        if e.kind is not Kind.NOT_FOUND:
            raise
        return 0


def _check_whole(steps: Sequence[_Step], current: int) -> None:
    """Check that no row is missing.

    Args:
        current: the entry's revision before the rows were read; 0: it did not exist.

    Raises:
        Refused: CONFLICT
    """
    last, is_gone = 0, False
    for step in steps:
        if step.event.get("decision") == "refused":
            continue
        is_gone = step.action == _DELETED
        expected = last if is_gone else last + 1
        if step.revision != expected:
            raise _missing(f"a change to revision {expected}", f"{step.action} with revision {step.revision}")
        last = step.revision
    if current > last:
        raise _missing(f"a change to revision {current}, which the entry has", f"revision {last} in the last row")
    if not (current or is_gone):
        raise _missing("a deletion, because there is no such entry now", f"revision {last} in the last row")


def _missing(expected: str, found: str) -> Refused:
    return Refused(
        Kind.CONFLICT,
        f"entry: expected {expected}, found {found}: a row is missing",
        hint="cognomen audit verify says whether it was deleted from the record, or only from the list of this entry's rows",
    )


def _steps(admin: Admin, entry_id: str) -> Iterator[_Step]:
    last: Mapping[str, JSON] | None = None
    for row in rows_of(admin, pb.ListAuditRequest(entry_id=entry_id)):
        event = event_of(row)
        revision = event.get("entry_revision")
        before, after = _entry(event.get("before")), _entry(event.get("after"))
        if before is not None and is_digest(before) and last is not None and same_entry(before, last):
            before = last
        last = after
        yield _Step(event=event, revision=revision if isinstance(revision, int) else 0, before=before, after=after)


def _entry(document: JSON) -> Mapping[str, JSON] | None:
    """The entry of a row, with what the record leaves out."""
    if not isinstance(document, dict):
        return None
    return document if is_digest(document) else {**LEFT_OUT, **document}
