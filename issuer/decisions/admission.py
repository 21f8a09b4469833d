"""Who may be a node: tokens, nodes, and the rules that admit a joiner or a node's call.

The kernel of a node attestor's own proof is its plugin's (issuer/nodeattestor); what the store knows is added here.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cognomen.daemon.errors import Kind, Refused
from issuer.decisions.audit import Credential, CredentialKind, NodeID
from issuer.decisions.names import node_id_of, node_spiffe_id
from issuer.decisions.sampling import Alarm
from svid.errors import SelectorError
from svid.selector import Selector
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "Node",
    "NodeState",
    "Peer",
    "Superseded",
    "Token",
    "admit_call",
    "admit_node",
    "check_key",
    "check_not_banned",
    "confirmed",
    "is_of_node",
    "label_selectors",
    "redeem_token",
    "superseded",
    "was_replaced",
    "with_pending",
]

_MAX_LABELS = 64
_MAX_LABEL_BYTES = 256
_LABEL_KEY = re.compile(r"[A-Za-z0-9._/-]{1,63}")
_TLS_1_3 = "TLSv1.3"
_HANDOVER = timedelta(minutes=1)  # twice as long as any call of an attestor may take


class NodeState(StrEnum):
    """Whether a node may call."""

    ACTIVE = "active"
    BANNED = "banned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A join token's row; the token itself is known to the invite only.

    Args:
        hash: SHA-256 of the token, lower-case hexadecimal.
        node_id: the node this invite is for, chosen when it was made.
        key_hash: thumbprint of the first public key that used it; empty: unused.
    """

    hash: str = field(repr=False)
    node_id: NodeID
    labels: Mapping[str, str]
    created_at: datetime
    expires_at: datetime
    key_hash: str = ""
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An attested node.

    Args:
        current_serial: of the node SVID in use, lower-case hexadecimal; empty: none was used yet.
        pending_serial: of the one handed out last, current at its first use; empty: none.
        acknowledged: the change number its attestor last acknowledged.
        svid_not_after: the latest end of all its SVIDs.
        is_unconfirmed: the store was restored from a backup, after which the node may have been given another SVID.
        current_since: when the current SVID was first used; None: not known.
        replaced: the serials that were current or pending until a moment ago, and until when: no longer than a call may take.
    """

    id: NodeID
    spiffe_id: SpiffeID
    attestor: str
    selectors: frozenset[Selector]
    attested_at: datetime
    svid_not_after: datetime
    state: NodeState = NodeState.ACTIVE
    current_serial: str = ""
    pending_serial: str = ""
    acknowledged: int = 0
    is_unconfirmed: bool = False
    current_since: datetime | None = None
    replaced: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What the TLS of a call to the node door proved.

    Args:
        tls_version: as gRPC names it: `TLSv1.3`.
        serial: of the leaf, lower-case hexadecimal.
        key_hash: thumbprint of its public key.
    """

    tls_version: str
    session_reused: bool
    spiffe_id: SpiffeID
    serial: str
    key_hash: str
    not_after: datetime


def label_selectors(labels: Mapping[str, str]) -> frozenset[Selector]:
    """The node selectors that an invite's labels give: `join_token:label:<key>:<value>`.

    Raises:
        Refused: INVALID, for a key or value that would not come out of a selector as it went in.
    """
    if len(labels) > _MAX_LABELS:
        raise Refused(Kind.INVALID, f"labels: expected at most {_MAX_LABELS}, found {len(labels)}")
    selectors = set()
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise Refused(Kind.INVALID, f"labels: expected keys of 1 to 63 of a-z A-Z 0-9 . _ / -, found {key[:80]!r}")
        try:
            selectors.add(Selector("join_token", f"label:{key}:{value}"))
        except SelectorError as e:
            raise Refused(Kind.INVALID, f"labels: {key}: {e}") from e
        if not 1 <= len(value.encode()) <= _MAX_LABEL_BYTES:
            found = len(value.encode())
            raise Refused(Kind.INVALID, f"labels: {key}: expected 1 to {_MAX_LABEL_BYTES} bytes, found {found}")
    return frozenset(selectors)


