"""`cognomen why`: why a process has an identity, or none."""

import os
from contextlib import suppress
from datetime import UTC
from pathlib import Path

import click

from cognomen.cli.admin import connect, pages
from cognomen.cli.inspect import inspect
from cognomen.cli.options import GivenPath, attestor_socket_option, output_option
from cognomen.cli.output import print_document, print_json, print_table
from cognomen.daemon.errors import Refused
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2, inspect_pb2, node_pb2
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = ["why"]

_NONE = 1
_MATCHES = ("spiffe_id", "entry_id", "svid_not_after")
_NEAR = ("spiffe_id", "entry_id", "lacks")
_ELSEWHERE = ("spiffe_id", "entry_id", "parent_id")
_EXPIRED = ("spiffe_id", "entry_id", "expires_at")
_BLOCKED = ("spiffe_id", "entry_id", "revocation", "at", "reason", "comment")


@click.command()
@click.option("--pid", type=click.IntRange(1, 2**31 - 1), help="Of this process.  [default: this very command]")
@click.option(
    "--admin-socket",
    type=GivenPath(),
    envvar="COGNOMEN_ADMIN_SOCKET",
    show_envvar=True,
    default="/run/cognomen/admin/issuer.sock",
    show_default=True,
    help="Where the issuer is on this machine, too: entries of its uid that are blocked, have ended, or belong to other nodes.",
)
@attestor_socket_option
@output_option
def why(pid: int | None, admin_socket: Path, socket: str, output: str) -> int:
    """Say why a process has an identity, or none: what it shows, which entries match, what it lacks for the nearest.

    Asked on its node. Everybody may ask about processes of their own uid, and hears of
    entries that name that uid; the attestor's user and root may ask about all.

    Exit code 1 when nothing matches.

    \b
    Examples:
      cognomen why
      cognomen why --pid $(pidof db)
    """  # noqa: D301 - \b is click's mark
    document = inspect("Explain", inspect_pb2.ExplainRequest(pid=pid or 0), inspect_pb2.Explanation, socket)
    document |= _at_the_issuer(admin_socket, document)
    if output == "json":
        print_json(document)
    else:
        _print(document)
    return 0 if document["matches"] else _NONE


def _at_the_issuer(admin_socket: Path, document: dict[str, JSON]) -> dict[str, JSON]:
    """The entries of that uid which a revocation blocks, have ended, or are not this node's, where the issuer can be asked."""
    blocked: list[JSON] = []
    expired: list[JSON] = []
    elsewhere: list[JSON] = []
    uid = node_pb2.Selector(type="unix", value=f"uid:{document['uid']}")
    if os.access(admin_socket, os.W_OK):
        with suppress(Refused), connect(admin_socket) as admin:
            asked = admin_pb2.ListBlockedRequest(node_id=str(document["node_spiffe_id"]), selector=uid)
            with suppress(Refused):  # an issuer that does not know this node knows its entries all the same
                blocked.extend(map(_blocked, admin.list_blocked(asked).blocked))
            request = admin_pb2.ListEntriesRequest(page_size=100, selector=uid)
            found = [one for page in pages(admin.list_entries, request, every=False) for one in page.entries]
            told = {row["entry_id"] for key in ("matches", "near") for row in _rows(document[key])}
            told |= {row["entry_id"] for row in _rows(blocked)}
            for one in found:
                if one.id in told:
                    continue
                if one.HasField("expires_at") and one.expires_at.ToDatetime(tzinfo=UTC) <= SystemClock().now():
                    expired.append(_row(one, _EXPIRED))
                else:
                    elsewhere.append(_row(one, _ELSEWHERE))
    return {"blocked": blocked, "expired": expired, "elsewhere": elsewhere}


def _row(entry: node_pb2.Entry, columns: tuple[str, ...]) -> JSON:
    row = document_from_message(entry)
    row["entry_id"] = row["id"]
    return {column: row[column] for column in columns}


def _blocked(one: admin_pb2.Blocked) -> JSON:
    revocation = document_from_message(one.revocation)
    said = {key: revocation[key] for key in ("at", "actor", "reason", "comment")}
    return {"entry_id": one.entry_id, "spiffe_id": one.spiffe_id, "revocation": revocation["number"], **said}


def _print(document: dict[str, JSON]) -> None:
    print_document({key: document[key] for key in ("pid", "uid", "selectors", "node_spiffe_id")})
    parts = (
        ("matches", _MATCHES, "its identities, the default one first:"),
        ("near", _NEAR, "near, but it lacks:"),
        (
            "blocked",
            _BLOCKED,
            "blocked by a revocation, until it is lifted (cognomen revoke lift NUMBER):",
        ),
        ("expired", _EXPIRED, "of its uid, but it has ended:"),
        (
            "elsewhere",
            _ELSEWHERE,
            "of its uid, but not this node's: the parent is neither this node nor a group of it:",
        ),
    )
    for key, columns, title in parts:
        if rows := _rows(document[key]):
            click.echo(f"\n{title}")
            print_table(columns, [[row[column] for column in columns] for row in rows])
    if not document["matches"]:
        click.echo(
            "\nno identity: an entry matches when the process shows all of its selectors, and its parent is this"
        )
        click.echo(f"node ({document['node_spiffe_id']}) or a group that the node belongs to")
        if not document["blocked"]:
            click.echo(
                "or a revocation blocks it: ask the operator (cognomen why with the admin socket, cognomen revoke list)"
            )


def _rows(found: JSON) -> list[dict[str, JSON]]:
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
