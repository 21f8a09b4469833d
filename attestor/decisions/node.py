"""The node before and after it has joined: whether it can go on as it is, and which answer from the issuer makes it a node.

Where it is saved: attestor/state. When its SVID is renewed: attestor/decisions/renewal.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from cryptography import x509

from attestor.decisions.clocks import Reading, apart
from attestor.decisions.minted import take_x509
from cognomen.protocol.errors import Kind, Reason, Refused
from cognomen.protocol.invite import Invite
from cognomen.protocol.names import node_id_of
from cognomen.protocol.readmission import THEN_REJOIN
from svid.bundle import Bundle
from svid.errors import SVIDError
from svid.keys import PrivateKey
from svid.spiffeid import TrustDomain
from svid.x509svid import X509SVID

__all__ = [
    "NEW_INVITE",
    "REJOIN",
    "RETURNS",
    "SET_CLOCKS",
    "Joining",
    "Node",
    "NodeCredential",
    "check_trust_domain",
    "is_sent_away",
    "joined",
    "joining",
    "renewed",
    "resumable",
    "token_hash",
    "way_around",
    "way_back",
    "way_in",
]

NEW_INVITE = "make a new invite with: cognomen node invite; then start the attestor once with --invite"
"""What an operator can do about a node that has never joined."""

REJOIN = (
    "invite it again: cognomen node invite --node-id ID (without --node-id where it was evicted or banned); "
    + THEN_REJOIN
)
"""What an operator can do about a node that the issuer no longer admits."""

_BELONGS = "this state belongs to {}, which joined with another invite: to go on as that node, start without --invite"

_EVICT = (
    "its proof is good for one admission only; if this machine has lost its state, let it join as a new node:"
    " cognomen node evict ID, where the issuer runs; then start the attestor again"
)
_AS_NEW = f"to let this machine in as a new node: cognomen node invite (without --node-id); {THEN_REJOIN}"
_BANNED = (
    "to let this machine in as a new node: cognomen node invite (without --node-id), or, if it proves an identity of its own,"
    f" cognomen node unban ID and cognomen node invite --without-token; {THEN_REJOIN}"
)
_CLONE = (
    "if another attestor runs on this node's state or on a copy of it, end the one that should not be there"
    " (if nobody knows it: cognomen revoke node ID); if this is the only one, "
)
RETURNS = "it returns automatically with its key; if it does not, compare this node's clock with the issuer's"
"""What becomes of a node whose SVID has expired."""

SET_CLOCKS = "correct the clocks; everything else recovers automatically"
"""What an operator can do about clocks that are apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A joined node.

    Args:
        issued_at: when the issuer signed the SVID; half-life counts from then.
        join_address, node_address: host:port of the issuer's two doors, from the invite.
        token_hash: identifies the invite that it joined with.
    """

    svid: X509SVID
    issued_at: datetime
    bundle: Bundle
    join_address: str
    node_address: str
    token_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """A key that was made for an invite and saved before the first call, so that a retry after a lost reply uses the same key.

    Args:
        token_hash: SHA-256 of the invite's token, lower-case hexadecimal; it identifies the invite.
        before: the previous node, which is given up only if the invite proves good.
    """

    private_key: PrivateKey = field(repr=False)
    token_hash: str = field(repr=False)
    before: Node | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCredential:
    """The issuer's answer to a join or a renewal; `bundle` is None if the answer has none."""

    chain: Sequence[x509.Certificate]
    issued_at: datetime
    bundle: Bundle | None = None


def way_back(refused: Refused) -> str:
    """What an operator can do about a node that the issuer refused; an issuer that is older than we are gives no reason."""
    match refused.reason:
        case Reason.BANNED:
            return _BANNED
        case Reason.EVICTED:
            return _AS_NEW
        case Reason.SVID_EXPIRED:  # if it is too late to return, it hears so when it tries
            return RETURNS
        case Reason.SUPERSEDED:
            return _CLONE + REJOIN
        case Reason.ATTESTED_BEFORE | None:
            return REJOIN
        case _:
            assert_never(refused.reason)


def is_sent_away(refused: Refused) -> bool:
    """Whether an operator sent this node away: then what it holds is revoked, and nobody may be given more of it."""
    return refused.reason in {Reason.BANNED, Reason.EVICTED}


