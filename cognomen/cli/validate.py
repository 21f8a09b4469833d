"""`cognomen validate`: ask the Workload API whether a token is valid, as a service does."""

import click

from cognomen.cli.options import output_option, read_source, workload_address, workload_socket_option
from cognomen.cli.output import print_document, print_json
from cognomen.cli.reach import check_workload_api
from svid.encoding import JSON
from svid.workloadapi.client import WorkloadAPIClient

__all__ = ["validate"]


@click.group()
def validate() -> None:
    """Let the Workload API validate what a peer presented, as a service does."""


@validate.command()
@click.argument("source", metavar="FILE|-", default="-")
@click.option("--audience", required=True, help="Our own name; the token must be meant for it.")
@output_option
@workload_socket_option
def jwt(source: str, audience: str, output: str, socket: str | None) -> None:
    """Validate a JWT-SVID, from a file or standard input.

    \b
    Examples:
      cognomen validate jwt --audience db token
      cognomen fetch jwt --audience db --output json | jq -r '.svids[0].svid' \\
        | cognomen validate jwt --audience db
    """  # noqa: D301 - \b is click's mark
    address, token = workload_address(socket), read_source(source).strip()
    with WorkloadAPIClient(check_workload_api(address)) as client:
        found = client.validate_jwt_svid(token, audience)
    claims = {key: _plain(found.claims[key]) for key in sorted(found.claims)}
    if output == "json":
        print_json({"spiffe_id": str(found.spiffe_id), "claims": claims})
    else:
        print_document({"spiffe_id": str(found.spiffe_id), **claims})


def _plain(claim: JSON) -> JSON:
    """A claim as it was signed: the protocol keeps no order of keys, and in it every number is a float."""
    match claim:
        case float() if claim.is_integer():
            return int(claim)
        case list():
            return [_plain(item) for item in claim]
        case dict():
            return {key: _plain(claim[key]) for key in sorted(claim)}
    return claim
