"""The forms in which the trust bundle is shown and exported."""

import click

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.openid import discovery_document, keys_document
from cognomen.wire.pb import admin_pb2 as pb
from svid.bundle import Bundle
from svid.spiffeid import TrustDomain

__all__ = ["FORMS", "NO_ISSUER", "bundle_text"]

NO_ISSUER = (
    "no iss, without which relying parties of OpenID Connect refuse them: set jwt_issuer in the issuer's configuration"
)
"""What tokens lack while jwt_issuer is not set, for a warning."""

FORMS = click.Choice(["pem", "spiffe", "jwks", "oidc-discovery"])


def bundle_text(found: pb.GetBundleResponse, form: str) -> str:
    """The bundle in one of these forms; equal contents give the same text, but a SPIFFE bundle also has its sequence number.

    Raises:
        Refused: NOT_FOUND for the discovery document of an issuer without a URL.
    """
    own = Bundle.from_jwks(TrustDomain(found.trust_domain), found.bundle)
    match form:
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
