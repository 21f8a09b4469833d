"""What the events of a watched stream mean, without a server and without waiting."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svid.backoff import Backoff
from svid.errors import SVIDError, WorkloadAPIError
from svid.workloadapi.watch import Deliver, Discard, GiveUp, Reconnect, Watch

BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=8))


def read(message: str) -> int:
    try:
        return int(message)
    except ValueError as e:
        raise SVIDError(f"message: expected a number, found {message!r}") from e


def make_watch() -> Watch[str, int]:
    watch = Watch(read, lambda: 0.0, BACKOFF)
    watch.opened(0)
    return watch


def failed(code: str) -> WorkloadAPIError:
    return WorkloadAPIError("as told", code=code)


def delay(step: Reconnect | GiveUp) -> float:
    assert isinstance(step, Reconnect)
    return step.delay.total_seconds()


@pytest.mark.clause("WA-11")
def test_each_message_replaces_what_is_held() -> None:
    watch = make_watch()
    assert [watch.received("1"), watch.received("2")] == [Deliver(value=1), Deliver(value=2)]


def test_the_same_message_again_is_nothing_new() -> None:
    watch = make_watch()
    watch.received("1")
    assert watch.received("1") is None
    watch.ended(5)
    watch.opened(6)
    assert watch.received("1") is None


def test_where_messages_are_signs_of_life_the_same_again_counts() -> None:
    watch = Watch(read, lambda: 0.0, BACKOFF, repeats=True)
    watch.opened(0)
    assert [watch.received("1"), watch.received("1")] == [Deliver(value=1), Deliver(value=1)]


@pytest.mark.clause("WA-14")
def test_a_bad_message_is_discarded_and_the_next_one_counts() -> None:
    watch = make_watch()
    watch.received("1")
    step = watch.received("one")
    assert isinstance(step, Discard)
    assert "found 'one'" in str(step.error)
    assert watch.received("1") is None, "what is held is still the first"
    assert watch.received("2") == Deliver(value=2)


@pytest.mark.clause("WA-05")
def test_a_stream_that_was_of_use_is_opened_again_at_once() -> None:
    watch = make_watch()
    watch.received("1")
    assert delay(watch.ended(60)) == 0


@pytest.mark.clause("WE-16")
@pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED"]
)
def test_failures_are_tried_again_ever_more_slowly(code: str) -> None:
    watch = make_watch()
    assert [delay(watch.ended(at, failed(code))) for at in range(5)] == [1, 2, 4, 8, 8]


def test_a_stream_that_says_something_and_ends_at_once_is_no_reason_to_hurry() -> None:
    watch = make_watch()
    delays = []
    for at in range(3):
        watch.opened(at)
        watch.received("1")
        delays.append(delay(watch.ended(at + 0.9)))
    assert delays == [1, 2, 4]


def test_a_long_stream_without_a_message_is_no_reason_to_hurry() -> None:
    watch = make_watch()
    assert delay(watch.ended(3600)) == 1


def test_a_stream_that_was_of_use_forgives_the_failures_before_it() -> None:
    watch = make_watch()
    for _ in range(4):
        watch.ended(0, failed("UNAVAILABLE"))
    watch.opened(10)
    watch.received("1")
    assert delay(watch.ended(20)) == 0
    watch.opened(20)
    assert delay(watch.ended(20, failed("UNAVAILABLE"))) == 1


@pytest.mark.clause("WA-22", "WE-17")
def test_a_denial_says_stop_and_is_tried_again() -> None:
    watch = make_watch()
    watch.received("1")
    step = watch.ended(60, failed("PERMISSION_DENIED"))
    assert isinstance(step, Reconnect)
    assert step.denied
    assert delay(step) == 1
    watch.opened(61)
    assert watch.received("1") == Deliver(value=1), "the same again is new after a denial"


@pytest.mark.clause("WE-15", "WE-18")
@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNIMPLEMENTED"])
def test_some_codes_end_the_watch(code: str) -> None:
    watch = make_watch()
    watch.received("1")
    error = failed(code)
    assert watch.ended(60, error) == GiveUp(error=error)


def test_a_stream_that_somebody_on_the_way_cancelled_is_opened_again() -> None:
    watch = make_watch()
    watch.received("1")
    assert delay(watch.ended(60, failed("CANCELLED"))) == 0


@given(
    st.lists(st.tuples(st.floats(0, 10), st.booleans(), st.sampled_from([None, "UNAVAILABLE", "PERMISSION_DENIED"])))
)
def test_at_most_one_reconnect_a_second_is_immediate(streams: list[tuple[float, bool, str | None]]) -> None:
    """However a server behaves, a caller that does what it is told is no busy loop."""
    watch = make_watch()
    now, opened = 0.0, 0
    for lived, heard, code in streams:
        opened += 1
        watch.opened(now)
        if heard:
            watch.received("1")
        now += lived
        now += delay(watch.ended(now, None if code is None else failed(code)))
    assert opened <= now + 1


def test_the_usual_backoff_is_jittered() -> None:
    watch = Watch(read, lambda: 0.5)
    assert delay(watch.ended(0)) == pytest.approx(0.075)
