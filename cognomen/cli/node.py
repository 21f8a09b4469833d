"""`cognomen node`: invite nodes, look at those that joined, and send them away."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.options import (
    GivenPath,
    admin_socket_option,
    duration,
    each_once,
    every_page_option,
    label,
    output_option,
    page_size_option,
    page_token_option,
)
from cognomen.cli.output import print_document, print_json, print_page, warn
from cognomen.daemon.invite import Invite
from cognomen.daemon.privatefile import write_private
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["node"]

_COLUMNS = ("id", "spiffe_id", "state", "connected", "svid_not_after", "selectors")


@click.group()
def node() -> None:
    """Invite nodes, look at those that joined, and send them away."""


@node.command()
@click.option(
    "--label",
    "labels",
    type=label,
    multiple=True,
    callback=each_once,
    metavar="KEY=VALUE",
    help="A node selector; repeatable.",
)
@click.option("--ttl", type=duration, help="How long the invite is good, such as 10m.  [default: the issuer's]")
@click.option("--node", "node_id", default="", metavar="ID", help="For a node that joined before and stays the same.")
@click.option("--write", "file", type=GivenPath(), help="Write it to a file, mode 0600, instead.")
@output_option
@admin_socket_option
def invite(
    labels: tuple[tuple[str, str], ...],
    ttl: timedelta | None,
    node_id: str,
    file: Path | None,
    output: str,
    socket: Path,
) -> None:
    """Make an invite: one string that admits one node, once.

    It holds a secret: hand it over by a file or a pipe. A label team=travel becomes the
    node selector join_token:label:team:travel, which a node group can ask for.

    --node is for a node that was away for too long: it comes back as itself by cognomen
    attestor rejoin. One that was evicted joins as a new node: without --node.

    \b
    Examples:
      cognomen node invite --label team=travel | ssh node cognomen attestor run --invite -
      cognomen node invite --node ID | ssh node cognomen attestor rejoin --invite -
    """  # noqa: D301 - \b is click's mark
    request = pb.CreateInviteRequest(labels=dict(labels))
    if ttl is not None:
        request.ttl.FromTimedelta(ttl)
    with connect(socket) as admin:
        request.node_id = str(admin.complete_id(node_id)) if node_id.startswith("/") else node_id
        made = admin.create_invite(request)
    document = document_from_message(made)
    _warn_of_loopback(Invite.parse(made.invite))
    if file is not None:
        write_private(file, f"{made.invite}\n".encode())
        document["invite"] = ""
    if output == "json":
        print_json(document)
        return
    if file is None:
        click.echo(made.invite)
    click.echo(f"for {made.node_spiffe_id}, until {document['expires_at']}", err=True)


def _warn_of_loopback(made: Invite) -> None:
    if found := made.loopback_addresses:
        warn(
            f"this invite is only for attestors on this machine: it names {' and '.join(found)}; for others, set"
            " advertised_node_address and advertised_join_address in the issuer's configuration"
        )


@node.command("list")
@page_size_option
@page_token_option
@every_page_option
@output_option
@admin_socket_option
def list_nodes(page_size: int, page_token: str, every_page: bool, output: str, socket: Path) -> None:
    """List the nodes that joined.

    \b
    Example:
      cognomen node list --output json | jq '.nodes[] | select(.connected | not) | .id'
    """  # noqa: D301 - \b is click's mark
    request = pb.ListNodesRequest(page_size=page_size, page_token=page_token)
    with connect(socket) as admin:
        found = list(pages(admin.list_nodes, request, every=every_page))
    nodes = [document_from_message(one) for page in found for one in page.nodes]
    print_page("nodes", _COLUMNS, nodes, found[-1].next_page_token, output)


@node.command()
@click.argument("node_id", metavar="ID")
@output_option
@admin_socket_option
def show(node_id: str, output: str, socket: Path) -> None:
    """Show one node, by its id, its SPIFFE ID or its path.

    \b
    Example:
      cognomen node show spiffe://example.org/cognomen/node/join_token/ID
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        name = str(admin.complete_id(node_id)) if node_id.startswith("/") else node_id
        document = document_from_message(admin.get_node(name))
    (print_json if output == "json" else print_document)(document)


@node.command()
@click.argument("node_ids", metavar="ID...", nargs=-1, required=True)
@output_option
@admin_socket_option
def evict(node_ids: tuple[str, ...], output: str, socket: Path) -> None:
    """Forget nodes: their feed ends at once, and none of their calls is answered.

    Such a node comes again only as another one, with a new invite. Its SVID and what its
    workloads hold is revoked: who shows it is refused.

    \b
    Example:
      cognomen node evict ID
    """  # noqa: D301 - \b is click's mark
    _send_away(node_ids, lambda admin, name: admin.evict_node(name), output, socket)


@node.command()
@click.argument("node_ids", metavar="ID...", nargs=-1, required=True)
@output_option
@admin_socket_option
def ban(node_ids: tuple[str, ...], output: str, socket: Path) -> None:
    """Ban nodes: as evict, but they stay on the books, and no invite lets them in again.

    \b
    Example:
      cognomen node ban ID
    """  # noqa: D301 - \b is click's mark
    _send_away(node_ids, lambda admin, name: admin.ban_node(name), output, socket)


@node.command()
@click.option(
    "--expired-for",
    type=duration,
    default="30d",
    show_default=True,
    metavar="DURATION",
    help="Whose SVID ended that long ago.",
)
@click.option("--dry-run", is_flag=True, help="Only show which they are.")
@output_option
@admin_socket_option
def purge(expired_for: timedelta, dry_run: bool, output: str, socket: Path) -> None:
    """Forget the nodes that never came back; banned ones stay.

    \b
    Example:
      cognomen node purge --expired-for 90d --dry-run
    """  # noqa: D301 - \b is click's mark
    request = pb.PurgeNodesRequest(dry_run=dry_run)
    request.expired_for.FromTimedelta(expired_for)
    with connect(socket) as admin:
        purged = admin.purge_nodes(request).nodes
    print_page("nodes", _COLUMNS, [document_from_message(one) for one in purged], "", output)


def _send_away(node_ids: tuple[str, ...], send: Callable[[Admin, str], pb.Node], output: str, socket: Path) -> None:
    with connect(socket) as admin:
        names = [str(admin.complete_id(name)) if name.startswith("/") else name for name in node_ids]
        gone = [document_from_message(send(admin, name)) for name in names]
    print_page("nodes", _COLUMNS, gone, "", output)
