"""Tokens and nodes as they are stored, and the rules that admit a node's call.

NODE_LIFE lists every step that a node may take, and docs/explanation/nodes.md shows it. Who becomes a node is decided in attestation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cognomen.protocol.errors import Kind, Reason, Refused
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.names import NodeID, node_id_of
from cognomen.protocol.readmission import THEN_REJOIN
from cognomen.protocol.selector import Selector
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.decisions.sampling import Alarm
from issuer.decisions.transition import Life, Transition
from issuer.decisions.uses import Reported
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "NODE_LIFE",
    "Node",
    "NodeState",
    "Peer",
    "Superseded",
    "Token",
    "admit_call",
    "banned",
    "check_key",
    "check_not_banned",
    "check_tls",
    "confirmed",
    "is_of_node",
    "state_of",
    "superseded",
    "was_replaced",
    "with_pending",
]

_TLS_1_3 = "TLSv1.3"
_HANDOVER = timedelta(minutes=1)  # twice as long as any call of an attestor may take


class NodeState(StrEnum):
    """Whether a node may call."""

    ACTIVE = "active"
    BANNED = "banned"


NODE_LIFE: Final[Life[NodeState]] = Life(
    noun="node",
    transitions=(
        Transition(
            before=None,
            step="attested",
            after=NodeState.ACTIVE,
            when="it shows a join token that is valid, or proves which machine it is; and it has the key that is to be certified",
        ),
        Transition(
            before=NodeState.ACTIVE,
            step="attested",
            after=NodeState.ACTIVE,
            when="it attests again: with a new invite for this node, with evidence that only this machine can give, or with what it showed"
            " before and the same key until that SVID is used",
        ),
        Transition(
            before=NodeState.ACTIVE,
            step="given an SVID",
            after=NodeState.ACTIVE,
            when="it attests, renews, or returns: the new SVID is pending",
        ),
        Transition(
            before=NodeState.ACTIVE,
            step="confirmed",
            after=NodeState.ACTIVE,
            when="it calls or returns with its current or its pending SVID, or after a restore with one that the ledger does not know:"
            " that is the current one from then on",
        ),
        Transition(
            before=NodeState.ACTIVE,
            step="banned",
            after=NodeState.BANNED,
            when="an operator bans or revokes it; or a replaced SVID of it is shown again, and `on_clone` is `ban`",
        ),
        Transition(
            before=NodeState.BANNED,
            step="banned",
            after=NodeState.BANNED,
            when="an operator bans or revokes it again",
        ),
        Transition(
            before=NodeState.ACTIVE,
            step="purged",
            after=None,
            when="an operator purges the nodes whose last SVID expired long enough ago",
        ),
        Transition(
            before=NodeState.ACTIVE,
            step="evicted",
            after=None,
            when="an operator evicts it: its machine may join again, as a new node",
        ),
        Transition(
            before=NodeState.BANNED,
            step="unbanned",
            after=None,
            when="an operator lifts the ban: its machine may join again, as a new node",
        ),
    ),
)
"""Every step that a node may take. Only an operator who lifts it ends a ban; a banned node is never given an SVID."""


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
        name: for people; unique among the nodes, or empty: none was given yet.
        address: the host that its attestor last called from, as noted last; empty: none was noted.
        seen_at: when its attestor last called, as noted last; None: none was noted.
        reported: the time of which its attestor reported every use, as noted last; None: it reports none.
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
    name: str = ""
    address: str = ""
    seen_at: datetime | None = None
    reported: Reported | None = None

    @property
    def known_uses(self) -> Reported:
        """The time of which every use is known: that it reported, or the moment at which it joined."""
        return self.reported or Reported(since=self.attested_at, until=self.attested_at)

    @property
    def shown_name(self) -> str:
        """Its name; its id as long as it has none."""
        return self.name or self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What the TLS of a call to the node door proved.

    Args:
        tls_version: `TLSv1.3`.
        serial: of the leaf, lower-case hexadecimal.
        key_hash: thumbprint of its public key.
    """

    tls_version: str
    session_reused: bool
    spiffe_id: SpiffeID
    serial: str
    key_hash: str
    not_after: datetime


def with_pending(node: Node, *, serial: str, not_after: datetime, now: datetime) -> Node:
    """Note the node SVID that is about to be handed out: pending until it is used.

    If the clock was slow for a while, this SVID may expire before an earlier one; then the later end counts.
    """
    return replace(
        node,
        state=_after("given an SVID", node),
        pending_serial=serial,
        svid_not_after=max(not_after, node.svid_not_after),
        replaced=_replaced(node, node.pending_serial, now=now),
    )


def is_of_node(node: Node, serial: str, *, is_recorded: bool) -> bool:
    """Whether a node SVID of this serial is the node's current or pending one.

    After a restore, this also holds for a serial that the ledger does not know: it was issued after the backup.
    """
    return serial in {node.current_serial, node.pending_serial} or (node.is_unconfirmed and not is_recorded)


