"""The admin door's messages for the issuer's status and its clock."""

from cognomen.daemon.troublemessages import troubles_to_pb
from cognomen.daemon.version import version
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.authorities import authority_to_pb
from issuer.api.admin.limits import limit_to_pb
from issuer.api.admin.part import Part
from issuer.api.admin.planmessages import held_to_pb
from issuer.flows.observe_issuer import Lag, Observed

__all__ = ["StatusPart", "status_to_pb"]

_MOST_BEHIND = 20
_MOST_OVER = 20
_MOST_OVERDUE = 20
_MOST_SUSPENDED = 20


class StatusPart(Part):
    """The methods for the issuer itself."""

    async def get_status(self, request: pb.GetStatusRequest) -> pb.IssuerStatus:
        del request
        return status_to_pb(await self._flows.observe())

    async def confirm_clock(self, request: pb.ConfirmClockRequest) -> pb.ConfirmClockResponse:
        return pb.ConfirmClockResponse(now=time_to_pb(await self._flows.guard.confirm(actor=self._by(request))))


def status_to_pb(seen: Observed) -> pb.IssuerStatus:
    """Translate the issuer's status."""
    message = pb.IssuerStatus(
        trust_domain=seen.trust_domain.name,
        version=version(),
        started_at=time_to_pb(seen.started_at),
        incarnation=seen.head.incarnation,
        change_number=seen.head.number,
        nodes=seen.nodes,
        nodes_connected=seen.nodes_connected,
        behind=map(_lag_to_pb, seen.behind[:_MOST_BEHIND]),
        behind_more=max(0, len(seen.behind) - _MOST_BEHIND),
        authorities=[authority_to_pb(row, waits) for row, waits in seen.authorities],
        clock=seen.doubt,
        svid_not_after=time_to_pb(seen.svid_not_after),
        over_limits=map(limit_to_pb, seen.over_limits[:_MOST_OVER]),
        over_limits_more=max(0, len(seen.over_limits) - _MOST_OVER),
        troubles=troubles_to_pb(seen.troubles),
        overdue=[
            pb.OverdueReview(
                agent=one.name, owner=one.owner, review_by=one.review_by.isoformat(), suspended=one.is_suspended
            )
            for one in seen.overdue[:_MOST_OVERDUE]
        ],
        overdue_more=max(0, len(seen.overdue) - _MOST_OVERDUE),
        suspended=map(held_to_pb, seen.suspended[:_MOST_SUSPENDED]),
        suspended_more=max(0, len(seen.suspended) - _MOST_SUSPENDED),
    )
    if seen.oldest_truth is not None:
        message.oldest_truth.FromTimedelta(seen.oldest_truth)
    return message


def _lag_to_pb(lag: Lag) -> pb.NodeLag:
    message = pb.NodeLag(
        node_id=lag.node_id,
        behind=lag.behind,
        acknowledged=lag.acknowledged,
        points=lag.points,
        points_enforcing=lag.points_enforcing,
    )
    message.heard_ago.FromTimedelta(lag.heard_ago)
    return message
