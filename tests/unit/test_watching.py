"""cognomen/cli/watching: when tokens are fetched again, and which changes are told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cognomen.cli.watching import Waiting, changes, refetch_in
from svid.errors import WorkloadAPIError
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import Authority

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WEB = SpiffeID.parse("spiffe://example.org/web")
TOKEN = JWTSVID.parse_insecure(
    Authority(WEB.trust_domain, FakeClock(NOW)).token(WEB, ["db"], ttl=6 * MINUTE)
)  # fmt: skip


@pytest.mark.parametrize(
    ("ahead", "wait"),
    [
        (timedelta(), 3 * MINUTE),
        (2 * MINUTE, 2 * MINUTE),
        (6 * MINUTE, 1.5 * MINUTE),
        (timedelta(days=8), 1.5 * MINUTE),
        (-timedelta(hours=2), 1.5 * MINUTE),
    ],
    ids=str,
)
def test_tokens_are_fetched_again_before_they_end_also_by_a_clock_that_is_wrong(
    ahead: timedelta, wait: timedelta
) -> None:
    assert refetch_in([TOKEN], now=NOW + ahead) == wait


def test_the_first_to_end_counts_and_a_second_passes_at_least() -> None:
    assert refetch_in([TOKEN, replace(TOKEN, expires_at=NOW + MINUTE)], now=NOW) == MINUTE / 2
    assert refetch_in([replace(TOKEN, issued_at=None)], now=NOW + timedelta(days=8)) == timedelta(seconds=1)


def test_a_source_that_wakes_us_for_what_was_told_already_tells_nothing_twice() -> None:
    first, second = object(), object()
    left = iter([first, first, first, second])
    wake: list[Callable[[], None]] = []

    def subscribe(callback: Callable[[], None]) -> Callable[[], None]:
        wake.append(callback)
        return wake.clear

    def look() -> tuple[object]:
        wake[0]()
        return (next(left),)

    told = changes(look, subscribe)
    assert [next(told), next(told)] == [(first,), (second,)]


def test_what_is_taken_away_is_waited_for_and_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    denied = WorkloadAPIError("no identity issued", code="PERMISSION_DENIED")
    first, second = object(), object()
    left = iter([first, denied, denied, second])
    wake: list[Callable[[], None]] = []

    def subscribe(callback: Callable[[], None]) -> Callable[[], None]:
        wake.append(callback)
        return wake.clear

    def look() -> tuple[object]:
        wake[0]()
        found = next(left)
        if isinstance(found, WorkloadAPIError):
            raise found
        return (found,)

    told = changes(look, subscribe)
    assert [next(told), next(told)] == [(first,), (second,)]
    assert capsys.readouterr().err.count("no identity issued; waiting for it") == 1


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNIMPLEMENTED", "CANCELLED"])
def test_what_never_comes_is_not_waited_for(code: str) -> None:
    with pytest.raises(WorkloadAPIError, match="no such call"):
        Waiting().tell(WorkloadAPIError("no such call", code=code))
