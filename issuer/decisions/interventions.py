"""What an operator may do to an authority, beside its automatic life.

authority decides what a step does to a row; rotation, what is due automatically. issuer/flows/command_authorities carries it out.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.names import NodeID
from cognomen.protocol.readmission import THEN_REJOIN
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
    "cut_off",
    "named",
    "takes_over",
]

_MOST_NEXT = 3  # each makes every bundle longer
_MOST_NAMED = 5  # nodes in one message
_LIST_HINT = "list the authorities: cognomen authority list"


def named(authorities: Iterable[Authority], key_id: str) -> Authority:
    """The authority with that key.

    Raises:
        Refused: NOT_FOUND
    """
    for authority in authorities:
        if authority.key_id == key_id:
            return authority
    raise Refused(Kind.NOT_FOUND, f"key_id: no authority has the key {key_id[:80]!r}", hint=_LIST_HINT)


def check_preparation(authorities: Iterable[Authority], kind: AuthorityKind) -> None:
    """Check that one more next authority may be made.

    Raises:
        Refused: EXHAUSTED when enough of them wait.
    """
    waiting = [a for a in authorities if a.kind is kind and a.state in {AuthorityState.INTENDED, AuthorityState.NEXT}]
    if len(waiting) >= _MOST_NEXT:
        ready = [a.key_id for a in waiting if a.state is AuthorityState.NEXT]
        raise Refused(
            Kind.EXHAUSTED,
            f"{kind} authority: expected fewer than {_MOST_NEXT} waiting to sign, found {len(waiting)}",
            hint=f"let one of them sign: cognomen authority activate {ready[-1]}"
            if ready
            else "none of them can sign yet: cognomen status says what fails",
        )


def check_activation(authority: Authority, *, has_key: bool, now: datetime) -> None:
    """Check that an authority may sign now, whether or not anybody knows it.

    An old authority may: after a backup was restored, it can be the only one that the nodes know.

    Raises:
        Refused: CONFLICT for an authority that is neither next nor old, is tainted or not valid now, or has lost its key.
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
            f" {moment_in_words(authority.not_before)} to {moment_in_words(authority.not_after)}",
            hint=f"make another: cognomen authority prepare {authority.kind}",
        )
    if not has_key:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one whose key exists, found {authority.key_id}, whose key is gone",
            hint=f"make another: cognomen authority prepare {authority.kind}",
        )


def check_taint(authority: Authority) -> None:
    """Check that what an authority signed may be replaced.

    Raises:
        Refused: CONFLICT for an authority that is not in the bundle, or is already tainted.
    """
    _check_published(authority)
    if authority.tainted_at is not None:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one that is not tainted, found {authority.key_id}, tainted at"
            f" {moment_in_words(authority.tainted_at)}",
            hint=f"take it out of the bundle: cognomen authority revoke {authority.key_id}",
        )


def check_revocation(authority: Authority, authorities: Iterable[Authority], *, unreplaced: int, at_once: bool) -> None:
    """Check that an authority may leave the bundle.

    Args:
        unreplaced: how many of its credentials are in use and have no later replacement.
        at_once: whether the operator accepts that what it signed fails.

    Raises:
        Refused: CONFLICT for an authority that is not in the bundle, is the last of its kind there, is not tainted or is still in use,
            or whose root stays there.
    """
    _check_published(authority)
    if authority.tainted_at is None and not at_once:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one that is tainted, found {authority.key_id}, whose SVIDs are in use",
            hint=f"have them replaced first: cognomen authority taint {authority.key_id};"
            " or add --force, and each SVID fails until it is replaced",
        )
    if unreplaced and not at_once:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one whose SVIDs are all replaced, found {authority.key_id} with {unreplaced} that are not",
            hint="wait until unreplaced is 0 in: cognomen authority list; or add --force, and each SVID fails until it is"
            " replaced",
        )
    others = [a for a in authorities if a.kind is authority.kind and a.is_published and a.key_id != authority.key_id]
    if not others:
        raise Refused(
            Kind.CONFLICT,
            f"authority: {authority.key_id} is the only {authority.kind} authority in the bundle",
            hint=f"make one first: cognomen authority prepare {authority.kind}",
        )
    if not authority.is_root and not at_once and any(set(a.anchors) & set(authority.anchors) for a in others):
        raise Refused(
            Kind.CONFLICT,
            f"authority: the root above {authority.key_id} stays in the bundle",
            hint="what somebody else signs with its key is accepted until the authority above revokes it: have that done, then add"
            " --force, and its own key is destroyed",
        )


def takes_over(
    authority: Authority, authorities: Iterable[Authority], *, keys: Collection[KeyID], now: datetime
) -> Authority | None:
    """Which authority signs once this one no longer does; None: this one does not sign.

    Args:
        keys: the authorities whose keys exist.

    Raises:
        Refused: CONFLICT when no other authority can.
    """
    if authority.state is not AuthorityState.ACTIVE:
        return None
    able = (a for a in authorities if a.key_id in keys)
    if (following := successor(able, authority.kind, now=now)) is None:
        raise Refused(
            Kind.CONFLICT,
            f"authority: no next {authority.kind} authority can sign in its place",
            hint=f"make one first: cognomen authority prepare {authority.kind}",
        )
    return following


def cut_off(
    nodes: Iterable[Node], *, before: Authority | None, signs: Authority | None, since: datetime
) -> list[NodeID]:
    """Which nodes that are away know the issuer now, but will not recognize it when they come back.

    The issuer shows a certificate from the authority that signs. A node trusts what it last acknowledged, or was given when it joined.

    Args:
        nodes: those that are away.
        before: the authority that signs before the command, signs: after it; if both are the same, nobody else is cut off.
        since: a node whose SVID expired before that needs an invite in any case.
    """
    if before is None or signs is None or before.key_id == signs.key_id or signs.kind is not AuthorityKind.X509:
        return []  # a node learns of JWT authorities from its issuer
    return [
        node.id
        for node in nodes
        if node.state is NodeState.ACTIVE
        and node.svid_not_after > since
        and _knows(node, before)
        and not _knows(node, signs)
    ]


def check_return(lost: Sequence[NodeID], *, signs: KeyID) -> None:
    """Check that no node is cut off once that authority signs.

    Raises:
        Refused: CONFLICT when a node is.
    """
    if lost:
        names = ", ".join(lost[:_MOST_NAMED]) + (" and others" if len(lost) > _MOST_NAMED else "")
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected every node that is away to know {signs}, which signs then;"
            f" found {len(lost)} that cannot: {names}",
            hint="wait until they are connected: cognomen node list; or add --force, and each node needs an invite to come"
            f" back: cognomen node invite --node-id ID; {THEN_REJOIN}",
        )


def _knows(node: Node, authority: Authority) -> bool:
    was_given = authority.published_at is not None and node.attested_at > authority.published_at
    return was_given or node.acknowledged >= authority.published_change


def _check_published(authority: Authority) -> None:
    if not authority.is_published:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected one that is in the bundle, found {authority.key_id}, which is {authority.state}",
            hint=_LIST_HINT,
        )
