"""`cognomen authority`: the keys that sign, when the next ones take over, and what to do when one is in the wrong hands."""

from collections.abc import Iterable
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.options import admin_socket_option, comment_option, output_option, reason_option
from cognomen.cli.output import print_json, print_table, warn
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON

__all__ = ["authority"]

_COLUMNS = ("key_id", "kind", "state", "tainted_at", "live", "unreplaced", "known_by", "not_after", "waits_for")
_now_option = click.option(
    "--now", "at_once", is_flag=True, help="Also where nodes that are away need an invite to come back then."
)


@click.group()
def authority() -> None:
    """Signing authorities: prepared, published, activated and retired automatically.

    When the key of one may be in the wrong hands: `taint` it, wait until `list` shows none
    that is unreplaced, `revoke` it.
    """


@authority.command("list")
@click.option("--all", "every", is_flag=True, help="Retired ones, too.")
@output_option
@admin_socket_option
def list_authorities(every: bool, output: str, socket: Path) -> None:
    """List the authorities, oldest first.

    active signs, next is published and will sign, old signs no more but vouches for what
    it signed. waits_for says why a next one does not sign yet, and why an old one stays.
    live counts the credentials of an authority that are valid now, unreplaced those of a
    tainted one after which nothing was signed for the same workload. known_by counts the
    connected attestors that know the authority; of a tainted one, those that know the taint.

    \b
    Example:
      cognomen authority list
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.list_authorities()
    _print((one for one in found.authorities if every or one.state != "retired"), output)


@authority.command()
@click.argument("kind", type=click.Choice(["x509", "jwt"]))
@output_option
@admin_socket_option
def rotate(kind: str, output: str, socket: Path) -> None:
    """Let the next authority sign as soon as everybody knows it.

    That is after the spread time since its publication, and once every connected attestor
    has acknowledged it; then another next one is made. Nothing that is valid ends early.

    \b
    Example:
      cognomen authority rotate x509
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.rotate_authority(kind)
    _print_kind(found, kind, output)


@authority.command()
@click.argument("kind", type=click.Choice(["x509", "jwt"]))
@output_option
@admin_socket_option
def prepare(kind: str, output: str, socket: Path) -> None:
    """Make one more authority that could sign next, and publish it now.

    The automatic life does this already; by hand it is needed where the next one cannot
    sign, or should not.

    \b
    Example:
      cognomen authority prepare x509
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.prepare_authority(kind)
    _print_kind(found, kind, output)


@authority.command()
@click.argument("key_id")
@_now_option
@output_option
@admin_socket_option
def activate(key_id: str, at_once: bool, output: str, socket: Path) -> None:
    """Let a next or an old authority sign now, without the spread time.

    Who does not know it yet does not accept what it signs: attestors and workloads that
    are connected know it within a second. A node that is away and does not know it cannot
    come back without an invite; the command refuses then, and names it.

    \b
    Example:
      cognomen authority activate x509-2f1c7a90b3d45e68
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.activate_authority(pb.AuthorityCommand(key_id=key_id, at_once=at_once))
    use = _one(found, key_id).use
    if use.acknowledged < use.attestors:
        warn(f"{use.attestors - use.acknowledged} of {use.attestors} connected attestors may not know it yet")
    _print_kind(found, _one(found, key_id).kind, output)


@authority.command()
@click.argument("key_id")
@_now_option
@reason_option
@comment_option
@output_option
@admin_socket_option
def taint(key_id: str, at_once: bool, reason: str, comment: str, output: str, socket: Path) -> None:
    """Let an authority sign no more, and have all that it signed replaced now.

    Connected attestors make another SVID for each of its own at once; no call fails, because
    what it signed is accepted until you revoke it. Where it signs now, the next one takes
    over in the same moment. If a node that is away does not know that one, it cannot come
    back without an invite; the command refuses then, and names it.

    \b
    Example:
      cognomen authority taint x509-2f1c7a90b3d45e68 --reason keyCompromise
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        command = pb.AuthorityCommand(key_id=key_id, reason=reason, comment=comment, at_once=at_once)
        found = admin.taint_authority(command)
    _print_kind(found, _one(found, key_id).kind, output)


@authority.command()
@click.argument("key_id")
@click.option(
    "--now",
    "at_once",
    is_flag=True,
    help="Also where it is not tainted or not all is replaced, which fails at once, and where nodes that are away need an invite then.",
)
@reason_option
@comment_option
@output_option
@admin_socket_option
def revoke(key_id: str, at_once: bool, reason: str, comment: str, output: str, socket: Path) -> None:
    """Take an authority out of the bundle at once, and destroy its key.

    Nothing that it signed is accepted any more by whoever has the new bundle; connected
    workloads get it within a second. Taint it first, so that nothing in use is its own. If a
    node that is away does not know the one that signs then, it cannot come back without an
    invite; the command refuses then, and names it.

    \b
    Example:
      cognomen authority revoke x509-2f1c7a90b3d45e68 --reason keyCompromise
    """  # noqa: D301 - \b is click's mark
    command = pb.AuthorityCommand(key_id=key_id, reason=reason, comment=comment, at_once=at_once)
    with connect(socket) as admin:
        found = admin.revoke_authority(command)
    kind, unreplaced = _one(found, key_id).kind, _one(found, key_id).use.unreplaced
    signing = [one.key_id for one in found.authorities if (one.kind, one.state) == (kind, "active")]
    click.echo(f"{key_id} left the bundle, and its key is destroyed; {' '.join(signing)} signs", err=True)
    if unreplaced == 1:
        warn("1 credential that it signed was not replaced: it fails until it is")
    elif unreplaced:
        warn(f"{unreplaced} credentials that it signed were not replaced: they fail until they are")
    _print_kind(found, kind, output)


def _one(found: pb.ListAuthoritiesResponse, key_id: str) -> pb.Authority:
    return next(one for one in found.authorities if one.key_id == key_id)


def _print_kind(found: pb.ListAuthoritiesResponse, kind: str, output: str) -> None:
    _print((one for one in found.authorities if one.kind == kind and one.state != "retired"), output)


def _print(authorities: Iterable[pb.Authority], output: str) -> None:
    documents = [document_from_message(one) for one in authorities]
    if output == "json":
        print_json({"authorities": list(documents)})
    else:
        print_table(_COLUMNS, [[_flat(document)[key] for key in _COLUMNS] for document in documents])


def _flat(document: dict[str, JSON]) -> dict[str, JSON]:
    use = document["use"]
    assert isinstance(use, dict)  # noqa: S101 - narrows what the protocol says
    known_by = f"{use['acknowledged']} of {use['attestors']}{' know the taint' if document['tainted_at'] else ''}"
    return {
        **document,
        **use,
        "unreplaced": use["unreplaced"] if document["tainted_at"] else None,
        "known_by": known_by,
    }
