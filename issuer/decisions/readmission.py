"""Decide whether a node whose SVID expired may come back with the key of that SVID.

issuer/flows/readmit_node makes the nonce and takes it once. cognomen/protocol/readmission defines what is signed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.names import node_id_of
from cognomen.protocol.possession import MAX_SIGNATURE_BYTES
from cognomen.protocol.readmission import THEN_REJOIN, readmission_bytes
from issuer.decisions.admission import Node, NodeState, check_not_banned, confirmed, is_of_node, superseded
from issuer.decisions.authority import Authority
from issuer.decisions.profile import serial_to_text
from svid.encoding import certificate_from_der
from svid.errors import SVIDError, UnusableKeyError
from svid.keys import PublicKey, hash_of, kind_of, public_key_to_der, thumbprint
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import check_leaf

__all__ = ["Claim", "check_certified", "check_claim", "check_return", "parse_claim", "returns_until"]

_MAX_CERTIFICATE_BYTES = 8 * 1024
_HINT = f"invite it again: cognomen node invite --node-id ID (without --node-id if it was evicted); {THEN_REJOIN}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a returning node shows: the leaf of its last SVID, and its signature over our nonce and its new key."""

    leaf: x509.Certificate
    spiffe_id: SpiffeID
    nonce: bytes
    public_key: PublicKey
    signature: bytes = field(repr=False)

    @property
    def serial(self) -> str:
        """The serial number, as the ledger writes it."""
        return serial_to_text(self.leaf.serial_number)

    @property
    def key_hash(self) -> str:
        """The thumbprint of the leaf's public key."""
        return thumbprint(self.leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def parse_claim(certificate: bytes, *, nonce: bytes, public_key: PublicKey, signature: bytes) -> Claim:
    """Parse a claim from a stranger.

    Raises:
        Refused: INVALID when it does not have the form of a claim.
    """
    for name, value, most in (
        ("certificate", certificate, _MAX_CERTIFICATE_BYTES),
        ("signature", signature, MAX_SIGNATURE_BYTES),
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
        raise Refused(Kind.UNAUTHENTICATED, f"certificate: not that of a node of {trust_domain}")
    signer = next((authority for authority in authorities if _signed(claim.leaf, authority)), None)
    if signer is None:
        raise Refused(
            Kind.UNAUTHENTICATED,
            "certificate: none of our authorities signed it",
            hint=_HINT,
        )
    key = claim.leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):  # no node has any other key
        raise Refused(Kind.UNAUTHENTICATED, "certificate: expected an EC key, found a key of another kind")
    signed = readmission_bytes(trust_domain, claim.nonce, public_key_to_der(claim.public_key))
    try:
        key.verify(claim.signature, signed, ec.ECDSA(hash_of(kind_of(key))))
    except (InvalidSignature, UnusableKeyError) as e:  # such as P-521, which no node has either
        raise Refused(Kind.UNAUTHENTICATED, "signature: invalid, expected one by the key of the certificate") from e
    return signer


def check_certified(claim: Claim, signer: Authority, *, key_hash: str | None) -> None:
    """Check that we signed the certificate, and not a thief of an authority's key; this includes retired authorities.

    Args:
        key_hash: the hash of the key that the ledger has for its serial; None: the serial is not in the ledger.

    Raises:
        Refused: DENIED
    """
    if key_hash is None and signer.tainted_at is None:
        return  # signed after the backup from which the ledger came; check_return decides whether it is the node's
    if key_hash != claim.key_hash:
        raise Refused(Kind.DENIED, "certificate: not recorded in the ledger for its key", hint=_HINT)


def check_return(claim: Claim, node: Node | None, *, is_recorded: bool, window: timedelta, now: datetime) -> Node:
    """Let a node return once its claim is proved. This makes the SVID that it shows its current one.

    So it can repeat a lost reply with the same key.

    Args:
        node: the row that the claim's ID names.
        is_recorded: whether the ledger has the serial of its SVID.
        window: how long after the last of its SVIDs expires; zero: never.

    Returns:
        The row as it must be from now on.

    Raises:
        Refused: DENIED
    """
    if node is None or node.spiffe_id != claim.spiffe_id:
        raise Refused(Kind.DENIED, f"node: this issuer does not know {claim.spiffe_id}")
    check_not_banned(node)
    if not is_of_node(node, claim.serial, is_recorded=is_recorded):
        raise superseded(node, claim.serial, key_hash=claim.key_hash)
    if not window:
        raise Refused(Kind.DENIED, "return: disabled", hint=_HINT, node=node.id)
    over = max(claim.leaf.not_valid_after_utc, node.svid_not_after) + window
    if now >= over:
        raise Refused(
            Kind.DENIED, f"return: too late, it was possible until {moment_in_words(over)}", hint=_HINT, node=node.id
        )
    return confirmed(node, claim.serial, now=now)


def returns_until(node: Node, *, window: timedelta) -> datetime | None:
    """Until when an operator can expect the node to return without an invite; None: it is banned, or nodes never return."""
    return node.svid_not_after + window if window and node.state is NodeState.ACTIVE else None


def _signed(leaf: x509.Certificate, authority: Authority) -> bool:
    if not authority.certificate:
        return False
    try:
        leaf.verify_directly_issued_by(x509.load_der_x509_certificate(authority.certificate))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