def redeem_token(token: Token | None, *, key_hash: str, now: datetime) -> Token:
    """Let a key use a join token: the first key takes it, and only that key may repeat, within the token's life.

    Returns:
        The row as it must stand from now on.

    Raises:
        Refused: UNAUTHENTICATED for a token that is unknown or over; DENIED when another key has it.
    """
    if token is None:
        raise Refused(Kind.UNAUTHENTICATED, "join token: expected one of ours, found an unknown one")
    if now >= token.expires_at:
        raise Refused(
            Kind.UNAUTHENTICATED,
            "join token: expired",
            hint="make a new one with: cognomen node invite",
            node=token.node_id,
        )
    if not token.key_hash:
        return replace(token, key_hash=key_hash, used_at=now)
    if not hmac.compare_digest(token.key_hash, key_hash):
        raise Alarm(
            "join token: already used by another key",
            hint="somebody else may hold this invite; ban the node that used it if it is not yours",
            node=token.node_id,
        )
    return token


def admit_node(
    token: Token, known: Node | None, *, trust_domain: TrustDomain, proved: frozenset[Selector], now: datetime
) -> Node:
    """The node that this redeemed token names, as it stands from now on; its SVID is still to come (with_pending).

    Args:
        known: the node's row, where it attested before; a token for such a node has its labels.
        proved: the selectors that the node attestor vouches for.

    Raises:
        Refused: DENIED when the node is banned.
    """
    if known is None:
        return Node(
            id=token.node_id,
            spiffe_id=node_spiffe_id(trust_domain, "join_token", token.node_id),
            attestor="join_token",
            selectors=proved | label_selectors(token.labels),
            attested_at=now,
            svid_not_after=now,
        )
    check_not_banned(known)
    return known


def with_pending(node: Node, *, serial: str, not_after: datetime, now: datetime) -> Node:
    """Note the node SVID that is about to be handed out: pending until it is used.

    Of a clock that was slow for a while the end may lie before that of another SVID, which goes on counting.
    """
    return replace(
        node,
        pending_serial=serial,
        svid_not_after=max(not_after, node.svid_not_after),
        replaced=_replaced(node, node.pending_serial, now=now),
    )


def is_of_node(node: Node, serial: str, *, is_recorded: bool) -> bool:
    """Whether a node SVID of this serial is the node's current or pending one.

    After a restore one that the ledger does not know is the node's, too: it was issued after the backup.
    """
    return serial in {node.current_serial, node.pending_serial} or (node.is_unconfirmed and not is_recorded)


def confirmed(node: Node, serial: str, *, now: datetime) -> Node:
    """The row once an SVID of the node was used: it is the current one from now on."""
    if serial == node.current_serial:
        return replace(node, is_unconfirmed=False)
    return replace(
        node,
        current_serial=serial,
        pending_serial="",
        is_unconfirmed=False,
        current_since=now,
        replaced=_replaced(node, node.current_serial, now=now),
    )


def _replaced(node: Node, serial: str, *, now: datetime) -> Mapping[str, datetime]:
    """Those that a call under way may still show, once this one (empty: none) is replaced."""
    recent = {one: at for one, at in node.replaced.items() if now - at < _HANDOVER}
    return {**recent, serial: now} if serial else recent