def confirmed(node: Node, serial: str, *, now: datetime) -> Node:
    """The row once the node has used one of its SVIDs: from now on, that is the current one."""
    state = _after("confirmed", node)
    if serial == node.current_serial:
        return replace(node, state=state, is_unconfirmed=False)
    return replace(
        node,
        state=state,
        current_serial=serial,
        pending_serial="",
        is_unconfirmed=False,
        current_since=now,
        replaced=_replaced(node, node.current_serial, now=now),
    )


def banned(node: Node) -> Node:
    """The row once the node is banned."""
    return replace(node, state=_after("banned", node))


def state_of(node: Node, *, connected: bool, now: datetime) -> str:
    """The state as people see it: `lost` for an active node whose last SVID expired while it was away.

    A lost node may still return without an invite, as long as its return window lasts (readmission).
    """
    is_lost = node.state is NodeState.ACTIVE and not connected and now >= node.svid_not_after
    return "lost" if is_lost else node.state.value


def _after(step: str, node: Node) -> NodeState:
    return NODE_LIFE.after(node.state, step, name=node.id)


def _replaced(node: Node, serial: str, *, now: datetime) -> Mapping[str, datetime]:
    """The serials that a call in progress may still show, once this one (empty: none) is replaced."""
    recent = {one: at for one, at in node.replaced.items() if now - at < _HANDOVER}
    return {**recent, serial: now} if serial else recent


def check_tls(version: str, *, session_reused: bool) -> None:
    """Refuse what no door negotiates; if a door ever did, nobody may enter that way.

    Raises:
        Refused: UNAUTHENTICATED
    """
    if version != _TLS_1_3:
        raise Refused(Kind.UNAUTHENTICATED, f"TLS: expected {_TLS_1_3}, found {version!r}")
    if session_reused:
        raise Refused(Kind.UNAUTHENTICATED, "TLS: expected a full handshake, found a resumed session")


def admit_call(
    peer: Peer, node: Node | None, *, recorded: Credential | None, trust_domain: TrustDomain, now: datetime
) -> Node:
    """Let a node call: over full TLS 1.3, with its current SVID, or with its pending one, which then becomes the current one.

    Args:
        node: the row of the node that `peer.spiffe_id` names; None: no such row exists.
        recorded: the ledger's row of the serial; None: it does not know it, as after a restore.

    Returns:
        The row to store.

    Raises:
        Refused: UNAUTHENTICATED for what TLS proved; DENIED for what the store knows.
    """
    check_tls(peer.tls_version, session_reused=peer.session_reused)
    if now >= peer.not_after:
        expired = Refused(Kind.UNAUTHENTICATED, f"node SVID: expired at {moment_in_words(peer.not_after)}")
        raise expired.because(Reason.SVID_EXPIRED)
    if not peer.spiffe_id.is_member_of(trust_domain) or node_id_of(peer.spiffe_id) is None:
        raise Refused(Kind.DENIED, f"node SVID: expected the ID of a node of {trust_domain}, found {peer.spiffe_id}")
    if node is None or node.spiffe_id != peer.spiffe_id:
        unknown = Refused(Kind.DENIED, f"node: expected one that attested, found {peer.spiffe_id}")
        was_sent_away = recorded is not None and recorded.revocation > 0 and recorded.key_hash == peer.key_hash
        raise unknown.because(Reason.EVICTED if was_sent_away else None)
    check_not_banned(node)
    if is_of_node(node, peer.serial, is_recorded=recorded is not None):
        return confirmed(node, peer.serial, now=now)
    raise superseded(node, peer.serial, key_hash=peer.key_hash)


def check_key(peer: Peer, node: Node, *, key_hash: str | None, is_tainted: bool) -> None:
    """Check that an admitted certificate is one that we signed, not one by a thief of an authority's key.

    Args:
        key_hash: of the key for which the ledger has its serial; None: the ledger does not know it.
        is_tainted: whether the bundle holds a tainted X.509 authority.

    Raises:
        Refused: DENIED
    """
    if key_hash is None and is_tainted:  # signed after the backup from which the ledger came, or by the thief
        raise Refused(
            Kind.DENIED,
            "node SVID: expected one that is on record while an authority is tainted, found an unknown serial",
            hint=f"invite it again: cognomen node invite --node-id ID; {THEN_REJOIN}",
            node=node.id,
        )
    if key_hash not in {None, peer.key_hash}:
        raise Alarm(
            "node SVID: expected the key that is on record for its serial, found a different key",
            hint="somebody else may have an authority's key: cognomen authority taint",
            node=node.id,
            serial=peer.serial,
        )


class Superseded(Alarm):
    """An SVID that the node no longer has was shown by somebody who has its key.

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
        self.because(Reason.SUPERSEDED)
        self.serial, self.key_hash = serial, key_hash


def superseded(node: Node, serial: str, *, key_hash: str) -> Superseded:
    """The alarm about an SVID that the node no longer has."""
    return Superseded(node=node.id, serial=serial, key_hash=key_hash)


def was_replaced(node: Node | None, shown: Credential | None, *, key_hash: str, now: datetime) -> bool:
    """Whether an SVID that was shown is one that the node used to have, replaced so long ago that no call of the node still shows it.

    Args:
        shown: the ledger's row for its serial; an SVID that is not on record for its key proves nothing about the node.
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
        raise Alarm("node: banned", node=node.id).because(Reason.BANNED)
