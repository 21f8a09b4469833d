"""Of which time the uses on a node are known: as far as its attestor told, and not before there was a node, nor after it had anything."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from issuer.decisions.admission import NodeState
from issuer.decisions.coverage import continued, has_reported, silent_nodes
from issuer.decisions.uses import Reported
from tests.doubles.issuer_values import NOW, a_node

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))


def told(since: timedelta, until: timedelta | None) -> Reported:
    """A time that began and ended so long ago."""
    return Reported(since=NOW - since, until=None if until is None else NOW - until)


@dataclass(frozen=True)
class Row:
    """A node, and whether every use of the last 30 days is known; all times are how long ago."""

    name: str
    knows: bool
    reported: Reported | None = None
    joined: timedelta = 90 * DAY
    svid_ended: timedelta = -HOUR
    recorded: timedelta = 90 * DAY


ROWS = [
    Row("an attestor of an earlier release", knows=False),
    Row("one that has reported for longer", knows=True, reported=told(31 * DAY, 15 * SECOND)),
    Row("for exactly as long", knows=True, reported=told(30 * DAY, 2 * MINUTE)),
    Row("for not as long: it was updated", knows=False, reported=told(29 * DAY, 15 * SECOND)),
    Row("until a while ago: it is away, or the issuer cannot store", knows=False, reported=told(31 * DAY, 3 * MINUTE)),
    Row("until it was stopped", knows=True, reported=told(31 * DAY, None)),
    Row("younger, and reports since it joined", knows=True, joined=DAY, reported=told(DAY, MINUTE)),
    Row("younger, and reports since it was updated", knows=False, joined=2 * DAY, reported=told(DAY, MINUTE)),
    Row("younger, of an earlier release", knows=False, joined=DAY),
    Row("joined a moment ago", knows=True, joined=MINUTE),
    Row("lost for longer, of an earlier release: it held nothing any more", knows=True, svid_ended=31 * DAY + SECOND),
    Row("lost for longer, but what it held lasted a day", knows=False, svid_ended=30 * DAY + HOUR),
    Row("lost, and reported until then", knows=False, svid_ended=9 * DAY, reported=told(31 * DAY, 9 * DAY)),
    Row("reports, to an issuer that lost what it stored", knows=False, reported=told(31 * DAY, MINUTE), recorded=DAY),
    Row("joined since then", knows=True, joined=HOUR, reported=told(HOUR, MINUTE), recorded=DAY),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_is_known_of_a_node(row: Row) -> None:
    node = replace(a_node(), attested_at=NOW - row.joined, svid_not_after=NOW - row.svid_ended, reported=row.reported)
    times = {"recorded_since": NOW - row.recorded, "since": NOW - 30 * DAY, "until": NOW}
    assert has_reported(node, **times) is row.knows
    assert silent_nodes([node], **times) == ([] if row.knows else [node])
    assert silent_nodes([replace(node, state=NodeState.BANNED)], **times) == []


BEFORE = told(10 * DAY, HOUR)


@pytest.mark.parametrize(
    ("before", "later", "expected"),
    [
        (BEFORE, told(10 * DAY, MINUTE), told(10 * DAY, MINUTE)),  # the same attestor
        (BEFORE, told(62 * MINUTE, MINUTE), told(10 * DAY, MINUTE)),
        (BEFORE, told(58 * MINUTE, MINUTE), told(10 * DAY, MINUTE)),  # it started again at once
        (
            BEFORE,
            told(58 * MINUTE - SECOND, MINUTE),
            told(58 * MINUTE - SECOND, MINUTE),
        ),  # nobody knows what was between
        (told(10 * DAY, None), told(HOUR, MINUTE), told(10 * DAY, MINUTE)),  # it was stopped, and used nothing
        (BEFORE, told(10 * DAY, None), told(10 * DAY, None)),
        (BEFORE, told(11 * DAY, MINUTE), told(11 * DAY, MINUTE)),
    ],
)
def test_times_without_a_gap_between_them_are_one(before: Reported, later: Reported, expected: Reported) -> None:
    assert continued(before, later) == expected
    assert continued(continued(before, later), later) == expected
