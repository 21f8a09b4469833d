"""Read who a peer is at a network door, from its certificate, and where it is. issuer/flows/admit_call decides who is admitted."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cognomen.protocol.names import node_id_of
from issuer.decisions.profile import serial_to_text
from svid.encoding import certificate_from_der
from svid.errors import SVIDError
from svid.keys import thumbprint
from svid.spiffeid import SpiffeID
from svid.x509svid import check_leaf

__all__ = ["Shown", "host_of", "node_of", "shown"]

_MAPPED = "::ffff:"
_CERTIFICATES = 1024  # each call on a connection shows the same one


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a certificate says."""

    spiffe_id: SpiffeID
    serial: str
    key_hash: str
    not_after: datetime


@lru_cache(maxsize=_CERTIFICATES)
def shown(der: bytes) -> Shown:
    """Read a leaf.

    Raises:
        SVIDError: it is not an X509-SVID.
    """
    leaf = certificate_from_der(der)
    return Shown(
        spiffe_id=check_leaf(leaf),
        serial=serial_to_text(leaf.serial_number),
        key_hash=thumbprint(leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        not_after=leaf.not_valid_after_utc,
    )


def node_of(der: bytes) -> str | None:
    """The node that a certificate verified by TLS names; None: no node."""
    try:
        spiffe_id = shown(der).spiffe_id
    except SVIDError:
        return None
    return None if node_id_of(spiffe_id) is None else str(spiffe_id)


def host_of(address: str) -> str:
    """The host of host:port, as people know it: without brackets, and IPv4 as such where a listener for both shows it in IPv6."""
    host = address.rpartition(":")[0].strip("[]")
    return host.removeprefix(_MAPPED) if "." in host else host
