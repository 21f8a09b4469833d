"""`cognomen svid`: the ledger of every credential that the issuer signed."""

from pathlib import Path

import click

from cognomen.cli.admin import connect, pages
from cognomen.cli.options import (
    admin_socket_option,
    every_page_option,
    output_option,
    page_size_option,
    page_token_option,
)
from cognomen.cli.output import print_page
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["svid"]

_COLUMNS = ("number", "kind", "spiffe_id", "serial", "state", "issued_at", "not_after")


@click.group()
def svid() -> None:
    """The ledger: every credential that the issuer signed, or set out to sign."""


@svid.command("list")
@click.option("--spiffe-id", default="", help="Only those of this SPIFFE ID; /PATH is one of the trust domain.")
@click.option("--entry-id", default="", help="Only those under this entry.")
@click.option("--node-id", default="", help="Only those of this node.")
@page_size_option
@page_token_option
@every_page_option
@output_option
@admin_socket_option
def list_svids(
    spiffe_id: str,
    entry_id: str,
    node_id: str,
    page_size: int,
    page_token: str,
    every_page: bool,
    output: str,
    socket: Path,
) -> None:
    """List credentials, newest first.

    \b
    Example:
      cognomen svid list --spiffe-id /agent/concierge/reasoning --page-size 10
    """  # noqa: D301 - \b is click's mark
    request = pb.ListCredentialsRequest(page_size=page_size, page_token=page_token, entry_id=entry_id, node_id=node_id)
    with connect(socket) as admin:
        if spiffe_id:
            request.spiffe_id = str(admin.complete_id(spiffe_id))
        found = list(pages(admin.list_credentials, request, every=every_page))
    credentials = [document_from_message(one) for page in found for one in page.credentials]
    print_page("credentials", _COLUMNS, credentials, found[-1].next_page_token, output)
