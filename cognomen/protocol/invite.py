"""The invite: one string, easy to paste, that admits one node.

Who may make one, and what its token allows, is decided in issuer/flows/create_invite and issuer/decisions/attestation.
"""

import base64
import binascii
import ipaddress
import json
from dataclasses import dataclass, field
from typing import Self

from cognomen.protocol.errors import Kind, Refused
from svid.bundle import Bundle
from svid.encoding import json_value
from svid.errors import SVIDError
from svid.spiffeid import TrustDomain

__all__ = ["MAX_BYTES", "Invite", "is_like_invite"]

MAX_BYTES = 64 * 1024
"""The size of an invite as text."""

_PREFIX = "cognomen-invite-1."


def is_like_invite(text: str) -> bool:
    """Whether the text begins like an invite, so that it must not be repeated, because it may hold a secret."""
    return text.lstrip().startswith(_PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """What a node needs to join.

    Shape: `cognomen-invite-1.` and base64url without padding of a JSON object with the keys trust_domain, join_address, node_address,
    token and bundle (a SPIFFE bundle).

    Args:
        join_address: host:port of the join door, which asks for no client certificate.
        node_address: host:port of the node door.
    """

    trust_domain: TrustDomain
    join_address: str
    node_address: str
    token: str = field(repr=False)
    bundle: Bundle

    @property
    def loopback_addresses(self) -> tuple[str, ...]:
        """Those of its addresses that are unreachable from another machine."""
        return tuple(address for address in (self.node_address, self.join_address) if _is_loopback(address))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an invite, surrounding white space allowed.

        Raises:
            Refused: INVALID, for anything that is not an invite; the text itself is never repeated, because it holds a secret.
        """
        text = text.strip()
        if len(text) > MAX_BYTES:
            raise Refused(Kind.INVALID, f"invite: expected at most {MAX_BYTES} bytes, found {len(text)}")
        if not text.startswith(_PREFIX):
            raise Refused(
                Kind.INVALID,
                f"invite: expected text that begins with {_PREFIX}",
                hint="make one with: cognomen node invite",
            )
        encoded = text.removeprefix(_PREFIX)
        try:
            document = json_value(base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True))
        except (binascii.Error, ValueError) as e:
            raise Refused(Kind.INVALID, "invite: expected base64url of a JSON object; was it cut off?") from e
        return cls._from_document(document)

    @classmethod
    def _from_document(cls, document: object) -> Self:
        keys = {"trust_domain", "join_address", "node_address", "token", "bundle"}
        if not isinstance(document, dict) or set(document) != keys:
            raise Refused(Kind.INVALID, f"invite: expected an object of {', '.join(sorted(keys))}")
        texts = {key: document[key] for key in keys - {"bundle"}}
        if not all(isinstance(value, str) and value and value.isprintable() for value in texts.values()):
            # half a surrogate pair, too: nobody could encode it
            raise Refused(Kind.INVALID, "invite: expected every field but the bundle to be a printable string")
        try:
            trust_domain = TrustDomain(texts["trust_domain"])
            bundle = Bundle.from_jwks(trust_domain, json.dumps(document["bundle"]).encode())
        except SVIDError as e:
            raise Refused(Kind.INVALID, f"invite: {e}") from e
        return cls(
            trust_domain=trust_domain,
            join_address=texts["join_address"],
            node_address=texts["node_address"],
            token=texts["token"],
            bundle=bundle,
        )

    def __str__(self) -> str:
        document = {
            "trust_domain": self.trust_domain.name,
            "join_address": self.join_address,
            "node_address": self.node_address,
            "token": self.token,
            "bundle": json.loads(self.bundle.to_jwks()),
        }
        text = json.dumps(document, separators=(",", ":"))
        return _PREFIX + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
