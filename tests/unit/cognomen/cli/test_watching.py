"""cognomen/cli/watching: when tokens are fetched again, and which changes are told."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cognomen.cli.heldtokens import HeldTokens
from cognomen.cli.reach import check_workload_api
from cognomen.cli.watching import Absence, Tokens, Waiting, changes, refetch_in, tokens
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
    assert [next(told), next(told), next(told)] == [(first,), denied, (second,)]
    assert capsys.readouterr().err.count("no identity issued; waiting for it") == 1


def test_what_was_not_done_with_is_yielded_again() -> None:
    due = iter([True, False, True])

    def subscribe(callback: Callable[[], None]) -> Callable[[], None]:
        callback()
        return callback

    told = changes(lambda: (None,), subscribe, is_due=lambda: next(due))
    assert [next(told), next(told), next(told)] == [(None,)] * 3
    assert next(due, None) is None


def test_tokens_are_yielded_again_while_they_are_due_and_a_refusal_is_yielded_once() -> None:
    denied = WorkloadAPIError("no identity issued", code="PERMISSION_DENIED")
    answers: Iterator[WorkloadAPIError | Tokens] = iter([denied, denied, {"a": [TOKEN]}])
    due = iter([False, True])

    def fetch() -> Tokens:
        found = next(answers)
        if isinstance(found, WorkloadAPIError):
            raise found
        return found

    looked: list[None] = []
    told = tokens(fetch, HeldTokens(), is_due=lambda: next(due), at_rest=lambda: looked.append(None))
    assert next(told) == denied
    assert next(told) == {"a": [TOKEN]}
    assert len(looked) == 2, "after each refusal"
    assert next(told) == {"a": [TOKEN]}
    assert len(looked) == 3, "while the tokens are good"


@pytest.mark.parametrize("took", [3 * MINUTE, 7 * MINUTE, timedelta(days=1)], ids=str)
def test_tokens_that_ended_while_something_was_done_with_them_are_fetched_again_at_once(took: timedelta) -> None:
    def rest() -> None:
        raise AssertionError("it waits")

    clock = FakeClock(NOW)
    told = tokens(lambda: {"a": [TOKEN]}, HeldTokens(), at_rest=rest, clock=clock)
    next(told)
    clock.advance(took.total_seconds())
    assert next(told) == {"a": [TOKEN]}


def test_a_listener_that_accepts_nobody_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening, ExitStack() as waiting:
        listening.bind(str(tmp_path / "s"))
        listening.listen(0)
        for _ in range(3):
            check_workload_api(f"unix://{tmp_path}/s")
            one = waiting.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(str(tmp_path / "s"))


def test_an_attestor_that_is_away_for_long_is_told_once_and_again_after_it_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = FakeClock()
    absence = Absence(f"unix://{tmp_path}/s", clock)

    def told_after(seconds: int) -> int:
        for _ in range(seconds):
            clock.advance(1)
            absence.look()
        return capsys.readouterr().err.count("expected an attestor that listens, found none; waiting for it")

    assert (told_after(29), told_after(10), told_after(3600)) == (0, 1, 0)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        assert told_after(15) == 0
    (tmp_path / "s").unlink()
    assert (told_after(20), told_after(20)) == (0, 1)


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNIMPLEMENTED", "CANCELLED"])
def test_what_never_comes_is_not_waited_for(code: str) -> None:
    with pytest.raises(WorkloadAPIError, match="no such call"):
        Waiting().tell(WorkloadAPIError("no such call", code=code))
