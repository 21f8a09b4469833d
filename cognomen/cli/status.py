"""`cognomen status`: how a daemon is, and what it has trouble with."""

import re
from collections.abc import Mapping
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.inspect import inspect
from cognomen.cli.options import admin_socket_option, attestor_socket_option, output_option
from cognomen.cli.output import print_document, print_json, print_table
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import inspect_pb2
from svid.encoding import JSON

__all__ = ["status"]

_TROUBLED = 1
_BEHIND = ("node_id", "behind", "acknowledged", "heard_ago", "points", "points_enforcing")
_AUTHORITIES = ("kind", "state", "key_id", "not_after")
_IDENTITIES = ("spiffe_id", "not_after", "renew_at")
_CALLERS = ("pid", "uid", "streams")
_ENFORCED = ("pid", "uid", "point", "change_number")
_TROUBLES = ("what", "times", "since", "reason")
_MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8})\.[0-9]{1,9}Z")


@click.group(invoke_without_command=True)
@output_option
@admin_socket_option
@click.pass_context
def status(context: click.Context, output: str, socket: Path) -> int | None:
    """Show how the issuer is; `status attestor` shows this node's attestor.

    Exit code 1 when something fails and is tried again, when an authority or the issuer's
    own SVID is not valid now, or when the clock is doubted. What a next or an old authority
    waits for is told by `authority list`.

    \b
    Examples:
      cognomen status
      cognomen status --output json | jq .behind
    """  # noqa: D301 - \b is click's mark
    if context.invoked_subcommand is not None:
        return None
    with connect(socket) as admin:
        document = document_from_message(admin.get_status())
    return _show(document, {"authorities": _AUTHORITIES, "behind": _BEHIND}, output)


@status.command()
@attestor_socket_option
@click.option("--identities", is_flag=True, help="Each identity of this node, too.")
@click.option("--callers", is_flag=True, help="Each process that holds streams open, too.")
@click.option(
    "--enforced", is_flag=True, help="What in local processes refuses revoked credentials, and how far it is, too."
)
@output_option
def attestor(socket: str, identities: bool, callers: bool, enforced: bool, output: str) -> int:
    """Show how this node's attestor is; for its own user and root.

    Exit code 1 when something fails and is tried again.

    \b
    Example:
      cognomen status attestor --identities
    """  # noqa: D301 - \b is click's mark
    document = inspect("GetStatus", inspect_pb2.GetStatusRequest(), inspect_pb2.AttestorStatus, socket)
    if not identities:
        document["identities"] = []
    if not callers:
        document["callers"] = []
    if not enforced:
        document["enforced"] = []
    return _show(document, {"identities": _IDENTITIES, "callers": _CALLERS, "enforced": _ENFORCED}, output)


def _show(document: dict[str, JSON], tables: Mapping[str, tuple[str, ...]], output: str) -> int:
    is_well = not document["troubles"] and not document.get("clock")
    if output == "json":
        print_json(document)
        return 0 if is_well else _TROUBLED
    tables = {**tables, "troubles": _TROUBLES}
    if "clock" in document:
        document["clock"] = document["clock"] or "trusted"
    print_document({key: _brief(value) for key, value in document.items() if key not in tables})
    for name, columns in tables.items():
        rows = document[name]
        if isinstance(rows, list) and rows:
            click.echo(f"\n{name}:")
            print_table(columns, [[_brief(row[column]) for column in columns] for row in rows if isinstance(row, dict)])
    return 0 if is_well else _TROUBLED


def _brief(value: JSON) -> JSON:
    """Leave out fractions of seconds; say what is zero or not so, which print_document leaves out."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
        case str() if found := _MOMENT.fullmatch(value):
            return f"{found[1]}Z"
    return value
