"""`cognomen node`: invite nodes, list those that joined, rename, evict, ban and unban them."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.naming import full_id, full_ids
from cognomen.cli.options import (
    GivenPath,
    Labels,
    Renamed,
    admin_socket_option,
    comment_option,
    duration,
    every_page_option,
    output_option,
    page_size_option,
    page_token_option,
)
from cognomen.cli.output import Columns, print_document, print_json, print_page, warn
from cognomen.process.privatefile import private_writer
from cognomen.protocol.invite import Invite
from cognomen.protocol.meaning import Nameable
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON

__all__ = ["node"]

_COLUMNS = Columns(
    table=("name", "id", "state", "connected", "address", "last_seen", "selectors"),
    wide=(
        *("name", "id", "spiffe_id", "attestor", "state", "connected", "address", "last_seen", "attested_at"),
        *(
            "current_serial",
            "pending_serial",
            "svid_not_after",
            "returns_until",
            "acknowledged",
            "uses_since",
            "uses_until",
            "selectors",
        ),
    ),
)


@click.group()
def node() -> None:
    """Invite nodes, list those that joined, rename, evict, ban and unban them.

    Where a command takes a NODE, give its id, its name, its SPIFFE ID or its path.
    """


@node.command()
@click.option("--label", "labels", cls=Labels, help="A label for the node, which becomes a selector; repeatable.")
@click.option("--ttl", type=duration, help="How long the invite is valid, such as 10m.  [default: the issuer's]")
@click.option(
    "--node-id",
    "--node",
    cls=Renamed,
    default="",
    metavar="NODE",
    help="Invite a node that joined before, as the same node.",
)
@click.option(
    "--without-token",
    is_flag=True,
    help="For nodes that prove an identity of their own: it only says where the issuer is.",
)
@click.option(
    "--write", "file", type=GivenPath(), help="Write the invite to a file, mode 0600, instead of printing it."
)
@comment_option
@output_option
@admin_socket_option
def invite(
    labels: tuple[tuple[str, str], ...],
    ttl: timedelta | None,
    node_id: str,
    without_token: bool,
    file: Path | None,
    comment: str,
    output: str,
    socket: Path,
) -> None:
    """Make an invite: one string that admits one node, once.

    It holds a secret, so pass it on in a file or a pipe. A label team=travel becomes the node
    selector join_token:label:team:travel, which a node group can require.

    --node-id is for a node that was away for too long: with cognomen attestor rejoin, it comes
    back as the same node. A node that was evicted joins as a new one: leave out --node-id.

    --without-token is for nodes whose node attestor takes no token: the invite admits nobody,
    and any number of nodes can use it.

    \b
    Examples:
      cognomen node invite --label team=travel | ssh node cognomen attestor run \\
        --invite -
      cognomen node invite --node-id web-1 | ssh node cognomen attestor rejoin \\
        --invite -
    """  # noqa: D301 - \b is click's mark
    request = pb.CreateInviteRequest(labels=dict(labels), without_token=without_token, comment=comment)
    if ttl is not None:
        request.ttl.FromTimedelta(ttl)
    with ExitStack() as leaving:
        write = leaving.enter_context(private_writer(file)) if file is not None else None
        with connect(socket) as admin:
            request.node_id = full_id(admin, Nameable.NODE, node_id)
            made = admin.create_invite(request)
        if file is not None and file.exists():
            warn(f"{file}: replaced; an invite that was in it stays valid until it expires, but nobody has it any more")
        if write is not None:
            write(f"{made.invite}\n".encode())
    document = document_from_message(made)
    _warn_of_loopback(Invite.parse(made.invite))
    if file is not None:
        document["invite"] = ""
    if output == "json":
        print_json(document)
        return
    if file is None:
        click.echo(made.invite)
    click.echo(
        "it admits nobody" if without_token else f"for {made.node_spiffe_id}, until {document['expires_at']}", err=True
    )


def _warn_of_loopback(made: Invite) -> None:
    if found := made.loopback_addresses:
        warn(
            f"this invite works only for attestors on this machine, because it names {' and '.join(found)}; for others, set"
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

    The state is active, banned, or lost: the last SVID of a lost node expired while it was
    away. Until returns_until (with -o wide), a lost node comes back on its own once its attestor
    runs and reaches the issuer. After that, it needs an invite:
    cognomen node invite --node-id.

    A node is named after its host, or as node_name in the attestor's configuration says; -2,
    -3 and so on keep names apart. The address and the time are those of its last call.

    \b
    Example:
      cognomen node list --output json \\
        | jq '.nodes[] | select(.connected | not) | .id'
    """  # noqa: D301 - \b is click's mark
    request = pb.ListNodesRequest(page_size=page_size, page_token=page_token)
    with connect(socket) as admin:
        found = list(pages(admin.list_nodes, request, every=every_page))
        view = admin.view(output)
    nodes = [document_from_message(one) for page in found for one in page.nodes]
    if not page_token and not found[-1].next_page_token:  # pages are in the order of ids, which nobody reads
        nodes.sort(key=_by_name)
    print_page("nodes", _COLUMNS, nodes, found[-1].next_page_token, view)