def way_in(refused: Refused, before: Node | None = None) -> str:
    """What an operator can do about a node that the issuer did not let join.

    Args:
        before: the node that the state belongs to, because it joined with another invite; None: there is none.
    """
    if refused.reason is Reason.ATTESTED_BEFORE:
        return _EVICT
    way = refused.hint or NEW_INVITE
    if before is None:
        return way
    return f"{_BELONGS.format(before.svid.spiffe_id)}; to join as another node, {way}"


def way_around(invite: Invite) -> str:
    """What an operator can do if nobody answers at the invite's addresses; empty: nothing is known to be wrong with them."""
    if not (found := invite.loopback_addresses):
        return ""
    return (
        f"the invite names {' and '.join(found)}, which is this machine itself; if the issuer runs on another machine, set"
        " advertised_node_address and advertised_join_address in its configuration, restart it, and make a new invite"
    )


def token_hash(invite: Invite) -> str:
    """Name an invite by a hash of its token; the token is not kept."""
    return hashlib.sha256(invite.token.encode()).hexdigest()


def check_trust_domain(expected: TrustDomain | None, found: TrustDomain, *, where: str) -> None:
    """Refuse (INVALID) an invite or a state of another trust domain than the configured one."""
    if expected is not None and expected != found:
        raise Refused(
            Kind.INVALID,
            f"{where}: expected the trust domain {expected}, found {found}",
            hint="compare trust_domain in the configuration with the issuer's",
        )


def resumable(saved: Joining | Node | None, invite: Invite | None) -> Node | None:
    """The saved node if it goes on as it was; None if it joins with this invite, because it has never joined or the invite is a new one.

    A node whose SVID has expired also goes on: it comes back with its key.

    Raises:
        Refused: NOT_FOUND if there is neither a node nor an invite.
    """
    node = saved.before if isinstance(saved, Joining) else saved
    if invite is not None and (node is None or token_hash(invite) != node.token_hash):
        return None
    if node is None:
        raise Refused(Kind.NOT_FOUND, "node: it has never joined, and there is no invite", hint=NEW_INVITE)
    return node


def joining(saved: Joining | Node | None, invite: Invite, new_key: PrivateKey) -> Joining:
    """What to join with: the key that was saved for this same invite, otherwise the new one."""
    if isinstance(saved, Joining) and saved.token_hash == token_hash(invite):
        return saved
    before = saved.before if isinstance(saved, Joining) else saved
    return Joining(private_key=new_key, token_hash=token_hash(invite), before=before)


def joined(invite: Invite, credential: NodeCredential, start: Joining, *, at: Reading) -> Node:
    """Check this answer and make the node: it must be an SVID for our key, of a node in the invite's trust domain.

    Raises:
        Refused: INTERNAL, because an issuer that TLS authenticated sent an invalid answer.
    """
    bundle = credential.bundle or invite.bundle
    return Node(
        svid=_checked(credential.chain, start.private_key, bundle, at=at),
        issued_at=credential.issued_at,
        bundle=bundle,
        join_address=invite.join_address,
        node_address=invite.node_address,
        token_hash=start.token_hash,
    )


def renewed(node: Node, credential: NodeCredential, key: PrivateKey, *, at: Reading) -> Node:
    """Check the next SVID and give it to the node; Refused (INTERNAL) as above, and if it is another node's."""
    bundle = credential.bundle or node.bundle
    svid = _checked(credential.chain, key, bundle, at=at)
    if svid.spiffe_id != node.svid.spiffe_id:
        raise Refused(Kind.INTERNAL, f"node SVID: expected {node.svid.spiffe_id}, found {svid.spiffe_id}")
    return replace(node, svid=svid, issued_at=credential.issued_at, bundle=bundle)


def _checked(chain: Sequence[x509.Certificate], key: PrivateKey, bundle: Bundle, *, at: Reading) -> X509SVID:
    try:
        svid = take_x509(chain, key, bundle=bundle, at=at.issuer)
    except SVIDError as e:
        clocks = apart(at)
        detail = f"node SVID: {e}: {clocks}" if clocks else f"node SVID: {e}"
        raise Refused(Kind.INTERNAL, detail, hint=SET_CLOCKS if clocks else "") from e
    if node_id_of(svid.spiffe_id) is None:
        raise Refused(Kind.INTERNAL, f"node SVID: expected the ID of a node, found {svid.spiffe_id}")
    return svid
