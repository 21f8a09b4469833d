"""Convert troubles for both daemons' status messages; separate from troubles, which flows import and which must not load protobuf."""

from collections.abc import Iterable

from cognomen.daemon.troubles import Trouble
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["troubles_to_pb"]


def troubles_to_pb(troubles: Iterable[Trouble]) -> list[pb.Trouble]:
    """Convert troubles to messages."""
    return [
        pb.Trouble(
            what=one.what, reason=one.reason, since=time_to_pb(one.since), last=time_to_pb(one.last), times=one.times
        )
        for one in troubles
    ]
