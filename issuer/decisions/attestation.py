"""Decide who becomes a node, from what a node attestor proved and what the store knows.

The attestor decides whether evidence proves anything (issuer/nodeattestor). admission decides which calls of a node are admitted.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from cognomen.protocol.entry import MAX_LABEL_BYTES, MAX_LABELS
from cognomen.protocol.errors import Kind, Reason, Refused
from cognomen.protocol.names import NodeID, node_spiffe_id
from cognomen.protocol.selector import Selector, SelectorError
from cognomen.protocol.selectorcheck import LABEL_KEY
from issuer.decisions.admission import Node, Token, check_not_banned
from issuer.decisions.ledger import Credential
from issuer.decisions.sampling import Alarm
from svid.errors import SpiffeIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "ByIdentity",
    "ByToken",
    "Proof",
    "admit_by_identity",
    "admit_by_token",
    "check_proof",
    "check_unspent",
    "label_selectors",
    "redeem_token",
]

_MAX_NODE_ID_BYTES = 255
_MAX_SELECTORS = 64
_MAX_SELECTOR_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class ByToken:
    """The joiner has a join token, whose row says which node it is.

    Args:
        token_hash: SHA-256 of the join token, lower-case hexadecimal.
    """

    token_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByIdentity:
    """The joiner has an identity of the machine itself, such as a key in hardware or a document from its cloud.

    Args:
        node_id: the machine's id, the same in each proof; the last segment of the node's SPIFFE ID; at most 255 bytes.
        selectors: what the attestor vouches for; their type is its name; at most 64, of at most 512 bytes each.
        can_reattest: whether the proof may be used for more than one admission, because nobody but the machine can give it.
    """

    node_id: NodeID
    selectors: frozenset[Selector] = frozenset()
    can_reattest: bool = False


Proof = ByToken | ByIdentity
"""What a node attestor proved."""


def check_proof(proof: object, *, attestor: str, trust_domain: TrustDomain) -> Proof:
    """Check what a node attestor returned, whose code nobody may have type-checked.

    Args:
        attestor: its name.

    Raises:
        Refused: UNAVAILABLE, because the attestor is at fault and not the joiner, who may try again once it is repaired.
    """
    match proof:
        case ByToken():
            token_hash: object = proof.token_hash
            if not isinstance(token_hash, str):
                raise _unfit(attestor, f"a token hash that is a text, found {type(token_hash).__name__}")
        case ByIdentity():
            for key, kind in (("node_id", str), ("selectors", frozenset), ("can_reattest", bool)):
                if not isinstance(value := getattr(proof, key), kind):
                    raise _unfit(attestor, f"{key} of type {kind.__name__}, found {type(value).__name__}")
            for selector in proof.selectors:
                if not isinstance(selector, Selector):
                    raise _unfit(attestor, f"selectors of type Selector, found {type(selector).__name__}")
            _checked_identity(proof, attestor, trust_domain)
        case _:
            raise _unfit(attestor, f"ByToken or ByIdentity, found {type(proof).__name__}")
    return proof


def label_selectors(labels: Mapping[str, str], *, attestor: str) -> frozenset[Selector]:
    """The node selectors that an invite's labels give: `join_token:label:<key>:<value>`.

    Args:
        attestor: the name of the node attestor that takes tokens.

    Raises:
        Refused: INVALID for a key or value that a selector cannot hold unchanged.
    """
    if len(labels) > MAX_LABELS:
        raise Refused(Kind.INVALID, f"labels: expected at most {MAX_LABELS}, found {len(labels)}")
    selectors = set()
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key):
            raise Refused(Kind.INVALID, f"labels: expected keys of 1 to 63 of a-z A-Z 0-9 . _ / -, found {key[:80]!r}")
        try:
            selectors.add(Selector(attestor, f"label:{key}:{value}"))
        except SelectorError as e:
            raise Refused(Kind.INVALID, f"labels: {key}: {e}") from e
        if not 1 <= len(value.encode()) <= MAX_LABEL_BYTES:
            found = len(value.encode())
            raise Refused(Kind.INVALID, f"labels: {key}: expected 1 to {MAX_LABEL_BYTES} bytes, found {found}")
    return frozenset(selectors)


def redeem_token(token: Token | None, *, key_hash: str, now: datetime) -> Token:
    """Let a key use a join token. The first key takes it, and only that key may use it again, while it is valid (check_unspent).

    Returns:
        The row as it must be from now on.

    Raises:
        Refused: UNAUTHENTICATED for a token that is unknown or expired; DENIED when another key has used it.
    """
    if token is None:
        raise Refused(Kind.UNAUTHENTICATED, "join token: unknown")
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
            hint="somebody else may have this invite; ban the node that used it if it is not yours",
            node=token.node_id,
        )
    return token


def check_unspent(token: Token, node: Node | None, *, pending: Credential | None) -> None:
    """Let a used token be used again only while the SVID that it gave has not been used: the answer may have been lost.

    Args:
        pending: the ledger's row of the node's pending SVID.

    Raises:
        Alarm: somebody with the token and its key comes again, although the node has already joined.
    """
    was_used_since = (
        node is not None
        and node.current_since is not None
        and token.used_at is not None
        and node.current_since >= token.used_at
    )
    if node is None or not _is_for(pending, token.key_hash) or was_used_since:
        raise Alarm(
            "join token: already used, and so is the SVID that it gave",
            hint="is this an attestor with an old copy of its state? invite it again: cognomen node invite --node-id ID",
            node=token.node_id,
        )


def admit_by_token(
    token: Token, known: Node | None, *, attestor: str, trust_domain: TrustDomain, now: datetime
) -> Node:
    """The node that this redeemed token names, as it is from now on; its SVID comes later (with_pending).

    Args:
        known: the node's row, if it attested before; a token for such a node has its labels.
        attestor: the name of the node attestor that took the token.

    Raises:
        Refused: DENIED when the node belongs to another attestor or is banned.
    """
    spiffe_id = node_spiffe_id(trust_domain, attestor, token.node_id)
    if known is None:
        return Node(
            id=token.node_id,
            spiffe_id=spiffe_id,
            attestor=attestor,
            selectors=label_selectors(token.labels, attestor=attestor),
            attested_at=now,
            svid_not_after=now,
        )
    _check_own(known, spiffe_id, attestor)
    check_not_banned(known)
    return known


def admit_by_identity(
    proof: ByIdentity,
    known: Node | None,
    *,
    attestor: str,
    pending: Credential | None,
    key_hash: str,
    trust_domain: TrustDomain,
    now: datetime,
) -> Node:
    """The node that has this identity, as it is from now on; its SVID comes later (with_pending).

    A machine that proves itself again stays the same node, with the selectors that were proved last; its next SVID replaces the one it had.
    If its proof is good for one admission only, the same key may repeat it until the SVID is used: the answer may have been lost.

    Args:
        known: the row of the node with that id, if it attested before.
        attestor: the name of the node attestor that vouches for it.
        pending: the ledger's row of its pending SVID.
        key_hash: thumbprint of the key to be certified.

    Raises:
        Refused: UNAVAILABLE for what no attestor may prove; DENIED for a node that belongs to another attestor, is banned, or may not come
            again.
    """
    spiffe_id = _checked_identity(proof, attestor, trust_domain)
    if known is None:
        return Node(
            id=proof.node_id,
            spiffe_id=spiffe_id,
            attestor=attestor,
            selectors=proof.selectors,
            attested_at=now,
            svid_not_after=now,
        )
    _check_own(known, spiffe_id, attestor)
    check_not_banned(known)
    if not proof.can_reattest and (known.current_serial or not _is_for(pending, key_hash)):
        raise Alarm(
            "node: attested before, and its attestor vouches for a machine only once",
            hint=f"if it has lost its state, let it join as a new node: cognomen node evict {known.id}",
            node=known.id,
        ).because(Reason.ATTESTED_BEFORE)
    return replace(known, selectors=proof.selectors)


def _check_own(known: Node, spiffe_id: SpiffeID, attestor: str) -> None:
    """No attestor vouches for a node of another one: a token would let in whoever has it as a machine that proves more."""
    if known.spiffe_id != spiffe_id:
        raise Alarm(f"node: expected one that {attestor} attested, found one of {known.attestor}", node=known.id)


def _checked_identity(proof: ByIdentity, attestor: str, trust_domain: TrustDomain) -> SpiffeID:
    """The SPIFFE ID that the proof gives; the store keeps all of the proof, and sends it to those who follow the nodes."""
    if (length := len(proof.node_id.encode(errors="replace"))) > _MAX_NODE_ID_BYTES:
        raise _unfit(attestor, f"a node id of at most {_MAX_NODE_ID_BYTES} bytes, found {length}")
    if len(proof.selectors) > _MAX_SELECTORS:
        raise _unfit(attestor, f"at most {_MAX_SELECTORS} selectors, found {len(proof.selectors)}")
    for selector in sorted(proof.selectors):
        if selector.type != attestor:
            raise _unfit(attestor, f"selectors of type {attestor}, found {str(selector)[:80]!r}")
        if (length := len(str(selector).encode())) > _MAX_SELECTOR_BYTES:
            raise _unfit(attestor, f"selectors of at most {_MAX_SELECTOR_BYTES} bytes, found {length}")
    try:
        return node_spiffe_id(trust_domain, attestor, proof.node_id)
    except SpiffeIDError as e:
        raise _unfit(attestor, f"a node id that fits a SPIFFE ID: {e}") from e


def _unfit(attestor: str, what: str) -> Refused:
    return Refused(Kind.UNAVAILABLE, f"node attestor {attestor}: expected {what}")


def _is_for(pending: Credential | None, key_hash: str) -> bool:
    return pending is not None and pending.key_hash == key_hash
