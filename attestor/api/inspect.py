"""What the attestor tells about itself, on its workload socket: to its own user and to root, and to nobody else."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from attestor.cache import Cache, HeldX509
from attestor.flows.follow_feed import FollowFeed
from attestor.flows.keep_node import KeepNode
from attestor.flows.renew_svids import RenewSVIDs
from cognomen.daemon.call import only_request
from cognomen.daemon.caller import Caller
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.troublemessages import troubles_to_pb
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.version import version
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import inspect_pb2 as pb
from svid.entry import EntryID, RegistrationEntry

__all__ = ["SERVICE", "Inspect", "Inspected"]

SERVICE = "cognomen.attestor.v1.Inspect"

_MOST_IDENTITIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What is looked at."""

    started_at: datetime
    cache: Cache
    node: KeepNode
    feed: FollowFeed
    renewals: RenewSVIDs
    troubles: Troubles


class Inspect:
    """Serves cognomen.attestor.v1.Inspect to one caller."""

    def __init__(self, inspected: Inspected, caller: Caller) -> None:
        self._inspected = inspected
        self._caller = caller

    def __mapping__(self) -> Mapping[str, Handler]:
        """The methods, by their paths."""
        handler = Handler(self._get_status, Cardinality.UNARY_UNARY, pb.GetStatusRequest, pb.AttestorStatus)
        return {f"/{SERVICE}/GetStatus": handler}

    async def _get_status(self, stream: Stream[pb.GetStatusRequest, pb.AttestorStatus]) -> None:
        await only_request(stream)
        if self._caller.uid not in {0, os.geteuid()}:
            raise Refused(Kind.DENIED, "status: expected the attestor's user or root, found another")
        await stream.send_message(self._status())

    def _status(self) -> pb.AttestorStatus:
        seen, due = self._inspected, self._inspected.renewals.due()
        cursor, entries = seen.cache.cursor, seen.cache.entries
        message = pb.AttestorStatus(
            version=version(),
            started_at=time_to_pb(seen.started_at),
            spiffe_id=str(seen.node.node.svid.spiffe_id),
            svid_not_after=time_to_pb(seen.node.node.svid.not_after),
            svid_renew_at=time_to_pb(seen.node.renew_at),
            synchronised=seen.cache.synchronised,
            connected=seen.feed.is_connected,
            incarnation="" if cursor is None else cursor.incarnation,
            change_number=0 if cursor is None else cursor.number,
            entries=len(entries),
            svids=len(seen.cache.svids),
            subscribers=seen.cache.subscribers,
            troubles=troubles_to_pb(seen.troubles.all()),
        )
        if due:
            message.next_renewal.FromDatetime(min(due.values()))
        shown = sorted(entries.values(), key=lambda entry: (entry.spiffe_id.path, entry.id))[:_MOST_IDENTITIES]
        message.identities.extend(_identity(entry, seen.cache.svids.get(entry.id), due) for entry in shown)
        return message


def _identity(entry: RegistrationEntry, held: HeldX509 | None, due: Mapping[EntryID, datetime]) -> pb.Identity:
    message = pb.Identity(entry_id=entry.id, spiffe_id=str(entry.spiffe_id))
    if held is not None:
        message.serial = f"{held.svid.serial:x}"
        message.not_after.FromDatetime(held.svid.not_after)
    if entry.id in due:
        message.renew_at.FromDatetime(due[entry.id])
    return message
