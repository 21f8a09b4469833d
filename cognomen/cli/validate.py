"""`cognomen validate`: be a service, and let the Workload API say whether a token is good."""

import click

from cognomen.cli.options import output_option, read_source, workload_address, workload_socket_option
from cognomen.cli.output import print_document, print_json
from cognomen.cli.reach import check_workload_api
from svid.workloadapi.client import WorkloadAPIClient

__all__ = ["validate"]


@click.group()
def validate() -> None:
    """Be a service: let the Workload API validate what a peer showed."""


@validate.command()
@click.argument("source", metavar="FILE|-", default="-")
@click.option("--audience", required=True, help="Who we are; the token must be for us.")
@output_option
@workload_socket_option
def jwt(source: str, audience: str, output: str, socket: str | None) -> None:
    """Validate a JWT-SVID, from a file or standard input.

    \b
    Examples:
      cognomen validate jwt --audience db token
      cognomen fetch jwt --audience db --output json | jq -r '.svids[0].svid' | cognomen validate jwt --audience db
    """  # noqa: D301 - \b is click's mark
    with WorkloadAPIClient(check_workload_api(workload_address(socket))) as client:
        found = client.validate_jwt_svid(read_source(source).strip(), audience)
    # the protocol's numbers are all floating
    claims = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in found.claims.items()
    }
    if output == "json":
        print_json({"spiffe_id": str(found.spiffe_id), "claims": claims})
    else:
        print_document({"spiffe_id": str(found.spiffe_id), **claims})
