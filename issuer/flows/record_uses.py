"""Record which processes used identities, as a node's attestor reports it: in the store, and not in the record of decisions.

Which times are believed: issuer/decisions/uses. How much a node may report, and about which entries, is decided here.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.uses import MOST_REPORTED, EntryUse, ReportedUses
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import Node
from issuer.decisions.budget import Allowance
from issuer.decisions.entitlement import is_entitled
from issuer.decisions.uses import Reported, Times, dated
from issuer.keepers.budgets import Budgets
from issuer.keepers.node_sightings import NodeSightings
from issuer.surroundings import Surroundings
from issuer.works.reads import active_node_in, blocks_in, parents_in
from svid.linelimit import LineLimit

__all__ = ["REPORTS", "RecordUses"]

log = structlog.get_logger(__name__)

REPORTS = Allowance(burst=20_000, per_second=200)
"""What one node may report. Units: rows; an attestor reports at most four times a minute what has changed."""

_A_REPORT = 100  # rows that a report costs besides its own
_MOST_ROWS = 10_000  # that are kept of one node
_MOST_BYTES = 4 * 1024 * 1024  # as above
_MOST_OBSERVED_ROWS = 2_000  # as above, of what entries that only observe would have given
_MOST_OBSERVED_BYTES = 1024 * 1024  # as above


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordUses:
    """Records what attestors report.

    Args:
        kept: for how long a use is kept after it was the last one of its process.
    """

    datastore: Datastore
    budgets: Budgets
    sightings: NodeSightings
    around: Surroundings
    kept: timedelta
    _lines: LineLimit = field(default_factory=LineLimit)

    def charge(self, node: Node, rows: int) -> None:
        """Charge a node for a report with that many rows, before they are read.

        Raises:
            Refused: INVALID when there are too many rows; EXHAUSTED when the node reports too much.
        """
        if rows > MOST_REPORTED:
            raise Refused(Kind.INVALID, f"uses: expected at most {MOST_REPORTED}, found {rows}")
        if not self.budgets.take(node.id, cost=_A_REPORT + rows):
            raise Refused(
                Kind.EXHAUSTED,
                f"uses: at most {REPORTS.per_second:g} a second are taken from one node; try again later",
            )

    def tell(self, node: Node, reported: ReportedUses | None) -> None:
        """Note of which time a node has reported every use; None: it does not say."""
        now, known = self.around.clock.now(), None
        if reported is not None:
            known = Reported(since=now - reported.since, until=now - reported.until)
        self.sightings.tell(node.id, known)

    async def __call__(self, node: Node, uses: Sequence[EntryUse], *, last: ReportedUses | None = None) -> None:
        """Record a report that the node was charged for; it is stored when this returns.

        Args:
            last: it is the last one of an attestor that ends.

        Raises:
            Refused: UNAVAILABLE when it cannot be stored; DENIED when the node is banned or gone.
        """
        # 1. In one transaction: find the entries that this node has or had, and add what it says about them.
        now = self.around.clock.now()

        def work(tx: Transaction) -> int:
            times = _times(tx, node, {use.entry_id for use in uses}, now)
            theirs = dated(uses, times=times, now=now, kept=self.kept)
            used = [use for use in theirs if not use.is_observed]
            tx.uses.note(node.id, used, most=_MOST_ROWS, most_bytes=_MOST_BYTES)
            if len(used) < len(theirs):
                observed = [use for use in theirs if use.is_observed]
                tx.observations.note(node.id, observed, most=_MOST_OBSERVED_ROWS, most_bytes=_MOST_OBSERVED_BYTES)
            return sum(use.entry_id not in times for use in uses if not use.is_observed)

        ignored = await self.datastore.write(work, expendable=True)
        # 2. Ignore the rest: it is none of that node's business, and sending it again changes nothing.
        if ignored and self._lines.left_out(node.id, self.around.clock.monotonic()) is not None:
            log.warning(
                "uses ignored",
                node=str(node.spiffe_id),
                rows=ignored,
                reason="by the ledger, the node never had these entries",
            )
        # 3. Until the node starts again, it uses nothing.
        if last is not None:
            self.sightings.tell(node.id, Reported(since=now - last.since, until=None))


def _times(tx: Transaction, caller: Node, ids: Collection[EntryID], now: datetime) -> Mapping[EntryID, Times]:
    """When a node can have used each of these entries: until now if it is entitled, or as long as what it was given lasted."""
    node, blocks = active_node_in(tx, caller.id), blocks_in(tx)
    parents = parents_in(tx, node, blocks=blocks, now=now)
    entries = tx.entries.get(ids).values()
    own = {entry.id for entry in entries if is_entitled(entry, parents, blocks=blocks, now=now)}
    ends = {**dict.fromkeys(own, now), **tx.uses.held(node.id, [one for one in ids if one not in own])}
    made = {entry.id: entry.created_at or node.attested_at for entry in entries}
    return {
        one: Times(begin=max(node.attested_at, made.get(one, node.attested_at)), end=end) for one, end in ends.items()
    }
