"""`cognomen authority`: list the keys that sign, replace them, and revoke one that is compromised."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect
from cognomen.cli.asking import is_unknown
from cognomen.cli.naming import full_id
from cognomen.cli.options import admin_socket_option, comment_option, output_option, reason_option
from cognomen.cli.output import Columns, View, print_json, print_table, warn
from cognomen.protocol.errors import Refused
from cognomen.protocol.meaning import Nameable
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = ["authority"]

_COLUMNS = Columns(
    table=("key_id", "state", "live", "unreplaced", "known_by", "not_after", "waits_for"),
    wide=(
        *("key_id", "kind", "state", "tainted_at", "live", "unreplaced", "known_by", "published_at", "activate_at"),
        *("activated_at", "not_before", "not_after", "last_not_after", "waits_for"),
    ),
)
_force_option = click.option(
    "--force",
    "--now",
    "at_once",
    is_flag=True,
    help="Even if nodes that are away will need an invite to come back, or an export of the bundle lacks what signs then.",
)


@click.group()
def authority() -> None:
    """Signing authorities are prepared, published, activated and retired automatically.

    If the key of one may be compromised, `taint` the authority, wait until `list` shows 0
    unreplaced, and then `revoke` it.
    """


@authority.command("list")
@click.option("--all", "every", is_flag=True, help="Include retired ones.")
@output_option
@admin_socket_option
def list_authorities(every: bool, output: str, socket: Path) -> None:
    """List the authorities, oldest first.

    An authority in state active signs; next is published and will sign; old no longer signs,
    but stays in the bundle for what it signed. waits_for says why a next one does not sign
    yet, or why an old one stays.

    live counts the credentials of an authority that are valid now. unreplaced counts those
    of a tainted authority that nothing newer replaces for the same workload. known_by counts
    the connected attestors that know the authority or, if it is tainted, know the taint.

    \b
    Example:
      cognomen authority list
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.list_authorities()
    _print((one for one in found.authorities if every or one.state != "retired"), output)


@authority.command()
@click.argument("kind", type=click.Choice(["x509", "jwt"]))
@_force_option
@comment_option
@output_option
@admin_socket_option
def rotate(kind: str, at_once: bool, comment: str, output: str, socket: Path) -> None:
    """Let the next authority sign as soon as everybody knows it.

    That is when the spread time since its publication has passed and every connected
    attestor has acknowledged it; then a new next authority is made. No valid SVID ends early.
    A node that is away and does not know the next authority would need an invite to come
    back: the command then refuses, and names the node. It also refuses if an export of the
    bundle (`cognomen bundle exports`) lacks the next authority.

    \b
    Example:
      cognomen authority rotate x509
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.rotate_authority(pb.RotateAuthorityRequest(kind=kind, at_once=at_once, comment=comment))
        _warn_of_exports(admin, found, kind)
    _print_kind(found, kind, output)


@authority.command()
@click.argument("kind", type=click.Choice(["x509", "jwt"]))
@comment_option
@output_option
@admin_socket_option
def prepare(kind: str, comment: str, output: str, socket: Path) -> None:
    """Make one more authority that could sign next, and publish it now.

    The issuer does this automatically. You need it only if the next one cannot sign, or
    should not.

    \b
    Example:
      cognomen authority prepare x509
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.prepare_authority(pb.PrepareAuthorityRequest(kind=kind, comment=comment))
    _print_kind(found, kind, output)


@authority.command()
@click.argument("key_id", metavar="ID")
@_force_option
@comment_option
@output_option
@admin_socket_option
def activate(key_id: str, at_once: bool, comment: str, output: str, socket: Path) -> None:
    """Let a next or an old authority sign now, without the spread time.

    Those who do not know it yet reject what it signs; connected attestors and workloads know
    it within a second. A node that is away and does not know it would need an invite to come
    back: the command then refuses, and names the node. It also refuses if an export of the
    bundle lacks it.

    \b
    Example:
      cognomen authority activate x509-2f1c7a90b3d45e68
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        key_id = full_id(admin, Nameable.AUTHORITY, key_id)
        found = admin.activate_authority(pb.AuthorityCommand(key_id=key_id, at_once=at_once, comment=comment))
        _warn_of_exports(admin, found, _one(found, key_id).kind)
    use = _one(found, key_id).use
    if use.acknowledged < use.attestors:
        warn(f"{use.attestors - use.acknowledged} of {use.attestors} connected attestors may not know it yet")
    _print_kind(found, _one(found, key_id).kind, output)


@authority.command()
@click.argument("key_id", metavar="ID")
@_force_option
@reason_option
@comment_option
@output_option
@admin_socket_option
def taint(key_id: str, at_once: bool, reason: str, comment: str, output: str, socket: Path) -> None:
    """Stop an authority from signing, and have all that it signed replaced now.

    Connected attestors immediately replace each SVID that it signed. No call fails, because
    what it signed is accepted until you revoke the authority. If it is the active one, the next
    one takes over at the same moment. A node that is away and does not know that one would
    need an invite to come back: the command then refuses, and names the node. It also refuses
    if an export of the bundle lacks that one.

    \b
    Example:
      cognomen authority taint x509-2f1c7a90b3d45e68 --reason keyCompromise
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        key_id = full_id(admin, Nameable.AUTHORITY, key_id)
        command = pb.AuthorityCommand(key_id=key_id, reason=reason, comment=comment, at_once=at_once)
        found = admin.taint_authority(command)
        _warn_of_exports(admin, found, _one(found, key_id).kind)
    _print_kind(found, _one(found, key_id).kind, output)


