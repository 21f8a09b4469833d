"""Whether a node whose SVID ran out may come back by the key of that SVID.

How the nonce is made and taken once: issuer/flows/readmit_node. What is signed: cognomen/daemon/readmission.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.readmission import readmission_bytes
from issuer.decisions.admission import Node, check_not_banned, confirmed, is_of_node, superseded
from issuer.decisions.authority import Authority
from issuer.decisions.names import node_id_of
from issuer.decisions.profile import serial_to_text
from svid.encoding import certificate_from_der
from svid.errors import SVIDError
from svid.keys import PublicKey, hash_of, kind_of, public_key_to_der, thumbprint
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import check_leaf

__all__ = ["Claim", "check_certified", "check_claim", "check_return", "parse_claim"]

_MAX_CERTIFICATE_BYTES = 8 * 1024
_MAX_SIGNATURE_BYTES = 256
_HINT = (
    "invite it again: cognomen node invite --node ID (without --node where it was evicted);"
    " then on the node: cognomen attestor rejoin --invite FILE"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a returning node shows: the leaf of its last SVID, and its signature over our nonce and its next key."""

    leaf: x509.Certificate
    spiffe_id: SpiffeID
    nonce: bytes
    public_key: PublicKey
    signature: bytes = field(repr=False)

    @property
    def serial(self) -> str:
        """As the ledger writes it."""
        return serial_to_text(self.leaf.serial_number)

    @property
    def key_hash(self) -> str:
        """The thumbprint of the leaf's public key."""
        return thumbprint(self.leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def parse_claim(certificate: bytes, *, nonce: bytes, public_key: PublicKey, signature: bytes) -> Claim:
    """Read what a stranger shows.

    Raises:
        Refused: INVALID when it is not the form of a claim.
    """
    for name, value, most in (
        ("certificate", certificate, _MAX_CERTIFICATE_BYTES),
        ("signature", signature, _MAX_SIGNATURE_BYTES),
    ):
        if not 1 <= len(value) <= most:
            raise Refused(Kind.INVALID, f"{name}: expected 1 to {most} bytes, found {len(value)}")
    try:
        leaf = certificate_from_der(certificate)
        spiffe_id = check_leaf(leaf)
    except SVIDError as e:
        raise Refused(Kind.INVALID, f"certificate: expected the leaf of a node SVID: {e}") from e
    return Claim(leaf=leaf, spiffe_id=spiffe_id, nonce=nonce, public_key=public_key, signature=signature)


def check_claim(claim: Claim, authorities: Iterable[Authority], trust_domain: TrustDomain) -> Authority:
    """Check what can be proved without the node's row: one of our authorities signed the SVID, and its key the claim.

    Returns:
        That authority.

    Raises:
        Refused: UNAUTHENTICATED
    """
    if not claim.spiffe_id.is_member_of(trust_domain) or node_id_of(claim.spiffe_id) is None:
        raise Refused(Kind.UNAUTHENTICATED, f"certificate: expected that of a node of {trust_domain}, found another")
    signer = next((authority for authority in authorities if _signed(claim.leaf, authority)), None)
    if signer is None:
        raise Refused(
            Kind.UNAUTHENTICATED,
            "certificate: expected one that an authority of ours signed, found another",
            hint=_HINT,
        )
    key = claim.leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):  # no node has another
        raise Refused(Kind.UNAUTHENTICATED, "certificate: expected an EC key, found another")
    signed = readmission_bytes(trust_domain, claim.nonce, public_key_to_der(claim.public_key))
    try:
        key.verify(claim.signature, signed, ec.ECDSA(hash_of(kind_of(key))))
    except InvalidSignature as e:
        raise Refused(Kind.UNAUTHENTICATED, "signature: expected one by the key of the certificate") from e
    return signer


def check_certified(claim: Claim, signer: Authority, *, key_hash: str | None) -> None:
    """Check that the certificate is one that we signed, not one by a thief of an authority's key: retired ones count here, too.

    Args:
        key_hash: of the key for which the ledger has its serial; None: the ledger does not know it.

    Raises:
        Refused: DENIED
    """
    if key_hash is None and signer.tainted_at is None:
        return  # signed after the backup from which the ledger came; whether that is the node's, check_return says
    if key_hash != claim.key_hash:
        raise Refused(Kind.DENIED, "certificate: expected one that is on record for its key, found another", hint=_HINT)


def check_return(claim: Claim, node: Node | None, *, is_recorded: bool, window: timedelta, now: datetime) -> Node:
    """Let a node return whose claim was proved: the SVID that it shows is its current one by that.

    So a reply that is lost is repeated, by the same key.

    Args:
        node: the row that the claim's ID names.
        is_recorded: whether the ledger knows the serial of its SVID.
        window: how long after the latest end of its SVIDs; zero: never.

    Returns:
        The row as it must stand from now on.

    Raises:
        Refused: DENIED
    """
    if node is None or node.spiffe_id != claim.spiffe_id:
        raise Refused(Kind.DENIED, f"node: expected one that attested, found {claim.spiffe_id}")
    check_not_banned(node)
    if not is_of_node(node, claim.serial, is_recorded=is_recorded):
        raise superseded(node, claim.serial, key_hash=claim.key_hash)
    if not window:
        raise Refused(Kind.DENIED, "return: switched off", hint=_HINT, node=node.id)
    over = max(claim.leaf.not_valid_after_utc, node.svid_not_after) + window
    if now >= over:
        raise Refused(
            Kind.DENIED, f"return: expected it until {over.isoformat()}, found it later", hint=_HINT, node=node.id
        )
    return confirmed(node, claim.serial, now=now)


def _signed(leaf: x509.Certificate, authority: Authority) -> bool:
    if not authority.certificate:
        return False
    try:
        leaf.verify_directly_issued_by(x509.load_der_x509_certificate(authority.certificate))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
