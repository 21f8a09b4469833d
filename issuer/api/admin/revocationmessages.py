"""Translate revocations to and from the admin door's messages."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.protocol.printable import printable
from cognomen.wire.node import selector_from_pb, selector_to_pb, spiffe_id_from_pb, time_from_pb, time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.decisions.exchanged import Exchanged, exchanged_until
from issuer.decisions.falling import Fallen
from issuer.decisions.revocation import Reason, Revocation, RevocationKind, Target
from issuer.flows.await_enforcement import Enforced
from issuer.keepers.enforcement_watch import Silent
from svid.errors import SVIDError

__all__ = [
    "blocked_to_pb",
    "exchanged_to_pb",
    "fallen_to_pb",
    "reason_from_text",
    "revocation_status",
    "revocation_to_pb",
    "target_from_pb",
]

_MOST_SILENT = 20
_NAMED = [kind for kind in RevocationKind if kind not in {RevocationKind.DELETION, RevocationKind.UPDATE}]


def reason_from_text(text: str) -> Reason:
    """Read why something ends; empty: no reason given.

    Raises:
        Refused: INVALID
    """
    if text not in {"", *Reason}:
        raise Refused(Kind.INVALID, f"reason: expected one of {', '.join(Reason)}, found {text!r}")
    return Reason(text or Reason.UNSPECIFIED)


def target_from_pb(message: pb.RevocationTarget) -> Target:
    """Read what to end.

    Raises:
        Refused: INVALID
    """
    if message.kind not in _NAMED:
        raise Refused(Kind.INVALID, f"kind: expected one of {', '.join(_NAMED)}, found {message.kind!r}")
    for name, ids in (("entry_ids", message.entry_ids), ("node_ids", message.node_ids)):
        if "" in ids:
            raise Refused(Kind.INVALID, f"{name}: expected ids, found an empty text")
    try:
        return Target(
            kind=RevocationKind(message.kind),
            serials=tuple(dict.fromkeys(message.serials)),
            before=time_from_pb(message.before, "before") if message.HasField("before") else None,
            entry_ids=tuple(map(EntryID, dict.fromkeys(message.entry_ids))),
            node_ids=tuple(map(NodeID, dict.fromkeys(message.node_ids))),
            spiffe_id=spiffe_id_from_pb(message.spiffe_id, "spiffe_id") if message.HasField("spiffe_id") else None,
            below=message.below,
            selector=selector_from_pb(message.selector) if message.HasField("selector") else None,
        )
    except SVIDError as e:
        raise Refused(Kind.INVALID, str(e)) from e


def revocation_to_pb(revocation: Revocation) -> pb.Revocation:
    """Translate a revocation."""
    message = pb.Revocation(
        number=revocation.number,
        target=_target_to_pb(revocation.target),
        reason=revocation.reason.value,
        comment=revocation.comment,
        actor=revocation.actor,
        at=time_to_pb(revocation.at),
        denied=revocation.denied,
        change=revocation.change,
        blocks=revocation.target.is_block and revocation.lifted_at is None,
        lifted_by=revocation.lifted_by,
        over=revocation.over,
        compromised=revocation.compromised,
    )
    if revocation.lifted_at is not None:
        message.lifted_at.FromDatetime(revocation.lifted_at)
    return message


def revocation_status(seen: Enforced) -> pb.RevocationStatus:
    """One revocation, and which of those that are connected enforce it."""
    how_far = seen.how_far
    message = pb.RevocationStatus(
        revocation=revocation_to_pb(seen.revocation),
        attestors=how_far.attestors,
        enforcing=how_far.attestors_enforcing,
        points=how_far.points,
        points_enforcing=how_far.points_enforcing,
        away=seen.away,
        silent=map(_silent_to_pb, how_far.silent[:_MOST_SILENT]),
        silent_more=max(0, len(how_far.silent) - _MOST_SILENT),
    )
    if seen.ends_at is not None:
        message.ends_at.FromDatetime(seen.ends_at)
    if seen.slowest is not None:
        message.slowest.CopyFrom(_silent_to_pb(seen.slowest))
    if seen.after is not None:
        message.after_milliseconds = seen.after // timedelta(milliseconds=1)
    return message


def blocked_to_pb(found: Iterable[tuple[RegistrationEntry, Revocation]], *, more: bool) -> pb.ListBlockedResponse:
    """Translate which entries are blocked, and by what, and whether there are more of them."""
    return pb.ListBlockedResponse(
        blocked=[
            pb.Blocked(entry_id=entry.id, spiffe_id=str(entry.spiffe_id), revocation=revocation_to_pb(revocation))
            for entry, revocation in found
        ],
        more=more,
    )


def fallen_to_pb(fallen: Fallen, longest_lives: Mapping[str, timedelta]) -> pb.Fallen:
    """Translate what ended, or would end.

    Args:
        longest_lives: by audience, as in decisions/exchanged.
    """
    message = pb.Fallen(
        kind=fallen.kind.value,
        spiffe_id=str(fallen.spiffe_id),
        node_id=fallen.node_id or "",
        audiences=fallen.audiences,
        count=fallen.count,
        ends_at=time_to_pb(fallen.ends_at),
    )
    if (until := exchanged_until(fallen.audiences, fallen.ends_at, longest_lives)) is not None:
        message.exchanged_until.FromDatetime(until)
    return message


def exchanged_to_pb(exchanged: Exchanged) -> pb.Exchanged:
    """Translate what a revocation does not reach."""
    return pb.Exchanged(audience=exchanged.audience, until=time_to_pb(exchanged.until))


def _silent_to_pb(silent: Silent) -> pb.Silent:
    message = pb.Silent(node_id=silent.node_id, change_number=silent.number)
    if silent.point is not None:  # a process chose its name
        message.uid, message.pid, message.point = silent.point.uid, silent.point.pid, printable(silent.point.name)
    return message


def _target_to_pb(target: Target) -> pb.RevocationTarget:
    message = pb.RevocationTarget(
        kind=target.kind.value,
        serials=target.serials,
        entry_ids=target.entry_ids,
        node_ids=target.node_ids,
        spiffe_id=None if target.spiffe_id is None else str(target.spiffe_id),
        below=target.below,
    )
    if target.before is not None:
        message.before.FromDatetime(target.before)
    if target.selector is not None:
        message.selector.CopyFrom(selector_to_pb(target.selector))
    return message
