"""Convert how far enforcement points have come between protobuf and values; here are also the limits of what a node may report."""

from cognomen.protocol.receipts import MOST_BEHIND, Behind, Enforcement, Point
from cognomen.wire.pb import node_pb2 as pb
from svid.errors import SVIDError
from svid.wire.denials import check_point

__all__ = ["enforcement_from_pb", "enforcement_to_pb"]

_MOST_POINTS = 1_000_000  # per node: a thousand uids with a thousand each


def enforcement_to_pb(value: Enforcement) -> pb.Enforcement:
    """Write it without the number, which is in the cursor beside it."""
    return pb.Enforcement(
        points=value.points,
        reached=value.reached,
        behind=[
            pb.PointBehind(uid=one.point.uid, pid=one.point.pid, point=one.point.name, number=one.number)
            for one in value.behind
        ],
    )


def enforcement_from_pb(message: pb.Enforcement, number: int) -> Enforcement:
    """Read it.

    Args:
        number: the number of the cursor that is acknowledged with it.

    Raises:
        SVIDError: there are too many points, the counts contradict each other, or a name is empty or too long.
    """
    if message.points > _MOST_POINTS:
        raise SVIDError(f"points: expected at most {_MOST_POINTS}, found {message.points}")
    if len(message.behind) > MOST_BEHIND:
        raise SVIDError(f"behind: expected at most {MOST_BEHIND}, found {len(message.behind)}")
    if message.reached + len(message.behind) > message.points:
        found = message.reached + len(message.behind)
        raise SVIDError(
            f"points: expected at least {found} (those that reached the cursor or are behind), found {message.points}"
        )
    behind = [_behind(one) for one in message.behind]
    return Enforcement(
        number=number,
        points=message.points,
        reached=message.reached,
        behind=tuple(sorted(behind, key=lambda one: (one.number, one.point))),
    )


def _behind(message: pb.PointBehind) -> Behind:
    check_point(message.point)
    return Behind(point=Point(message.uid, message.pid, message.point), number=message.number)
