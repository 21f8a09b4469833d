"""`cognomen svid`: show the ledger of every credential that the issuer signed."""

from datetime import datetime, timedelta
from pathlib import Path

import click

from cognomen.cli.admin import connect, pages
from cognomen.cli.agentnames import credential_document, named_path
from cognomen.cli.named import check_holders
from cognomen.cli.naming import full_id, known_id
from cognomen.cli.options import (
    Renamed,
    admin_socket_option,
    duration,
    every_page_option,
    output_option,
    page_size_option,
    page_token_option,
)
from cognomen.cli.output import Columns, print_document, print_json, print_page
from cognomen.cli.serials import serial_from_text
from cognomen.cli.uses import print_uses, uses_of
from cognomen.protocol.durations import format_duration
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.meaning import Nameable
from cognomen.wire.pb import admin_pb2 as pb
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = ["svid"]

_KINDS = ("x509", "jwt", "node", "issuer", "authority")
_STATES = ("intended", "issued", "failed")
_COLUMNS = Columns(
    table=("serial", "kind", "spiffe_id", "state", "not_after"),
    wide=(
        *("number", "serial", "kind", "spiffe_id", "node_id", "entry_id", "entry_revision", "authority_id"),
        *("state", "issued_at", "not_after", "ended_at", "revocation", "audiences", "exchanged_until", "rulebook"),
    ),
)


@click.group()
def svid() -> None:
    """Show the ledger: every credential that the issuer signed, or began to sign."""


@svid.command("list")
@click.option("--spiffe-id", default="", help="Only those with this SPIFFE ID; /PATH is one in the trust domain.")
@click.option("--below", help="Only those with this SPIFFE ID or one below it; /PATH as above.")
@click.option("--agent", metavar="NAME", help="Only those of this agent of the rulebook.")
@click.option("--component", metavar="AGENT/COMPONENT", help="Only those of this component.")
@click.option("--owner", help="Only those that were signed for entries that have this owner now.")
@click.option("--no-owner", is_flag=True, help="Only those that were signed for entries without an owner now.")
@click.option("--entry-id", "--entry", cls=Renamed, default="", metavar="ID", help="Only those signed for this entry.")
@click.option(
    "--node-id",
    "--node",
    cls=Renamed,
    default="",
    metavar="NODE",
    help="Only those of this node: its id, name or SPIFFE ID.",
)
@click.option("--kind", type=click.Choice(_KINDS), help="Only those of this kind.")
@click.option("--state", type=click.Choice(_STATES), help="Only those whose signing got this far.")
@click.option("--revoked", is_flag=True, help="Only those that a revocation ended.")
@click.option(
    "--live", is_flag=True, help="Only those that have not expired, and that nothing ended before their time."
)
@click.option("--valid", is_flag=True, help="Only those that have not expired, also if they were revoked.")
@click.option(
    "--expiring-within",
    type=duration,
    help="Only those that expire within that time, such as 10m, also if they were revoked; add --live.",
)
@page_size_option
@page_token_option
@every_page_option
@output_option
@admin_socket_option
def list_svids(
    spiffe_id: str,
    below: str | None,
    agent: str | None,
    component: str | None,
    owner: str | None,
    no_owner: bool,
    entry_id: str,
    node_id: str,
    kind: str | None,
    state: str | None,
    revoked: bool,
    live: bool,
    valid: bool,
    expiring_within: timedelta | None,
    page_size: int,
    page_token: str,
    every_page: bool,
    output: str,
    socket: Path,
) -> None:
    """List credentials, newest first.

    If a credential ended before its time, ended_at says when, and its state is "revoked", or
    "authority gone" if its authority left the bundle. In JSON, state says how far its signing
    got.

    \b
    Examples:
      cognomen svid list --spiffe-id /agent/concierge/reasoning --page-size 10
      cognomen svid list --agent concierge --owner travel-team --live
      cognomen svid list --kind x509 --expiring-within 10m --live
    """  # noqa: D301 - \b is click's mark
    if revoked and live:
        raise click.UsageError("expected --revoked or --live, found both")
    if owner is not None and no_owner:
        raise click.UsageError("expected --owner or --no-owner, found both")
    named, is_below = named_path(spiffe_id=spiffe_id, below=below, agent=agent, component=component)
    request = pb.ListCredentialsRequest(
        page_size=page_size,
        page_token=page_token,
        kind=kind or "",
        state=state or "",
        revoked="yes" if revoked else "no" if live else "",
        below=is_below,
        owner="" if no_owner else owner,
    )
    now = SystemClock().now()
    if live or valid or expiring_within is not None:
        request.held_at.FromDatetime(now)
    if expiring_within is not None:
        request.ends_before.FromDatetime(_later(now, expiring_within))
    with connect(socket) as admin:
        request.spiffe_id = str(admin.complete_id(named)) if named else ""
        request.entry_id = known_id(admin, Nameable.ENTRY, entry_id, past=True)
        request.node_id = known_id(admin, Nameable.NODE, node_id, past=True)
        view = admin.view(output)
        found = list(pages(admin.list_credentials, request, every=every_page))
        if not page_token and not any(page.credentials for page in found):
            check_holders(admin, request)
    credentials = [credential_document(one) for page in found for one in page.credentials]
    if output != "json":
        credentials = list(map(_shown, credentials))
    print_page("credentials", _COLUMNS, credentials, found[-1].next_page_token, view)


def _later(now: datetime, within: timedelta) -> datetime:
    try:
        return now + within
    except OverflowError as e:
        raise Refused(
            Kind.INVALID, f"expiring_within: expected an end before the year 10000, found {format_duration(within)}"
        ) from e


@svid.command()
@click.argument("serial", metavar="SERIAL|JTI")
@output_option
@admin_socket_option
def show(serial: str, output: str, socket: Path) -> None:
    """Show one credential, by its serial number in hexadecimal or its jti.

    Below it are the processes that its node gave SVIDs of the same entry while it lived, as
    the node's attestor reported it, up to half a minute later.

    \b
    Example:
      cognomen svid show 81a21c36058f7f927323df0b8e9fb56d
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        named = full_id(admin, Nameable.CREDENTIAL, serial_from_text(serial))
        found = admin.list_credentials(pb.ListCredentialsRequest(page_size=1, serial=named)).credentials
        if not found:
            raise Refused(Kind.NOT_FOUND, f"serial: expected one that we signed, found {serial!r}")
        uses = uses_of(admin, found)
        view = admin.view(output)
    document = credential_document(found[0])
    if output == "json":
        print_json({**document, **uses.as_json()})
    else:
        print_document(_shown(document))
        if document["entry_id"]:
            print_uses(uses, view)


def _shown(credential: dict[str, JSON]) -> dict[str, JSON]:
    """The same document, with what became of the credential as its state."""
    revocation = credential["revocation"] or None
    became = "revoked" if revocation else "authority gone" if credential["ended_at"] else credential["state"]
    return {**credential, "state": became, "revocation": revocation}
