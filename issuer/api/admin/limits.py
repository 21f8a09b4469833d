"""The admin door's messages for the limits on issuance."""

from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.part import Part
from issuer.decisions.limits import Standing

__all__ = ["LimitsPart", "limit_to_pb"]


class LimitsPart(Part):
    """The methods for limits on issuance."""

    async def list_limits(self, request: pb.ListLimitsRequest) -> pb.ListLimitsResponse:
        return pb.ListLimitsResponse(limits=map(limit_to_pb, self._flows.limits.standings(request.agent)))


def limit_to_pb(one: Standing) -> pb.LimitStanding:
    """Translate how a limit stands."""
    return pb.LimitStanding(
        path=one.scope.path,
        limit=one.limit.value,
        most=one.most,
        used=one.used,
        mode=one.scope.mode.value,
        on_burst=one.scope.on_burst.value,
        over=one.over,
        last_over=None if one.last_over is None else time_to_pb(one.last_over),
        breaker=one.breaker.value,
        since=None if one.since is None else time_to_pb(one.since),
        until=None if one.until is None else time_to_pb(one.until),
    )