@node.command()
@click.argument("node_id", metavar="NODE")
@output_option
@admin_socket_option
def show(node_id: str, output: str, socket: Path) -> None:
    """Show one node, by its id, its name, its SPIFFE ID or its path.

    \b
    Examples:
      cognomen node show web-1
      cognomen node show spiffe://example.org/cognomen/node/join_token/ID
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        name = full_id(admin, Nameable.NODE, node_id)
        document = document_from_message(admin.get_node(pb.GetNodeRequest(id=name)))
    (print_json if output == "json" else print_document)(document)


@node.command()
@click.argument("node_id", metavar="NODE")
@click.argument("name", metavar="NEW-NAME")
@comment_option
@output_option
@admin_socket_option
def rename(node_id: str, name: str, comment: str, output: str, socket: Path) -> None:
    """Give a node another name: letters, digits, dots, dashes and underscores.

    Names are for people: nothing that the issuer decides depends on one. The node keeps it
    when it joins again as the same node.

    \b
    Example:
      cognomen node rename localhost build-7
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        request = pb.RenameNodeRequest(id=full_id(admin, Nameable.NODE, node_id), name=name, comment=comment)
        document = document_from_message(admin.rename_node(request))
    (print_json if output == "json" else print_document)(document)


@node.command()
@click.argument("node_ids", metavar="NODE...", nargs=-1, required=True)
@comment_option
@output_option
@admin_socket_option
def evict(node_ids: tuple[str, ...], comment: str, output: str, socket: Path) -> None:
    """Forget nodes: their feeds end at once, and their calls are refused.

    The machine of an evicted node can join only as a new node: with a new invite, or by
    proving itself again if it has an identity of its own. The SVIDs of the node and those of
    its workloads are revoked, so verifiers refuse them.

    \b
    Example:
      cognomen node evict web-1
    """  # noqa: D301 - \b is click's mark
    _send_away(node_ids, Admin.evict_node, comment, output, socket)


@node.command()
@click.argument("node_ids", metavar="NODE...", nargs=-1, required=True)
@comment_option
@output_option
@admin_socket_option
def ban(node_ids: tuple[str, ...], comment: str, output: str, socket: Path) -> None:
    """Ban nodes: like evict, but they stay listed, and cannot come back as these nodes.

    If the machine of a banned node joins by token, a new invite lets it in as a new node. A
    machine that proves an identity of its own is kept out. Only cognomen node unban ends a
    ban: it forgets the node and the ban.

    \b
    Example:
      cognomen node ban web-1
    """  # noqa: D301 - \b is click's mark
    _send_away(node_ids, Admin.ban_node, comment, output, socket)


@node.command()
@click.argument("node_ids", metavar="NODE...", nargs=-1, required=True)
@comment_option
@output_option
@admin_socket_option
def unban(node_ids: tuple[str, ...], comment: str, output: str, socket: Path) -> None:
    """Forget banned nodes and their bans: their machines may join as new nodes.

    A machine that joins by token needs a new invite. What was revoked stays revoked.

    \b
    Example:
      cognomen node unban web-1
    """  # noqa: D301 - \b is click's mark
    _send_away(node_ids, Admin.unban_node, comment, output, socket)


@node.command()
@click.option(
    "--expired-for",
    type=duration,
    default="30d",
    show_default=True,
    metavar="DURATION",
    help="Forget those whose SVID expired that long ago.",
)
@click.option("--dry-run", is_flag=True, help="Only show which nodes would be forgotten.")
@comment_option
@output_option
@admin_socket_option
def purge(expired_for: timedelta, dry_run: bool, comment: str, output: str, socket: Path) -> None:
    """Forget nodes that never came back; banned ones stay.

    \b
    Example:
      cognomen node purge --expired-for 90d --dry-run
    """  # noqa: D301 - \b is click's mark
    request = pb.PurgeNodesRequest(dry_run=dry_run, comment=comment)
    request.expired_for.FromTimedelta(expired_for)
    with connect(socket) as admin:
        purged = admin.purge_nodes(request).nodes
        view = admin.view(output)
    print_page("nodes", _COLUMNS, sorted(map(document_from_message, purged), key=_by_name), "", view)


def _by_name(node: Mapping[str, JSON]) -> tuple[str, str]:
    return str(node["name"]), str(node["id"])


def _send_away(
    node_ids: tuple[str, ...],
    send: Callable[[Admin, pb.GetNodeRequest], pb.Node],
    comment: str,
    output: str,
    socket: Path,
) -> None:
    gone: list[dict[str, JSON]] = []
    with connect(socket) as admin:
        view = admin.view(output)
        names = list(dict.fromkeys(full_ids(admin, Nameable.NODE, node_ids)))
        for name in names if len(names) > 1 else ():  # nothing is done if one of several is unknown
            admin.get_node(pb.GetNodeRequest(id=name))
        try:
            for name in names:
                sent = send(admin, pb.GetNodeRequest(id=name, comment=comment))
                gone.append(document_from_message(sent))
        finally:  # what was done is said, also if the next one is refused
            if gone:
                print_page("nodes", _COLUMNS, gone, "", view)
