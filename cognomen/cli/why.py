"""`cognomen why`: explain why a process has an identity, or has none."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from itertools import islice
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.askednode import AskedNode, asked_of
from cognomen.cli.cells import text_of
from cognomen.cli.inforce import in_force
from cognomen.cli.inspect import inspecting
from cognomen.cli.nodeparents import Place, Whose
from cognomen.cli.options import SocketPath, attestor_socket_option, output_option
from cognomen.cli.output import Columns, View, print_document, print_json, print_table, same_columns, warn
from cognomen.cli.storedkeys import environment_of, winning
from cognomen.cli.suspended import suspended_rows
from cognomen.protocol.audiences import MUST_LIST
from cognomen.protocol.errors import Refused
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import never_match_together, never_matches
from cognomen.wire.admin import document_from_message
from cognomen.wire.node import selector_from_pb
from cognomen.wire.pb import admin_pb2, inspect_pb2, node_pb2
from svid.clock import SystemClock
from svid.encoding import JSON
from svid.spiffeid import SpiffeID

__all__ = ["audience_is_allowed", "audience_lines", "none_because", "useless", "why"]

_NONE = 1
_MOST_ELSEWHERE = 100
_MATCHES = same_columns("spiffe_id", "entry_id", "svid_not_after")
_OBSERVED = same_columns("spiffe_id", "entry_id")
_NEAR = same_columns("spiffe_id", "entry_id", "lacks")
_ELSEWHERE = same_columns("spiffe_id", "entry_id", "parent_id")
_EXPIRED = same_columns("spiffe_id", "entry_id", "expires_at")
_BLOCKED = Columns(
    table=("spiffe_id", "entry_id", "revocation", "at", "comment"),
    wide=("spiffe_id", "entry_id", "revocation", "at", "actor", "reason", "comment"),
)
_SUSPENDED = Columns(
    table=("spiffe_id", "suspended", "at", "actor", "comment"),
    wide=("spiffe_id", "suspended", "at", "actor", "login", "comment", "not_looked_at"),
)


@click.command()
@click.option(
    "--pid", type=click.IntRange(1, 2**31 - 1), help="The process to explain.  [default: this command itself]"
)
@click.option(
    "--admin-socket",
    type=SocketPath(),
    envvar="COGNOMEN_ADMIN_SOCKET",
    show_envvar=True,
    default="/run/cognomen/admin/issuer.sock",
    show_default=True,
    help="If the issuer runs on this machine: also shows suspensions, and entries of its uid that are blocked, expired, or on other nodes.",
)
@click.option("--audience", help="Also say which of its identities get a JWT-SVID for this audience.")
@attestor_socket_option
@output_option
def why(pid: int | None, admin_socket: Path, audience: str | None, socket: str, output: str) -> int:
    """Explain why a process has an identity, or has none.

    Shows the selectors of the process, the entries that match, and what it lacks for those
    that nearly match. Run the command on the node of the process. Any user may ask about
    processes of the same uid, and sees entries that name that uid; the attestor's user and
    root may ask about all.

    A rule may list the audiences for which its identity gets JWT-SVIDs: they are shown for
    each identity. A warning names an API key in the environment of the process, if the
    provider's SDK would take that instead of the identity.

    Exit code 1 if nothing matches, or if no identity gets a JWT-SVID for --audience.

    \b
    Examples:
      cognomen why
      cognomen why --pid $(pidof db)
      cognomen why --pid $(pidof agent) --audience https://api.anthropic.com
    """  # noqa: D301 - \b is click's mark
    with inspecting(socket) as inspect:
        answer = inspect.explain(inspect_pb2.ExplainRequest(pid=pid or 0))
    document = document_from_message(answer)
    found, knows_blocks = _at_the_issuer(admin_socket, document, asked_of(answer))
    document |= found
    if audience is not None:
        document["audience"] = audience
        document["audience_allowed"] = [
            row["spiffe_id"] for row in _rows(document["matches"]) if _allows(row, audience)
        ]
    winning_keys = dict(winning(environment_of(pid or 0)))
    document["winning_keys"] = [*winning_keys]
    if output == "json":
        print_json(document)
    else:
        _print(document, output, knows_blocks=knows_blocks)
        for key, meaning in winning_keys.items():
            warn(f"{key} is in the environment of this process, {meaning}: remove it there")
    return 0 if document["matches"] and audience_is_allowed(document) else _NONE


def _at_the_issuer(admin_socket: Path, document: dict[str, JSON], process: AskedNode) -> tuple[dict[str, JSON], bool]:
    """The entries of that uid that are blocked by a revocation, have expired, or belong to other nodes, if we can ask the issuer.

    And what it would be, if that were not suspended.

    Returns:
        They, and whether the issuer said which are blocked.
    """
    knows_blocks = False
    blocked: list[JSON] = []
    expired: list[JSON] = []
    suspended: list[JSON] = []
    lists: dict[str, list[JSON]] = {place: [] for place in Place}
    blocked_more = elsewhere_more = False
    uid = node_pb2.Selector(type="unix", value=f"uid:{document['uid']}")
    if os.access(admin_socket, os.W_OK):
        with suppress(Refused), connect(admin_socket) as admin:
            asked = admin_pb2.ListBlockedRequest(node_id=str(document["node_spiffe_id"]), selector=uid)
            with suppress(Refused):  # an issuer that does not know this node still knows the entries
                answer = admin.list_blocked(asked)
                blocked.extend(map(_blocked, answer.blocked))
                blocked_more = answer.more
                knows_blocks = True
            with suppress(Refused):  # no rulebook was applied
                suspended.extend(_suspended(admin, process))
            request = admin_pb2.ListEntriesRequest(page_size=_MOST_ELSEWHERE, selector=uid)
            each = (one for page in pages(admin.list_entries, request, every=True) for one in page.entries)
            found = list(islice(each, _MOST_ELSEWHERE))  # a page of large entries is short
            elsewhere_more = next(each, None) is not None
            told = {row["entry_id"] for key in ("matches", "near", "observed") for row in _rows(document[key])}
            told |= {row["entry_id"] for row in _rows(blocked)}
            whose = Whose(admin, str(document["node_spiffe_id"]))
            for one in found:
                if one.id in told:
                    continue
                if one.HasField("expires_at") and one.expires_at.ToDatetime(tzinfo=UTC) <= SystemClock().now():
                    expired.append(_row(one, _EXPIRED))
                else:
                    lists[whose.parent(one.parent_id)].append(_row(one, _ELSEWHERE))
    lists |= {"blocked": blocked, "expired": expired, "suspended": suspended}
    return {
        **{key: [*rows] for key, rows in lists.items()},
        "blocked_more": blocked_more,
        "elsewhere_more": elsewhere_more,
    }, knows_blocks


def _suspended(admin: Admin, process: AskedNode) -> Iterator[JSON]:
    if not admin.list_held_agents().agents:  # most of the time: a large rulebook takes long to read
        return
    node = admin.get_node(admin_pb2.GetNodeRequest(id=str(admin.complete_id(process.node_path))))
    yield from suspended_rows(in_force(admin), process, frozenset(map(selector_from_pb, node.selectors)))


def useless(near: Iterable[Mapping[str, JSON]]) -> Iterator[str]:
    """Say which of the nearly matching entries no program can match, and why; an earlier release accepted them."""
    for row in near:
        lacks = _selectors(row["lacks"])
        for lacking in lacks:
            if expected := never_matches(lacking):
                yield f"{row['spiffe_id']}: expected {expected}, found {lacking}, which matches nothing"
        if expected := never_match_together(_selectors(row.get("selectors")) or lacks):
            yield f"{row['spiffe_id']}: expected {expected}"


def _selectors(texts: JSON) -> list[Selector]:
    return [Selector.parse(str(text)) for text in texts] if isinstance(texts, list) else []


def _row(entry: node_pb2.Entry, columns: Columns) -> JSON:
    row = document_from_message(entry)
    row["entry_id"] = row["id"]
    return {column: row[column] for column in columns.wide}


def _blocked(one: admin_pb2.Blocked) -> JSON:
    revocation = document_from_message(one.revocation)
    said = {key: revocation[key] for key in ("at", "actor", "reason", "comment")}
    return {"entry_id": one.entry_id, "spiffe_id": one.spiffe_id, "revocation": revocation["number"], **said}


def _print(document: dict[str, JSON], output: str, *, knows_blocks: bool) -> None:
    node = SpiffeID.parse(str(document["node_spiffe_id"]))
    view = View(output=output, trust_domain=node.trust_domain.name)
    print_document({key: document[key] for key in ("pid", "uid", "selectors", "node_spiffe_id")})
    parts = (
        ("matches", _MATCHES, "its identities, the default one first:"),
        ("observed", _OBSERVED, "it would be, but that rule only observes:"),
        ("near", _NEAR, "entries that nearly match, and what it lacks:"),
        (
            "blocked",
            _BLOCKED,
            "blocked by a revocation, until it is lifted (cognomen revoke lift NUMBER):",
        ),
        ("suspended", _SUSPENDED, "suspended beside the rules, until it is resumed (cognomen agent resume SUSPENDED):"),
        ("expired", _EXPIRED, "of its uid, but expired:"),
        (Place.HERE, _ELSEWHERE, "of its uid and this node, but not among those above:"),
        (
            Place.ELSEWHERE,
            _ELSEWHERE,
            "of its uid, but on other nodes (the parent is neither this node nor a group of it):",
        ),
        (Place.NOWHERE, _ELSEWHERE, "of its uid, but on no node (no node or node group is the parent):"),
    )
    if unseen := document.get("unseen"):
        click.echo("\nsome selectors that entries require cannot be determined:")
        for one in unseen if isinstance(unseen, list) else []:
            click.echo(f"  {text_of(one)}")
    for key, columns, title in parts:
        if rows := _rows(document[key]):
            click.echo(f"\n{title}")
            print_table(columns, rows, view)
        if document.get(f"{key}_more"):
            click.echo("and more")
        if key == "matches" and rows:
            click.echo("\n" + "\n".join(map(text_of, audience_lines(rows))))
    for line in useless(_rows(document["near"])):
        click.echo(f"\n{text_of(line)}")
    if left_out := document.get("left_out"):
        click.echo(
            f"\nthe last {left_out} of its identities reach no workload, because clients accept messages of at most 4 MiB:"
        )
        click.echo("give entries narrower selectors")
    if lines := [*_no_token(document), *none_because(document, knows_blocks=knows_blocks)]:
        click.echo("\n" + "\n".join(map(text_of, lines)))


def audience_lines(rows: Iterable[Mapping[str, JSON]]) -> Iterator[str]:
    """Say for each identity which audiences its JWT-SVIDs may be for."""
    for row in rows:
        listed = row.get("audiences")
        path = SpiffeID.parse(str(row["spiffe_id"])).path
        if not isinstance(listed, list):
            yield f"{path}: JWT-SVIDs for any audience"
        else:
            yield f"{path}: JWT-SVIDs only for {', '.join(map(str, listed))}" if listed else f"{path}: no JWT-SVIDs"


def audience_is_allowed(document: Mapping[str, JSON]) -> bool:
    """Whether somebody gets a JWT-SVID for --audience, or nobody asked."""
    return "audience" not in document or bool(document["audience_allowed"])


def _no_token(document: Mapping[str, JSON]) -> Iterator[str]:
    if document["matches"] and not audience_is_allowed(document):
        yield f"no JWT-SVID for {document['audience']}: {MUST_LIST}"


def _allows(row: Mapping[str, JSON], audience: str) -> bool:
    listed = row.get("audiences")
    return not isinstance(listed, list) or audience in listed


def none_because(document: Mapping[str, JSON], *, knows_blocks: bool) -> Iterator[str]:
    """Say why it has no identity at all, if it has none.

    Args:
        knows_blocks: whether the issuer said which entries are blocked.
    """
    if withdrawn := document.get("withdrawn"):
        yield f"no identity for anybody on this node, whatever the entries are: {withdrawn}"
        return
    if document["matches"]:
        return
    if observed := _rows(document.get("observed", [])):
        for row in observed:
            path = SpiffeID.parse(str(row["spiffe_id"])).path
            yield f"no identity: it would be {path}; that rule only observes (nothing is issued until its mode is enforce)"
        return
    yield from (lines := [_said_suspended(row) for row in _rows(document.get("suspended", []))])
    here = f"its parent is this node ({document['node_spiffe_id']}) or a group that the node belongs to"
    if lines:
        yield f"otherwise, an entry matches if the process has all of its selectors, and {here}"
    elif document.get("blocked"):
        yield "no identity: the blocked entries above give none until their revocations are lifted;"
        yield f"another entry would match if the process had all of its selectors, and {here}"
    else:
        yield "no identity: an entry matches if the process has all of its selectors, and"
        yield here
    if not knows_blocks:
        yield "an entry that matches may still be blocked by a revocation:"
        yield "ask the operator (cognomen why with the admin socket, cognomen revoke list)"


def _said_suspended(row: Mapping[str, JSON]) -> str:
    path, name, unlooked = SpiffeID.parse(str(row["spiffe_id"])).path, row["suspended"], row["not_looked_at"]
    if isinstance(unlooked, list) and unlooked:
        may = f"it may be {path}, depending on {' and '.join(map(str, unlooked))}, at which the attestor did not look"
    else:
        may = f"it would be {path}"
    by = f"{row['actor']} {row['comment']}".strip()
    return f"no identity: {may}; but {name} is suspended beside the rules by {by}: cognomen agent resume {name}"


def _rows(found: JSON) -> list[dict[str, JSON]]:
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