@authority.command()
@click.argument("key_id", metavar="ID")
@click.option(
    "--force",
    "--now",
    "at_once",
    is_flag=True,
    help="Even if it is not tainted, some SVIDs are not replaced (they fail at once), nodes that are away will need an invite, or"
    " an export of the bundle lacks what signs then.",
)
@reason_option
@comment_option
@output_option
@admin_socket_option
def revoke(key_id: str, at_once: bool, reason: str, comment: str, output: str, socket: Path) -> None:
    """Take an authority out of the bundle at once, and destroy its key.

    Everyone who has the new bundle rejects all that it signed; connected workloads get the
    bundle within a second. Taint the authority first, so that nothing in use was signed by
    it. A node that is away and does not know the authority that signs afterwards would need
    an invite to come back: the command then refuses, and names the node. It also refuses if
    an export of the bundle lacks that authority. An export that has the revoked one must be
    repeated: until then, its relying party trusts it.

    \b
    Example:
      cognomen authority revoke x509-2f1c7a90b3d45e68 --reason keyCompromise
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        key_id = full_id(admin, Nameable.AUTHORITY, key_id)
        command = pb.AuthorityCommand(key_id=key_id, reason=reason, comment=comment, at_once=at_once)
        found = admin.revoke_authority(command)
        _warn_of_exports(admin, found, _one(found, key_id).kind)
    kind, unreplaced = _one(found, key_id).kind, _one(found, key_id).use.unreplaced
    signing = [one.key_id for one in found.authorities if (one.kind, one.state) == (kind, "active")]
    click.echo(f"{key_id} left the bundle, and its key is destroyed; {' '.join(signing)} signs", err=True)
    if unreplaced == 1:
        warn("1 credential that it signed was not replaced, and fails until it is")
    elif unreplaced:
        warn(f"{unreplaced} credentials that it signed were not replaced, and fail until they are")
    _print_kind(found, kind, output)


def _warn_of_exports(admin: Admin, found: pb.ListAuthoritiesResponse, kind: str) -> None:
    """Warn of the exports of the bundle that need to be repeated after this command."""
    now = SystemClock().now()
    signing = {one.key_id for one in found.authorities if one.kind == kind and _signs(one, now)}
    revoked = {one.key_id for one in found.authorities if one.kind == kind and one.state == "retired"}
    for one in _exports(admin):
        if signing.intersection(one.missing):
            warn(f"{one.name}: what was exported lacks the authority that signs; cognomen bundle exports says more")
        if revoked.intersection(one.revoked):
            warn(f"{one.name}: what was exported has a revoked authority; cognomen bundle exports says more")


def _exports(admin: Admin) -> Iterable[pb.Export]:
    """The exports that the issuer knows; one of an earlier release knows none, and the command was carried out all the same."""
    try:
        return admin.list_exports().exports
    except Refused as e:
        if not is_unknown(e):
            raise
        return ()


def _signs(authority: pb.Authority, now: datetime) -> bool:
    """Whether it signs, or will as soon as everybody knows it."""
    is_asked = authority.state == "next" and authority.activate_at.ToDatetime(tzinfo=UTC) <= now
    return authority.state == "active" or is_asked


def _one(found: pb.ListAuthoritiesResponse, key_id: str) -> pb.Authority:
    return next(one for one in found.authorities if one.key_id == key_id)


def _print_kind(found: pb.ListAuthoritiesResponse, kind: str, output: str) -> None:
    if found.cut_off:
        count = (
            f"{len(found.cut_off)} node{'s' if len(found.cut_off) > 1 else ''} that cannot come back without an invite"
        )
        warn(f"{count}: {' '.join(found.cut_off)}; cognomen node invite --node-id ID")
    _print((one for one in found.authorities if one.kind == kind and one.state != "retired"), output)


def _print(authorities: Iterable[pb.Authority], output: str) -> None:
    documents = [document_from_message(one) for one in authorities]
    if output == "json":
        print_json({"authorities": list(documents)})
    else:
        print_table(_COLUMNS, [_flat(document, output) for document in documents], View(output=output))


def _flat(document: dict[str, JSON], output: str) -> dict[str, JSON]:
    use = document["use"]
    assert isinstance(use, dict)  # noqa: S101 - narrows the type, as the protocol says
    known_by = f"{use['acknowledged']} of {use['attestors']}{' know the taint' if document['tainted_at'] else ''}"
    return {
        **document,
        **use,
        "state": f"{document['state']}, tainted" if document["tainted_at"] and output == "table" else document["state"],
        "unreplaced": use["unreplaced"] if document["tainted_at"] else None,
        "known_by": known_by,
    }
