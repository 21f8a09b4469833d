"""Which rows of the record a command asks for: the options that several commands share, and how to fetch all pages."""

import json
import pwd
import re
from collections.abc import Iterator
from datetime import datetime
from typing import TypedDict

import click

from cognomen.cli.admin import Admin
from cognomen.cli.eventnames import names_of
from cognomen.cli.naming import known_id, with_node
from cognomen.cli.options import Renamed, moment
from cognomen.cli.serials import serial_from_text
from cognomen.protocol.auditlog import AuditRow
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.meaning import Nameable
from cognomen.protocol.names import ACTORS, node_id_of
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON, json_value

__all__ = ["FILTERS", "Filters", "asked", "check_order", "event_of", "rows_of"]

_PAGE = 1000
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,18}\+00:00")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

FILTERS = [
    click.Option(["--since"], type=moment, metavar="TIME", help="From that moment on, such as 2026-11-23T08:00:00Z."),
    click.Option(["--until"], type=moment, metavar="TIME", help="Before that moment."),
    click.Option(["--actor"], default="", help="Who asked: uid:1000, a node, a SPIFFE ID, issuer, stranger."),
    click.Option(["--action", "actions"], multiple=True, help="What was asked or done: entry updated; repeatable."),
    click.Option(
        ["--subject"], default="", help="The SPIFFE ID or id it is about; with / at the end, all that begin with it."
    ),
    Renamed(
        ["--node-id", "--node", "node"],
        default="",
        metavar="NODE",
        help="Rows that name this node: its id, name or SPIFFE ID.",
    ),
    click.Option(
        ["--agent"], default="", metavar="NAME", help="Rows about this agent of the rulebook, or a component of it."
    ),
    Renamed(["--entry-id", "--entry", "entry_id"], default="", metavar="ID", help="Changes of this entry."),
    click.Option(["--credential"], default="", metavar="SERIAL|JTI", help="Rows about this serial or jti."),
    click.Option(["--decision"], type=click.Choice(["allowed", "refused"]), help="Only those."),
    Renamed(
        ["--page-token", "--after", "after"],
        type=click.IntRange(0),
        default=0,
        metavar="ROW",
        help="Only rows after this one, as to go on from it: its number.",
    ),
]
"""The options that choose rows, for `params=`; `asked` takes their values."""


class Filters(TypedDict):
    """The values of the options."""

    since: datetime | None
    until: datetime | None
    actor: str
    actions: tuple[str, ...]
    subject: str
    node: str
    agent: str
    entry_id: str
    credential: str
    decision: str | None
    after: int


def asked(admin: Admin, filters: Filters) -> pb.ListAuditRequest:
    """The request for what the options say.

    Raises:
        Refused: NOT_FOUND for a name or an id that neither exists nor is on record.
    """
    check_order(filters["since"], filters["until"])
    request = pb.ListAuditRequest(
        after=filters["after"],
        actor=_actor(admin, filters["actor"]),
        actions=filters["actions"],
        subject=_subject(admin, filters["subject"]),
        node_id=_on_record(admin, Nameable.NODE, filters["node"]),
        agent=_agent(admin, filters["agent"]),
        entry_id=_on_record(admin, Nameable.ENTRY, filters["entry_id"]),
        credential=_on_record(admin, Nameable.CREDENTIAL, serial_from_text(filters["credential"])),
        decision=filters["decision"] or "",
    )
    for moment_of, field in ((filters["since"], request.since), (filters["until"], request.until)):
        if moment_of is not None:
            field.FromDatetime(moment_of)
    return request


def check_order(since: datetime | None, until: datetime | None) -> None:
    """Refuse a time that ends before it begins: no row could be in it."""
    if since is not None and until is not None and since > until:
        raise click.UsageError("expected a --since that is not after --until")


def rows_of(admin: Admin, request: pb.ListAuditRequest) -> Iterator[AuditRow]:
    """Every row that the request asks for."""
    request.page_size = _PAGE
    while True:
        page = admin.list_audit(request)
        for row in page.rows:
            yield AuditRow(number=row.number, body=row.body, hash=row.hash)
        if not page.next_after:
            return
        request.after = page.next_after


