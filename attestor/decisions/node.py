"""The node itself, before and after it joined: whether it can go on as it is, and which answer of the issuer makes it a node.

Where it is kept: attestor/state; when its SVID is renewed: attestor/decisions/renewal.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography import x509

from attestor.decisions.clocks import Reading, apart
from attestor.decisions.minted import take_x509
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.invite import Invite
from svid.bundle import Bundle
from svid.errors import SVIDError
from svid.keys import PrivateKey
from svid.spiffeid import TrustDomain
from svid.x509svid import X509SVID

__all__ = [
    "NEW_INVITE",
    "REJOIN",
    "SET_CLOCKS",
    "Joining",
    "Node",
    "NodeCredential",
    "check_trust_domain",
    "joined",
    "joining",
    "renewed",
    "resumable",
    "token_hash",
    "way_back",
]

NEW_INVITE = "make a new invite with: cognomen node invite; then start the attestor once with --invite"
"""What an operator does about a node that never joined."""

REJOIN = (
    "invite it again: cognomen node invite --node ID (without --node where it was evicted);"
    " then on the node: cognomen attestor rejoin --invite FILE"
)
"""What an operator does about a node that the issuer does not let in any more."""

_BANNED = (
    "a ban is for good; to let this machine in as a new node: cognomen node invite (without --node);"
    " then on the node: cognomen attestor rejoin --invite FILE"
)
_CLONE = (
    "if another attestor runs on this node's state or on a copy of it, end the one that should not be there"
    " (nobody knows it? cognomen revoke node ID); if this is the only one, "
)

SET_CLOCKS = "set both clocks right; what is wrong comes right by itself then"
"""What an operator does about clocks that are apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A joined node.

    Args:
        issued_at: when the issuer signed the SVID; half-life counts from here.
        join_address, node_address: host:port of the issuer's two doors, from the invite.
        token_hash: which invite it joined by.
    """

    svid: X509SVID
    issued_at: datetime
    bundle: Bundle
    join_address: str
    node_address: str
    token_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """A key that was made for an invite and kept before the first call, so that a lost reply is repeated with the same key.

    Args:
        token_hash: SHA-256 of the invite's token, lower-case hexadecimal: which invite it was.
        before: the node until then, which is lost only to an invite that is good.
    """

    private_key: PrivateKey = field(repr=False)
    token_hash: str = field(repr=False)
    before: Node | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCredential:
    """What the issuer answers to a join or a renewal; `bundle` is None where it did not come along."""

    chain: Sequence[x509.Certificate]
    issued_at: datetime
    bundle: Bundle | None = None


def way_back(refused: Refused) -> str:
    """What an operator does about a node that the issuer refused, by what the issuer said."""
    if "node: banned" in refused.detail:  # or gone, which the same way mends
        return _BANNED
    return _CLONE + REJOIN if "suspected clone" in refused.detail else REJOIN


def token_hash(invite: Invite) -> str:
    """Name an invite by its token, which is not kept."""
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
    """The node that goes on as it was; None when it joins with this invite, because it never did or the invite is another one.

    One whose SVID ran out goes on, too: it comes back by its key.

    Raises:
        Refused: NOT_FOUND without node and invite.
    """
    node = saved.before if isinstance(saved, Joining) else saved
    if invite is not None and (node is None or token_hash(invite) != node.token_hash):
        return None
    if node is None:
        raise Refused(Kind.NOT_FOUND, "node: expected one that joined, or an invite, found neither", hint=NEW_INVITE)
    return node


def joining(saved: Joining | Node | None, invite: Invite, new_key: PrivateKey) -> Joining:
    """What to join with: the key that was kept for this very invite, else the new one."""
    if isinstance(saved, Joining) and saved.token_hash == token_hash(invite):
        return saved
    before = saved.before if isinstance(saved, Joining) else saved
    return Joining(private_key=new_key, token_hash=token_hash(invite), before=before)


def joined(invite: Invite, credential: NodeCredential, start: Joining, *, at: Reading) -> Node:
    """The node that this answer makes, checked: an SVID for our key, of a node of the invite's trust domain.

    Raises:
        Refused: INTERNAL, because an issuer that TLS authenticated answered nonsense.
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
    """The node with its next SVID, checked; Refused (INTERNAL) as above, and when it is another node's."""
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
    if not svid.spiffe_id.is_below("/cognomen/node"):
        raise Refused(Kind.INTERNAL, f"node SVID: expected the ID of a node, found {svid.spiffe_id}")
    return svid
