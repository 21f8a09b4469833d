"""`cognomen status`: show the state of a daemon, and its troubles."""

from collections.abc import Mapping
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.inspect import inspecting
from cognomen.cli.options import admin_socket_option, attestor_socket_option, output_option
from cognomen.cli.output import Columns, View, print_document, print_json, print_table, same_columns
from cognomen.wire.admin import document_from_message
from svid.encoding import JSON
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID

__all__ = ["status"]

_TROUBLED = 1
_BEHIND = same_columns("node_id", "behind", "acknowledged", "heard_ago", "points", "points_enforcing")
_OVERDUE = same_columns("agent", "owner", "review_by", "suspended")
_SUSPENDED = same_columns("name", "at", "actor", "comment")
_AUTHORITIES = Columns(
    table=("kind", "state", "key_id", "not_after"),
    wide=(
        *("kind", "state", "key_id", "tainted_at", "published_at", "activate_at", "activated_at"),
        *("not_before", "not_after", "last_not_after", "waits_for"),
    ),
)
_IDENTITIES = Columns(
    table=("spiffe_id", "not_after", "renew_at"), wide=("spiffe_id", "entry_id", "serial", "not_after", "renew_at")
)
_CALLERS = same_columns("pid", "uid", "streams")
_ENFORCED = Columns(
    table=("pid", "uid", "point", "change_number"), wide=("pid", "uid", "point", "incarnation", "change_number")
)
_TROUBLES = same_columns("what", "times", "since", "last", "reason")
_LIMITS = Columns(
    table=("path", "limit", "mode", "breaker", "over", "last_over", "until"),
    wide=("path", "limit", "most", "used", "mode", "on_burst", "breaker", "since", "until", "over", "last_over"),
)
_MORE = "_more"


@click.group(invoke_without_command=True)
@output_option
@admin_socket_option
@click.pass_context
def status(context: click.Context, output: str, socket: Path) -> int | None:
    """Show how the issuer is doing; `status attestor` shows this node's attestor.

    Exit code 1 if something fails and is being retried, if an authority or the issuer's own
    SVID is not valid now, or if the clock is in doubt. `authority list` says what a next or an
    old authority waits for.

    oldest_truth is the time since the issuer last heard from the connected attestor that has
    been silent for longest: each reports every 15 s. The table `behind` has the nodes that lack
    changes, such as revocations: acknowledged is the number of the last change that a node has,
    behind how many it lacks, and heard_ago the time since it last reported. The table
    `over_limits` has the limits of the rulebook that refused something or, where they only
    count, would have: over says how often, until when an open breaker half-opens. The table
    `overdue` has the agents whose review is overdue, and says whether they are suspended, by the
    issuer for that, by an operator or in the rulebook; `suspended` has the agents and components
    that are suspended, whatever the rulebook says, by whom, and why. The exit code depends on
    neither.

    \b
    Examples:
      cognomen status
      cognomen status --output json | jq .behind
    """  # noqa: D301 - \b is click's mark
    if context.invoked_subcommand is not None:
        return None
    with connect(socket) as admin:
        document = document_from_message(admin.get_status())
    return _show(
        document,
        {
            "authorities": _AUTHORITIES,
            "behind": _BEHIND,
            "over_limits": _LIMITS,
            "overdue": _OVERDUE,
            "suspended": _SUSPENDED,
        },
        output,
    )


@status.command()
@attestor_socket_option
@click.option("--identities", is_flag=True, help="Also list each identity of this node.")
@click.option("--callers", is_flag=True, help="Also list each process that holds streams open.")
@click.option(
    "--enforced", is_flag=True, help="Also list the enforcement points in local processes, and how far each is."
)
@output_option
def attestor(socket: str, identities: bool, callers: bool, enforced: bool, output: str) -> int:
    """Show how this node's attestor is doing. Only its own user and root may ask.

    Exit code 1 if something fails and is being retried.

    heard_ago is the time since the issuer last sent something, every 5 s, and so how old this
    node's knowledge of revocations is. clock_ahead is how far its clock is ahead of the issuer's;
    it is negative if it is behind.

    \b
    Example:
      cognomen status attestor --identities
    """  # noqa: D301 - \b is click's mark
    with inspecting(socket) as inspect:
        document = document_from_message(inspect.get_status())
    if not identities:
        document["identities"] = []
    if not callers:
        document["callers"] = []
    if not enforced:
        document["enforced"] = []
    return _show(document, {"identities": _IDENTITIES, "callers": _CALLERS, "enforced": _ENFORCED}, output)


def _show(document: dict[str, JSON], tables: Mapping[str, Columns], output: str) -> int:
    is_well = not document["troubles"] and not document.get("clock")
    if output == "json":
        print_json(document)
        return 0 if is_well else _TROUBLED
    tables = {**tables, "troubles": _TROUBLES}
    if "clock" in document:
        document["clock"] = document["clock"] or "trusted"
    shown = {key: value for key, value in document.items() if key not in tables and not key.endswith(_MORE)}
    print_document({key: _brief(value) for key, value in shown.items()})
    view = View(output=output, trust_domain=_trust_domain(document))
    for name, columns in tables.items():
        rows = document[name]
        if isinstance(rows, list) and rows:
            click.echo(f"\n{name}:")
            print_table(columns, [row for row in rows if isinstance(row, dict)], view)
        if (more := document.get(name + _MORE)) and rows:
            click.echo(f"and {more} more")
    return 0 if is_well else _TROUBLED


def _brief(value: JSON) -> JSON:
    """Write 0 and false as texts, because print_document leaves out empty values."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
    return value


def _trust_domain(document: Mapping[str, JSON]) -> str:
    """The issuer's, or that of the node."""
    try:
        return str(document.get("trust_domain") or SpiffeID.parse(str(document.get("spiffe_id"))).trust_domain.name)
    except SVIDError:
        return ""
