"""Entries in files: read from those that `entry list -o json` or SPIRE prints. What the issuer did with a batch of them, printed."""

from collections.abc import Mapping

import click

from cognomen.cli.admin import Admin
from cognomen.cli.options import read_source
from cognomen.cli.output import Columns, View, counted, print_json, print_table, warn
from cognomen.cli.spireentries import from_spire, is_from_spire
from cognomen.protocol.durations import parse_duration
from cognomen.protocol.entry import EntryError, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.admin import document_from_message, entry_from_document
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON, json_value
from svid.errors import SpiffeIDError, SVIDError

__all__ = ["COLUMNS", "entries_from", "print_changed", "print_ended", "print_warnings"]

COLUMNS = Columns(
    table=("id", "spiffe_id", "parent_id", "selectors"),
    wide=(
        *("id", "spiffe_id", "parent_id", "selectors", "owner", "labels", "default", "hint", "dns_names", "audiences"),
        *("callers", "x509_svid_ttl", "jwt_svid_ttl", "federates_with", "admin", "downstream", "store_svid"),
        *("observe", "revision", "created_at", "expires_at"),
    ),
)
"""The keys of an entry that a table shows."""


def entries_from(source: str, admin: Admin, given: dict[str, JSON], *, whole: bool = False) -> list[RegistrationEntry]:
    """Read an array of entries, or an object with that array under "entries"; SPIRE's entries are accepted as well.

    Args:
        given: replaces in all of them what the file says.
        whole: one page of a longer list is refused.

    Raises:
        Refused: INVALID; the detail says which entry.
    """
    try:
        document: object = json_value(read_source(source).encode())
    except ValueError as e:
        raise Refused(Kind.INVALID, f"{source}: {e}") from e
    if isinstance(document, dict):
        if whole and document.get("next_page_token"):
            raise Refused(
                Kind.INVALID,
                f"{source}: expected all entries, found one page of them",
                hint="list them with: cognomen entry list --all --output json",
            )
        document = document.get("entries")
    if document == []:
        raise Refused(Kind.INVALID, f"{source}: expected at least 1 entry, found 0")
    if not isinstance(document, list):
        raise Refused(Kind.INVALID, f'{source}: expected an array of entries, or {{"entries": […]}}')
    entries = []
    for number, item in enumerate(document):
        try:
            ours = from_spire(item) if isinstance(item, dict) and is_from_spire(item) else item
            said = _in_seconds(ours) | given if isinstance(ours, dict) else ours
            entries.append(entry_from_document(said, admin.complete_id))
        except SVIDError as e:
            hint = _hint(item) if isinstance(e, SpiffeIDError) else ""
            raise Refused(Kind.INVALID, f"{source}: entries[{number}]: {e}", hint=hint) from e
    return entries


def _hint(item: object) -> str:
    """What to write where an entry has a text that is neither a SPIFFE ID nor a path."""
    for key in ("spiffe_id", "parent_id"):
        text = item.get(key) if isinstance(item, dict) else None
        if isinstance(text, str) and text and not text.startswith(("/", "spiffe:")):
            also = "; the SPIFFE ID of a node: cognomen node show NAME" if key == "parent_id" else ""
            return f"in a file, {key} is a SPIFFE ID, or a path such as /web{also}"
    return ""


def _in_seconds(document: Mapping[str, object]) -> dict[str, object]:
    """The same entry, with lifetimes such as 30m as seconds.

    Raises:
        EntryError: a text is neither a duration nor seconds.
    """
    found = dict(document)
    for key in ("x509_svid_ttl", "jwt_svid_ttl"):
        text = document.get(key)
        if isinstance(text, str) and not text.isdecimal():  # seconds without a unit are for the reader of entries
            try:
                found[key] = f"{int(parse_duration(text).total_seconds())}s"
            except ValueError as e:
                raise EntryError(f"{key}: {e}") from e
    return found


def print_changed(response: pb.EntriesResponse, view: View, *, dry_run: bool = False) -> None:
    """Print what became of a batch, or would become of it."""
    print_warnings(response)
    document = document_from_message(response)
    if view.output == "json":
        print_json({"dry_run": True, **document} if dry_run else document)
        return
    print_table(COLUMNS, list(map(document_from_message, response.entries)), view)
    if response.shortened:
        click.echo(
            f"the last {response.shortened} are too large for one answer: only their ids and revisions are shown"
        )
    print_ended(response, "would be " if dry_run else "")
    if dry_run:
        click.echo("dry run: nothing was changed")


def print_warnings(response: pb.EntriesResponse) -> None:
    """Print the issuer's warnings on standard error."""
    for warning in response.warnings:
        warn(warning)


def print_ended(response: pb.EntriesResponse, will: str = "") -> None:
    """Print how many credentials a batch ended.

    Args:
        will: before "revoked", if it only would end them.
    """
    if response.ended:
        click.echo(f"{will}revoked: {counted(response.ended, 'credential')}")
    if response.superseded:
        click.echo(f"{will}revoked once replaced, at most 30 s from now: {counted(response.superseded, 'credential')}")
