"""`cognomen authority`: the keys that sign, and when the next ones take over."""

from collections.abc import Iterable
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.options import admin_socket_option, output_option
from cognomen.cli.output import print_json, print_table
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["authority"]

_COLUMNS = ("key_id", "kind", "state", "activate_at", "not_after", "waits_for")


@click.group()
def authority() -> None:
    """Signing authorities: prepared, published, activated and retired by themselves."""


@authority.command("list")
@click.option("--all", "every", is_flag=True, help="Retired ones, too.")
@output_option
@admin_socket_option
def list_authorities(every: bool, output: str, socket: Path) -> None:
    """List the authorities, oldest first.

    active signs, next is published and will sign, old signs no more but vouches for what
    it signed. waits_for says why a next one does not sign yet, and why an old one stays.

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
    _print((one for one in found.authorities if one.kind == kind and one.state != "retired"), output)


def _print(authorities: Iterable[pb.Authority], output: str) -> None:
    documents = [document_from_message(one) for one in authorities]
    if output == "json":
        print_json({"authorities": list(documents)})
    else:
        print_table(_COLUMNS, [[document[key] for key in _COLUMNS] for document in documents])
