"""When a stream that speaks all the time has fallen silent."""

import queue
from collections.abc import Callable
from datetime import timedelta

import pytest

from svid.workloadapi.silence import Silence


def unused() -> None:
    raise AssertionError


def looks(silence: Silence, count: int) -> list[bool]:
    return [silence.look() for _ in range(count)]


def test_the_third_look_without_a_word_is_silence_and_so_is_each_third_one_after_it() -> None:
    silence = Silence(timedelta(hours=1), unused)
    silence.heard()
    assert looks(silence, 7) == [False, False, False, True, False, False, True]


@pytest.mark.parametrize("sign", [Silence.heard, lambda silence: silence.broke(for_long=False)])
def test_a_word_or_another_stream_begins_the_count_anew(sign: Callable[[Silence], None]) -> None:
    silence = Silence(timedelta(hours=1), unused)
    silence.heard()
    assert looks(silence, 3) == [False] * 3
    sign(silence)
    assert looks(silence, 4) == [False, False, False, True]


def test_who_never_spoke_is_not_silent() -> None:
    silence = Silence(timedelta(hours=1), unused)
    silence.broke(for_long=False)
    assert looks(silence, 9) == [False] * 9


def test_who_is_only_tried_now_and_then_is_not_silent_until_it_has_spoken_again() -> None:
    silence = Silence(timedelta(hours=1), unused)
    silence.heard()
    silence.broke(for_long=True)
    assert looks(silence, 9) == [False] * 9
    silence.heard()
    assert looks(silence, 4) == [False, False, False, True]


def test_the_thread_acts_and_ends() -> None:
    acts: queue.SimpleQueue[None] = queue.SimpleQueue()
    silence = Silence(timedelta(milliseconds=3), lambda: acts.put(None))
    silence.heard()
    silence.thread.start()
    for _ in range(2):
        acts.get(timeout=10)
    silence.end()
    silence.thread.join(10)
    assert not silence.thread.is_alive()
