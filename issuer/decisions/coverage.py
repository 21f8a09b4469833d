"""Decide whether a node would have reported a use: if nobody reported one, that means nothing of a node that does not report.

An attestor says of which time it reported every use (cognomen/protocol/uses.ReportedUses), with each acknowledgement and in its last
report. An attestor of an earlier release says nothing. Who remembers what it said: issuer/keepers/node_sightings.
"""

from collections.abc import Iterable
from datetime import datetime

from cognomen.protocol.entry import MAX_TTL
from cognomen.protocol.uses import MOST_UNREPORTED
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.uses import Reported

__all__ = ["continued", "has_reported", "silent_nodes"]


def continued(before: Reported, told: Reported) -> Reported:
    """The time of which every use is known, once an attestor has told its own: one time if there is no gap between the two.

    There is none if the attestor before it had ended after its last report, or came to an end less than MOST_UNREPORTED ago.
    """
    is_gap = before.until is not None and told.since > before.until + MOST_UNREPORTED
    return told if is_gap else Reported(since=min(before.since, told.since), until=told.until)


def has_reported(node: Node, *, recorded_since: datetime, since: datetime, until: datetime) -> bool:
    """Whether every use of that time on this node is known.

    Nothing was used before the node joined, nor after the last of what it was given had expired. A report may be MOST_UNREPORTED late.

    Args:
        recorded_since: since when the issuer has kept what it was told.
        until: at most now.
    """
    begin, end = max(since, node.attested_at), min(until, node.svid_not_after + MAX_TTL)
    known = node.known_uses
    is_late = known.until is not None and known.until + MOST_UNREPORTED < end
    return end < begin or (max(known.since, recorded_since) <= begin and not is_late)


def silent_nodes(nodes: Iterable[Node], *, recorded_since: datetime, since: datetime, until: datetime) -> list[Node]:
    """Those of these nodes that may have used their entries in that time without a report; not those that are banned."""
    return [
        node
        for node in nodes
        if node.state is NodeState.ACTIVE
        and not has_reported(node, recorded_since=recorded_since, since=since, until=until)
    ]
