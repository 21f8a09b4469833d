"""`cognomen why`: explain why a process has an identity, or has none."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from itertools import islice
from pathlib import Path

import click

from cognomen.cli.admin import connect, pages
from cognomen.cli.cells import text_of
from cognomen.cli.inspect import inspecting
from cognomen.cli.nodeparents import Place, Whose
from cognomen.cli.options import SocketPath, attestor_socket_option, output_option
from cognomen.cli.output import Columns, View, print_document, print_json, print_table, same_columns, warn
from cognomen.cli.storedkeys import environment_of, winning
from cognomen.protocol.errors import Refused
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import never_match_together, never_matches
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2, inspect_pb2, node_pb2
from svid.clock import SystemClock
from svid.encoding import JSON
from svid.spiffeid import SpiffeID

__all__ = ["none_because", "useless", "why"]

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
    help="If the issuer runs on this machine: also shows entries of the same uid that are blocked, expired, or on other nodes.",
)
@attestor_socket_option
@output_option
def why(pid: int | None, admin_socket: Path, socket: str, output: str) -> int:
    """Explain why a process has an identity, or has none.

    Shows the selectors of the process, the entries that match, and what it lacks for those
    that nearly match. Run the command on the node of the process. Any user may ask about
    processes of the same uid, and sees entries that name that uid; the attestor's user and
    root may ask about all.

    A warning names an API key in the environment of the process, if the provider's SDK would
    take that instead of the identity.

    Exit code 1 if nothing matches.

    \b
    Examples:
      cognomen why
      cognomen why --pid $(pidof db)
    """  # noqa: D301 - \b is click's mark
    with inspecting(socket) as inspect:
        document = document_from_message(inspect.explain(inspect_pb2.ExplainRequest(pid=pid or 0)))
    found, knows_blocks = _at_the_issuer(admin_socket, document)
    document |= found
    winning_keys = dict(winning(environment_of(pid or 0)))
    document["winning_keys"] = [*winning_keys]
    if output == "json":
        print_json(document)
    else:
        _print(document, output, knows_blocks=knows_blocks)
        for key, identity in winning_keys.items():
            warn(f"{key} is in the environment of this process, and wins over {identity}: remove it there")
    return 0 if document["matches"] else _NONE


def _at_the_issuer(admin_socket: Path, document: dict[str, JSON]) -> tuple[dict[str, JSON], bool]:
    """The entries of that uid that are blocked by a revocation, have expired, or belong to other nodes, if we can ask the issuer.

    Returns:
        They, and whether the issuer said which are blocked.
    """
    knows_blocks = False
    blocked: list[JSON] = []
    expired: list[JSON] = []
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
    lists |= {"blocked": blocked, "expired": expired}
    return {
        **{key: [*rows] for key, rows in lists.items()},
        "blocked_more": blocked_more,
        "elsewhere_more": elsewhere_more,
    }, knows_blocks


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
    for line in useless(_rows(document["near"])):
        click.echo(f"\n{text_of(line)}")
    if left_out := document.get("left_out"):
        click.echo(
            f"\nthe last {left_out} of its identities reach no workload, because clients accept messages of at most 4 MiB:"
        )
        click.echo("give entries narrower selectors")
    if lines := list(none_because(document, knows_blocks=knows_blocks)):
        click.echo("\n" + "\n".join(map(text_of, lines)))


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
    here = f"its parent is this node ({document['node_spiffe_id']}) or a group that the node belongs to"
    if document.get("blocked"):
        yield "no identity: the blocked entries above give none until their revocations are lifted;"
        yield f"another entry would match if the process had all of its selectors, and {here}"
    else:
        yield "no identity: an entry matches if the process has all of its selectors, and"
        yield here
    if not knows_blocks:
        yield "an entry that matches may still be blocked by a revocation:"
        yield "ask the operator (cognomen why with the admin socket, cognomen revoke list)"


def _rows(found: JSON) -> list[dict[str, JSON]]:
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
