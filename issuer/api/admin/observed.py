"""The admin door's messages for entries that only observe."""

from cognomen.wire.node import time_from_pb, time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.fields import entry_token, own_spiffe_id
from issuer.api.admin.part import Part
from issuer.api.admin.uses import silent_to_pb
from issuer.decisions.observing import ObservedProgram

__all__ = ["ObservedPart"]

_MOST_ENTRIES = 100  # on a page, so that it fits into a message
_MOST_PROGRAMS = 100  # of each entry


class ObservedPart(Part):
    """The methods for what entries that only observe would have given."""

    async def list_observed(self, request: pb.ListObservedRequest) -> pb.ListObservedResponse:
        found = await self._flows.queries.list_observed(
            own_spiffe_id(request.below, "below", self._flows.trust_domain),
            since=time_from_pb(request.since, "since") if request.HasField("since") else None,
            after=entry_token(request.page_token),
            limit=_MOST_ENTRIES,
            most=_MOST_PROGRAMS,
        )
        answer = pb.ListObservedResponse(next_page_token=found[-1][0].entry_id if len(found) == _MOST_ENTRIES else "")
        for entry, programs, more in found:
            answer.entries.add(
                entry_id=entry.entry_id,
                spiffe_id=str(entry.spiffe_id),
                parent_id=str(entry.parent_id),
                since=time_to_pb(entry.since),
                programs=map(_program, programs),
                programs_more=more,
            )
        if found:
            since = min(entry.since for entry, _, _ in found)
            if request.HasField("since"):
                since = max(since, time_from_pb(request.since, "since"))
            now = self._flows.clock.now()
            parents = {entry.parent_id for entry, _, _ in found}
            silent = await self._flows.queries.silent_below(
                parents, since=max(since, now - self._flows.uses_kept), now=now, seen=self._flows.sightings.seen
            )
            answer.not_reporting.extend(silent_to_pb(node) for node, _ in silent)
        return answer


def _program(found: ObservedProgram) -> pb.ObservedProgram:
    return pb.ObservedProgram(
        uid=found.uid,
        executable=found.executable,
        refused_audience=found.refused_audience,
        pid=found.pid,
        nodes=found.nodes,
        processes=found.processes,
        times=found.times,
        first_at=time_to_pb(found.first_at),
        last_at=time_to_pb(found.last_at),
        x509=found.x509,
        jwt=found.jwt,
    )