def event_of(row: AuditRow) -> dict[str, JSON]:
    """A row's number and its event, with its times in the form of all our documents (Z).

    A body that is not an event is shown unread, and verify says what is wrong with it.
    """
    try:
        event = json_value(row.body)
        if _SURROGATE.search(row.body):  # which cannot be printed
            event = json.loads(json.dumps(event, ensure_ascii=False).encode(errors="replace"))
    except ValueError:
        event = None
    if not isinstance(event, dict):
        return {"number": row.number, "unreadable": row.body.decode(errors="replace")}
    facts = event.get("facts")
    with_z = {"facts": {key: _with_z(fact) for key, fact in facts.items()}} if isinstance(facts, dict) else {}
    known = {key: _with_z(value) for key, value in event.items()}
    return {"number": row.number, **known, **with_z, **names_of(event)}


def _with_z(value: JSON) -> JSON:
    return f"{value[:-6]}Z" if isinstance(value, str) and _MOMENT.fullmatch(value) else value


def _actor(admin: Admin, text: str) -> str:
    """A path belongs to the issuer's trust domain, and an id is a node's; the record's own words for who acts mean nothing else."""
    if text in ACTORS:
        return text
    if text.startswith("/"):
        return str(admin.complete_id(text))
    try:
        return with_node(admin, text, past=True)
    except Refused as e:
        if e.kind is not Kind.NOT_FOUND:
            raise
        raise Refused(
            Kind.NOT_FOUND,
            f"actor: expected uid:UID, a node, a SPIFFE ID or one of {', '.join(sorted(ACTORS))}, found {text!r}",
            hint=_hint_of_uid(text) or "list the nodes: cognomen node list",
        ) from e


def _hint_of_uid(text: str) -> str:
    """What names the uid that somebody typed, or that of the user with this name on this machine."""
    try:
        uid = text if text.isascii() and text.isdecimal() else str(pwd.getpwnam(text).pw_uid)
    except (KeyError, ValueError):
        return ""
    return f"did you mean uid:{uid}?"


def _agent(admin: Admin, name: str) -> str:
    """The name of an agent that has entries, or that a row is about.

    Raises:
        Refused: NOT_FOUND
    """
    if not name:
        return ""
    own = pb.ListEntriesRequest(page_size=1, spiffe_id=str(admin.complete_id(f"/agent/{name}")), below=True)
    if admin.list_entries(own).entries or next(rows_of(admin, pb.ListAuditRequest(agent=name)), None) is not None:
        return name
    raise Refused(Kind.NOT_FOUND, f"agent: no row is about one called {name!r}", hint="list them: cognomen agent list")


def _on_record(admin: Admin, kind: Nameable, text: str) -> str:
    """The id that a text means. One that no table knows any more, or not yet, is taken if there is a row that names it."""
    try:
        return _bare(admin, kind, known_id(admin, kind, text, past=True))
    except Refused as e:
        if e.kind is not Kind.NOT_FOUND or not (found := _named_in_a_row(admin, kind, text)):
            raise
        return found


def _named_in_a_row(admin: Admin, kind: Nameable, text: str) -> str:
    """The id that a text is, if there is a row that names it; else nothing.

    An id that is known belongs to what the tables know: in a SPIFFE ID that they do not know, it is the id of something else.
    """
    bare = _bare(admin, kind, text)
    if not bare or (bare != text and _is_known(admin, kind, bare)):
        return ""
    return bare if next(rows_of(admin, _naming(kind, bare)), None) is not None else ""


def _is_known(admin: Admin, kind: Nameable, text: str) -> bool:
    try:
        return bool(known_id(admin, kind, text, past=True))
    except Refused as e:
        if e.kind is not Kind.NOT_FOUND:
            raise
        return False


def _bare(admin: Admin, kind: Nameable, text: str) -> str:
    """The id in the SPIFFE ID of a node of ours, or in its path; nothing in any other SPIFFE ID or path; any other text as it is."""
    if "/" not in text:
        return text
    if kind is not Nameable.NODE:
        return ""
    spiffe_id = admin.complete_id(text)
    return (node_id_of(spiffe_id) or "") if spiffe_id.is_member_of(admin.trust_domain) else ""


def _naming(kind: Nameable, text: str) -> pb.ListAuditRequest:
    match kind:
        case Nameable.NODE:
            return pb.ListAuditRequest(node_id=text)
        case Nameable.ENTRY:
            return pb.ListAuditRequest(entry_id=text)
        case _:
            return pb.ListAuditRequest(credential=text)


def _subject(admin: Admin, text: str) -> str:
    """A path belongs to the issuer's trust domain; one that ends with / is no SPIFFE ID, but all that begin with it."""
    if not text.startswith("/"):
        return text
    path = text.removesuffix("/")
    return (str(admin.complete_id(path)) if path else f"spiffe://{admin.trust_domain}") + text[len(path) :][:1]
