"""`cognomen bundle`: show the trust bundle that the issuer publishes."""

import json
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.options import admin_socket_option, output_option
from cognomen.cli.output import print_json
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.openid import discovery_document, keys_document
from cognomen.wire.pb import admin_pb2 as pb
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
    type=click.Choice(["pem", "spiffe", "jwks", "oidc-discovery"]),
    default="pem",
    show_default=True,
    help="pem: the X.509 authorities; spiffe: the whole SPIFFE bundle (JWKS); jwks: the keys of JWT-SVIDs,"
    " as relying parties of OpenID Connect take them; oidc-discovery: what they look for under jwt_issuer.",
)
@output_option
@admin_socket_option
def show(kind: str, output: str, socket: Path) -> None:
    """Show the trust bundle.

    --output json prints an object with the bundle and its trust_domain.

    \b
    Examples:
      cognomen bundle show --format pem > bundle.pem
      cognomen bundle show --format jwks > jwks.json
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.get_bundle()
    text = _text(found, kind)
    if output == "json":
        print_json({"trust_domain": found.trust_domain, "bundle": text if kind == "pem" else json.loads(text)})
    else:
        click.echo(text.rstrip())


def _text(found: pb.GetBundleResponse, kind: str) -> str:
    own = Bundle.from_jwks(TrustDomain(found.trust_domain), found.bundle)
    match kind:
        case "pem":
            return own.to_pem().decode()
        case "jwks":
            return keys_document(own).decode()
        case "oidc-discovery" if not found.jwt_issuer:
            raise Refused(
                Kind.NOT_FOUND,
                "bundle: the issuer's JWT-SVIDs name no issuer",
                hint="set jwt_issuer in the issuer's configuration",
            )
        case "oidc-discovery":
            return discovery_document(found.jwt_issuer).decode()
        case _:
            return found.bundle.decode()
