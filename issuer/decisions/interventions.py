"""What an operator may do to an authority, beside its automatic life.

What a step does to a row: authority. What is due without anybody's word: rotation. Who does it: issuer/flows/command_authorities.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

from cognomen.daemon.errors import Kind, Refused
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState, is_valid
from issuer.decisions.rotation import successor
from svid.keys import KeyID

__all__ = [
    "check_activation",
    "check_preparation",
    "check_return",
    "check_revocation",
    "check_taint",
    "named",
    "takes_over",
]

_MOST_NEXT = 3  # each of them makes every bundle longer
_MOST_NAMED = 5  # nodes in one message
_LIST_HINT = "authorities are listed by: cognomen authority list"


def named(authorities: Iterable[Authority], key_id: str) -> Authority:
    """The authority of that key.

    Raises:
        Refused: NOT_FOUND
    """
    for authority in authorities:
        if authority.key_id == key_id:
            return authority
    raise Refused(Kind.NOT_FOUND, f"key_id: no authority has the key {key_id[:80]!r}", hint=_LIST_HINT)


def check_preparation(authorities: Iterable[Authority], kind: AuthorityKind) -> None:
    """Let one more be made that could sign next.

    Raises:
        Refused: EXHAUSTED when enough of them wait.
    """
    waiting = [a for a in authorities if a.kind is kind and a.state in {AuthorityState.INTENDED, AuthorityState.NEXT}]
    if len(waiting) >= _MOST_NEXT:
        raise Refused(
            Kind.EXHAUSTED,
            f"{kind} authority: expected fewer than {_MOST_NEXT} that wait to sign, found {len(waiting)}",
            hint=f"let one of them sign: cognomen authority activate {waiting[-1].key_id}",
        )


def check_activation(authority: Authority, *, has_key: bool, now: datetime) -> None:
    """Let it sign now, whoever knows it.

    An old one may: after the restore of a backup it can be the only one that the nodes know.

    Raises:
        Refused: CONFLICT for one that is neither next nor old, is tainted or not valid now, or has lost its key.
    """
    if authority.state not in {AuthorityState.NEXT, AuthorityState.OLD} or authority.tainted_at is not None:
        became = authority.state if authority.tainted_at is None else "tainted"
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one that is next or old, found {authority.key_id}, which is {became}",
            hint=_LIST_HINT,
        )
    if not is_valid(authority, now=now):
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one that is valid now, found {authority.key_id}, which is valid from"
            f" {authority.not_before.isoformat()} to {authority.not_after.isoformat()}",
            hint=f"make another: cognomen authority prepare {authority.kind}",
        )
    if not has_key:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one whose key is there, found {authority.key_id}, whose key is gone",
            hint=f"make another: cognomen authority prepare {authority.kind}",
        )


def check_taint(authority: Authority) -> None:
    """Let what it signed be replaced.

    Raises:
        Refused: CONFLICT for one that the bundle does not hold, or that is tainted already.
    """
    _check_published(authority)
    if authority.tainted_at is not None:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one that is not tainted, found {authority.key_id}, tainted at"
            f" {authority.tainted_at.isoformat()}",
            hint=f"take it out of the bundle: cognomen authority revoke {authority.key_id}",
        )


def check_revocation(authority: Authority, authorities: Iterable[Authority], *, unreplaced: int, at_once: bool) -> None:
    """Let it leave the bundle.

    Args:
        unreplaced: how many of its credentials that are in use nothing was signed after.
        at_once: whether the operator accepts that what it signed fails.

    Raises:
        Refused: CONFLICT for one that the bundle does not hold, the last of its kind there, or one that is not tainted or still in use.
    """
    _check_published(authority)
    if authority.tainted_at is None and not at_once:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one that is tainted, found {authority.key_id}, whose SVIDs are in use",
            hint=f"have them replaced first: cognomen authority taint {authority.key_id};"
            " or add --now, and each of them fails until it is replaced",
        )
    if unreplaced and not at_once:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one of which all is replaced, found {authority.key_id} with {unreplaced} that are not",
            hint="wait until unreplaced is 0 in: cognomen authority list; or add --now, and each of them fails until it is"
            " replaced",
        )
    others = [a for a in authorities if a.kind is authority.kind and a.is_published and a.key_id != authority.key_id]
    if not others:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected another {authority.kind} authority in the bundle, found none",
            hint=f"make one first: cognomen authority prepare {authority.kind}",
        )


def takes_over(
    authority: Authority, authorities: Iterable[Authority], *, keys: Collection[KeyID], now: datetime
) -> Authority | None:
    """Which one signs once this one does not any more; None: this one does not sign.

    Args:
        keys: of those whose key is there.

    Raises:
        Refused: CONFLICT when there is none that could.
    """
    if authority.state is not AuthorityState.ACTIVE:
        return None
    able = (a for a in authorities if a.key_id in keys)
    if (following := successor(able, authority.kind, now=now)) is None:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected a next {authority.kind} authority that can sign in its place, found none",
            hint=f"make one first: cognomen authority prepare {authority.kind}",
        )
    return following


def check_return(nodes: Iterable[Node], *, known: Authority, signs: Authority | None, since: datetime) -> None:
    """Check that nodes that are away will know their issuer when they come back.

    It shows a certificate of the authority that signs, and a node trusts what it last acknowledged.

    Args:
        nodes: those that are away.
        known: the authority that the command is about, or that signs before it.
        signs: the one that signs after it.
        since: whose SVID ended before that needs an invite in any case.

    Raises:
        Refused: CONFLICT when one of them knows that authority, and not the one that signs.
    """
    if signs is None or signs.kind is not AuthorityKind.X509:
        return  # of JWT authorities a node learns from its issuer
    lost = [
        node.id
        for node in nodes
        if node.state is NodeState.ACTIVE
        and node.svid_not_after > since
        and known.published_change <= node.acknowledged < signs.published_change
    ]
    if lost:
        names = ", ".join(lost[:_MOST_NAMED]) + (" and others" if len(lost) > _MOST_NAMED else "")
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected every node that is away to know {signs.key_id}, which signs then;"
            f" found {len(lost)} that cannot: {names}",
            hint="wait until they are connected: cognomen node list; or add --now, and each of them needs an invite to come"
            " back: cognomen node invite --node ID; then on the node: cognomen attestor rejoin --invite FILE",
        )


def _check_published(authority: Authority) -> None:
    if not authority.is_published:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one that the bundle holds, found {authority.key_id}, which is {authority.state}",
            hint=_LIST_HINT,
        )
