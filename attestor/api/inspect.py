"""What the attestor reports about itself on its workload socket: its status, and why a process has an identity or has none.

Decided here: only its own user and root may see the status. Who may ask about which process: flows/explain_identity.
"""

import os
from collections.abc import Mapping
from datetime import datetime

from grpclib.const import Handler

from attestor.flows.explain_identity import ExplainIdentity, Explanation
from attestor.flows.observe_attestor import ObserveAttestor, Observed
from cognomen.daemon.troublemessages import troubles_to_pb
from cognomen.daemon.version import version
from cognomen.gate.call import unary
from cognomen.gate.caller import Caller
from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import inspect_pb2 as pb
from cognomen.wire.pb.inspect_rpc import InspectServicer

__all__ = ["Inspect"]

_MOST_IDENTITIES = 1000
_MOST_CALLERS = 1000
_MOST_POINTS = 1000


class Inspect(InspectServicer):
    """Serves cognomen.attestor.v1.Inspect to one caller."""

    def __init__(self, observe: ObserveAttestor, explain: ExplainIdentity, caller: Caller) -> None:
        self._observe = observe
        self._explain = explain
        self._caller = caller

    def __mapping__(self) -> Mapping[str, Handler]:
        """The methods, by their paths."""
        return self.bind(unary)

    async def get_status(self, request: pb.GetStatusRequest) -> pb.AttestorStatus:
        del request
        if not self._is_privileged:
            raise Refused(Kind.DENIED, "status: only the attestor's user and root may ask for it")
        return _status(self._observe())

    async def explain(self, request: pb.ExplainRequest) -> pb.Explanation:
        return _explanation(await self._explain(self._caller, request.pid, sees_all=self._is_privileged))

    @property
    def _is_privileged(self) -> bool:
        return self._caller.uid in {0, os.geteuid()}


def _explanation(found: Explanation) -> pb.Explanation:
    return pb.Explanation(
        node_spiffe_id=str(found.node),
        pid=found.pid,
        uid=found.uid,
        selectors=sorted(map(str, found.selectors)),
        unseen=found.unseen,
        left_out=found.left_out,
        withdrawn=found.withdrawn,
        near=[
            pb.Near(
                entry_id=one.entry.id,
                spiffe_id=str(one.entry.spiffe_id),
                lacks=map(str, one.lacks),
                selectors=map(str, sorted(one.entry.selectors)),
            )
            for one in found.near
        ],
        near_more=found.is_near_cut,
        observed=(_match(one, None) for one in found.observed),
        matches=(_match(entry, end) for entry, end in found.matches),
    )


def _match(entry: RegistrationEntry, end: datetime | None) -> pb.Match:
    message = pb.Match(entry_id=entry.id, spiffe_id=str(entry.spiffe_id))
    if end is not None:
        message.svid_not_after.FromDatetime(end)
    if entry.audiences is not None:
        message.audiences.values.extend(entry.audiences)
        message.audiences.SetInParent()  # an empty list says that there are none
    return message


def _status(seen: Observed) -> pb.AttestorStatus:
    message = pb.AttestorStatus(
        version=version(),
        started_at=time_to_pb(seen.started_at),
        spiffe_id=str(seen.node.svid.spiffe_id),
        svid_not_after=time_to_pb(seen.node.svid.not_after),
        svid_renew_at=time_to_pb(seen.renew_at),
        synchronised=seen.synchronised,
        connected=seen.connected,
        incarnation="" if seen.cursor is None else seen.cursor.incarnation,
        change_number=0 if seen.cursor is None else seen.cursor.number,
        entries=len(seen.entries),
        svids=len(seen.svids),
        subscribers=seen.subscribers,
        denials=seen.denials,
        troubles=troubles_to_pb(seen.troubles),
    )
    if seen.has_heard:  # otherwise unknown: an attestor before this one may have heard the issuer
        message.heard_ago.FromTimedelta(seen.heard_ago)
    if seen.ahead is not None:
        message.clock_ahead.FromTimedelta(seen.ahead)
    if seen.due:
        message.next_renewal.FromDatetime(min(seen.due.values()))
    identities = [one for one in seen.entries.values() if not one.observe]
    shown = sorted(identities, key=lambda entry: (entry.spiffe_id.path, entry.id))[:_MOST_IDENTITIES]
    message.identities.extend(_identity(entry, seen) for entry in shown)
    message.identities_more = len(identities) - len(shown)
    for (uid, pid), streams in seen.callers.most_common(_MOST_CALLERS):
        message.callers.add(uid=uid, pid=pid, streams=streams)
    message.callers_more = len(seen.callers) - len(message.callers)
    for point, epoch in sorted(seen.enforced, key=lambda item: item[1].number)[:_MOST_POINTS]:
        message.enforced.add(
            uid=point.uid,
            pid=point.pid,
            point=point.name,
            incarnation=epoch.incarnation,
            change_number=epoch.number,
        )
    message.enforced_more = len(seen.enforced) - len(message.enforced)
    return message


def _identity(entry: RegistrationEntry, seen: Observed) -> pb.Identity:
    message = pb.Identity(entry_id=entry.id, spiffe_id=str(entry.spiffe_id))
    if (held := seen.svids.get(entry.id)) is not None:
        message.serial = f"{held.svid.serial:x}"
        message.not_after.FromDatetime(held.svid.not_after)
    if (due := seen.due.get(entry.id)) is not None:
        message.renew_at.FromDatetime(due)
    return message
