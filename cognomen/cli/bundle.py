"""`cognomen bundle`: show the trust bundle that the issuer publishes."""

import json
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.options import admin_socket_option, output_option
from cognomen.cli.output import print_json
from svid.bundle import Bundle
from svid.spiffeid import TrustDomain

__all__ = ["bundle"]


@click.group()
def bundle() -> None:
    """Show the trust bundle: the authorities of this trust domain."""


@bundle.command()
@click.option(
    "--format",
    "kind",
    type=click.Choice(["pem", "spiffe"]),
    default="pem",
    show_default=True,
    help="pem: the X.509 authorities; spiffe: the whole SPIFFE bundle (JWKS).",
)
@output_option
@admin_socket_option
def show(kind: str, output: str, socket: Path) -> None:
    """Show the trust bundle.

    --output json prints an object with the bundle and its trust_domain.

    \b
    Example:
      cognomen bundle show --format pem > bundle.pem
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.get_bundle()
    pem = Bundle.from_jwks(TrustDomain(found.trust_domain), found.bundle).to_pem().decode() if kind == "pem" else None
    if output == "json":
        bundle = json.loads(found.bundle) if pem is None else pem
        print_json({"trust_domain": found.trust_domain, "bundle": bundle})
    else:
        click.echo(pem.rstrip() if pem is not None else found.bundle)