def admit_call(peer: Peer, node: Node | None, *, is_recorded: bool, trust_domain: TrustDomain, now: datetime) -> Node:
    """Let a node call: over full TLS 1.3, with its current SVID, or its pending one, which becomes current by that.

    Args:
        node: the row of the node that `peer.spiffe_id` names, None where there is none.
        is_recorded: whether the ledger knows the serial.

    Returns:
        The row as it must stand from now on.

    Raises:
        Refused: UNAUTHENTICATED for what TLS proved; DENIED for what the store knows.
    """
    if peer.tls_version != _TLS_1_3:
        raise Refused(Kind.UNAUTHENTICATED, f"TLS: expected {_TLS_1_3}, found {peer.tls_version!r}")
    if peer.session_reused:
        raise Refused(Kind.UNAUTHENTICATED, "TLS: expected a full handshake, found a resumed session")
    if now >= peer.not_after:
        raise Refused(Kind.UNAUTHENTICATED, f"node SVID: expired at {peer.not_after.isoformat()}")
    if not peer.spiffe_id.is_member_of(trust_domain) or node_id_of(peer.spiffe_id) is None:
        raise Refused(Kind.DENIED, f"node SVID: expected the ID of a node of {trust_domain}, found {peer.spiffe_id}")
    if node is None or node.spiffe_id != peer.spiffe_id:
        raise Refused(Kind.DENIED, f"node: expected one that attested, found {peer.spiffe_id}")
    check_not_banned(node)
    if is_of_node(node, peer.serial, is_recorded=is_recorded):
        return confirmed(node, peer.serial, now=now)
    raise superseded(node, peer.serial, key_hash=peer.key_hash)


def check_key(peer: Peer, node: Node, *, key_hash: str | None, is_tainted: bool) -> None:
    """Check that an admitted certificate is one that we signed, not one by a thief of an authority's key.

    Args:
        key_hash: of the key for which the ledger has its serial; None: the ledger does not know it.
        is_tainted: an X.509 authority of the bundle is.

    Raises:
        Refused: DENIED
    """
    if key_hash is None and is_tainted:  # signed after the backup from which the ledger came, or by the thief
        raise Refused(
            Kind.DENIED,
            "node SVID: expected one that is on record while an authority is tainted, found another",
            hint="invite it again: cognomen node invite --node ID; then on the node: cognomen attestor rejoin --invite FILE",
            node=node.id,
        )
    if key_hash not in {None, peer.key_hash}:
        raise Alarm(
            "node SVID: expected the key that is on record for its serial, found another",
            hint="somebody else may have an authority's key: cognomen authority taint",
            node=node.id,
            serial=peer.serial,
        )


class Superseded(Alarm):
    """An SVID that is not the node's any more was shown, by whoever has its key.

    Args:
        key_hash: thumbprint of that key.
    """

    def __init__(self, *, node: str, serial: str, key_hash: str) -> None:
        super().__init__(
            "node SVID: superseded by a later one, suspected clone",
            hint="two attestors may run with one node's state",
            node=node,
            serial=serial,
        )
        self.serial, self.key_hash = serial, key_hash


def superseded(node: Node, serial: str, *, key_hash: str) -> Superseded:
    """The alarm about an SVID that is not the node's any more."""
    return Superseded(node=node.id, serial=serial, key_hash=key_hash)


def was_replaced(node: Node | None, shown: Credential | None, *, key_hash: str, now: datetime) -> bool:
    """Whether an SVID that was shown is one that the node had, and that was replaced so long ago that no call of the node shows it.

    Args:
        shown: the ledger's row of its serial; what is not on record for its key proves nothing about the node.
    """
    return (
        node is not None
        and shown is not None
        and (shown.kind, shown.node_id, shown.key_hash) == (CredentialKind.NODE, node.id, key_hash)
        and shown.serial not in {node.current_serial, node.pending_serial}
        and node.current_since is not None
        and (shown.serial not in node.replaced or now - node.replaced[shown.serial] >= _HANDOVER)
    )


def check_not_banned(node: Node) -> None:
    """Refuse a node that an operator banned.

    Raises:
        Alarm: it is banned.
    """
    if node.state is NodeState.BANNED:
        raise Alarm("node: banned", node=node.id)
