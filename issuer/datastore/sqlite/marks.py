"""From where on the rows of the ledger are that are live, or were within a day: marks in `meta`, which pruning moves.

The ledger's indexes keep the order of its rows, so a mark bounds what they find by entry, node or SPIFFE ID. One row that lives for a day
holds such a mark back for a day; what is live of everybody is found by a mark of the others, and an index of those that live for long.
All of the ledger is looked through only after the clock was set back by minutes.
"""

__all__ = ["IS_LONG", "LIVE", "LIVE_FROM", "OPEN_FROM", "SHORT_FROM"]

LIVE_FROM = "(SELECT CASE WHEN live_at <= :now THEN live_from ELSE 0 END FROM meta)"
"""From where on rows may be live at :now: the clock may have been set back to before live_at, when some that were over are not."""

IS_LONG = "not_after - issued_at > 7200000000"
"""What lives for more than two hours, as the index says it."""

SHORT_FROM = "(SELECT CASE WHEN live_at <= :now THEN short_from ELSE 0 END FROM meta)"
"""The same of rows that live for no longer."""

LIVE = f"(number >= {SHORT_FROM} OR ({IS_LONG} AND not_after > :now)) AND not_after > :now"
"""Which rows are live at :now, whoever they are of: one that lives for a day has nobody read what was signed in the hours since."""

OPEN_FROM = "(SELECT CASE WHEN live_at <= :now THEN open_from ELSE 0 END FROM meta)"
"""From where on rows are that a denial may stop: what is live or ended within minutes, workloads' certificates within a day."""
