"""The admin door's words for how the issuer is."""

import heapq
from dataclasses import dataclass
from datetime import datetime

from cognomen.daemon.troublemessages import troubles_to_pb
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.version import version
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin_authorities import list_authorities
from issuer.datastore.port import Datastore
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.guard_clock import GuardClock
from issuer.flows.rotate_authority import RotateAuthority
from svid.spiffeid import TrustDomain

__all__ = ["Watched", "get_status"]

_MOST_BEHIND = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is looked at."""

    trust_domain: TrustDomain
    started_at: datetime
    datastore: Datastore
    feed: FeedAttestors
    rotate: RotateAuthority
    guard: GuardClock
    troubles: Troubles


async def get_status(watched: Watched) -> pb.IssuerStatus:
    """How the issuer is."""
    head, nodes = await watched.datastore.read(lambda tx: (tx.changes.head(), tx.nodes.count()))
    lags = ((standing.behind, node_id) for node_id, standing in watched.feed.standing.items() if standing.behind)
    authorities = (await list_authorities(watched.rotate)).authorities
    return pb.IssuerStatus(
        trust_domain=watched.trust_domain.name,
        version=version(),
        started_at=time_to_pb(watched.started_at),
        incarnation=head.incarnation,
        change_number=head.number,
        nodes=nodes,
        nodes_connected=len(watched.feed.connected),
        behind=[pb.NodeLag(node_id=node_id, behind=lag) for lag, node_id in heapq.nlargest(_MOST_BEHIND, lags)],
        authorities=[one for one in authorities if one.state != "retired"],
        clock=watched.guard.doubt,
        troubles=troubles_to_pb(watched.troubles.all()),
    )
