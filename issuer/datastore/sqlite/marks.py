"""Marks in `meta` from which on ledger rows are live, or were within a day; pruning moves the marks.

The ledger's indexes keep the order of its rows, so a mark bounds a search by entry, node or SPIFFE ID. One row with a lifetime of a day
holds such a mark back for a day. So a search for everything that is live uses a mark for the other rows, and an index for the long-lived
ones. The whole ledger is searched only after the clock was set back by minutes.
"""

__all__ = ["IS_LONG", "LIVE", "LIVE_FROM", "OPEN_FROM", "SHORT_FROM"]

LIVE_FROM = "(SELECT CASE WHEN live_at <= :now THEN live_from ELSE 0 END FROM meta)"
"""From which row on rows may be live at :now. If the clock was set back to before live_at, some expired rows are live again."""

IS_LONG = "not_after - issued_at > 7200000000"
"""Rows with a lifetime of more than two hours, in the words of the index."""

SHORT_FROM = "(SELECT CASE WHEN live_at <= :now THEN short_from ELSE 0 END FROM meta)"
"""The same for rows with a lifetime of up to two hours."""

LIVE = f"(number >= {SHORT_FROM} OR ({IS_LONG} AND not_after > :now)) AND not_after > :now"
"""Which rows are live at :now, for everybody. A row that lives for a day does not force us to read what was signed in the hours since."""

OPEN_FROM = "(SELECT CASE WHEN live_at <= :now THEN open_from ELSE 0 END FROM meta)"
"""From which row on a denial may stop something: live rows, those that expired within minutes, workloads' certificates within a day."""
