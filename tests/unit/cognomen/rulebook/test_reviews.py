"""cognomen/rulebook/reviews: when a review is overdue, and when an agent is suspended for it."""

from datetime import date

import pytest

from cognomen.rulebook.reviews import is_overdue, is_past_grace, overdue
from tests.unit.cognomen.rulebook.books import CONCIERGE, book, faults

SUSPEND = CONCIERGE.replace("2027-03-31", '2027-03-31\non_overdue = "suspend"')


@pytest.mark.parametrize(
    ("today", "is_due", "is_to_be_suspended"),
    [
        ("2027-03-31", False, False),
        ("2027-04-01", True, False),
        ("2027-04-14", True, False),
        ("2027-04-15", True, True),
        ("9999-12-31", True, True),
    ],
)
def test_a_review_is_overdue_after_its_day_and_its_grace_is_fourteen_days(
    today: str, *, is_due: bool, is_to_be_suspended: bool
) -> None:
    now = date.fromisoformat(today)
    agent = book(SUSPEND).agents["concierge"]
    assert (is_overdue(agent, now), is_past_grace(agent, now)) == (is_due, is_to_be_suspended)
    assert not is_past_grace(book(CONCIERGE).agents["concierge"], now), "nobody asked for it"
    assert [one.name for one in overdue(book(SUSPEND), now)] == (["concierge"] if is_due else [])


@pytest.mark.parametrize(("state", "is_due"), [("draft", True), ("suspended", True), ("retired", False)])
def test_only_active_agents_are_suspended_and_nobody_looks_at_a_retired_one(state: str, *, is_due: bool) -> None:
    text = SUSPEND.replace("purpose", f'state = "{state}"\npurpose', 1).partition("[[case]]")[0]
    agent = book(text).agents["concierge"]
    assert (is_overdue(agent, date(2028, 1, 1)), is_past_grace(agent, date(2028, 1, 1))) == (is_due, False)


def test_the_last_day_of_the_calendar_is_a_day() -> None:
    agent = book(SUSPEND.replace("2027-03-31", "9999-12-31")).agents["concierge"]
    assert not is_past_grace(agent, date(9999, 12, 31))


def test_without_a_date_there_is_nothing_to_suspend_for() -> None:
    assert faults(SUSPEND.replace("review_by = 2027-03-31\n", "")) == [
        "a.toml:4: agent.concierge.on_overdue: expected review_by beside it, found none; say when: review_by = 2027-03-31"
    ]
    assert "did you mean suspend?" in faults(SUSPEND.replace('"suspend"', '"suspnd"'))[0]
