"""Turns of uids and connections: a round ends by its frames, and by its time."""

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context

import pytest

from cognomen.gate.connection import Turns


class Loop(asyncio.BaseEventLoop):
    """A loop whose time and rounds the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._rounds: list[Callable[[], object]] = []

    def time(self) -> float:
        return self.now

    def call_soon(
        self, callback: Callable[[], object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        self._rounds.append(callback)
        return asyncio.Handle(callback, args, self, context)

    def run_round(self) -> None:
        self._rounds.pop(0)()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


class Waiting:
    """What waits, and when it was served."""

    def __init__(self, loop: Loop) -> None:
        self.served: list[int] = []
        self._loop, self._turns = loop, Turns(loop)

    def join(self, uid: int, *, frames: int = 1, seconds: float = 0) -> None:
        def serve() -> int:
            self.served.append(uid)
            self._loop.now += seconds
            return frames

        self._turns.join(uid, serve)


def test_uids_are_served_in_turn(loop: Loop) -> None:
    waiting = Waiting(loop)
    for uid in (1, 1, 1, 2):
        waiting.join(uid)
    loop.run_round()
    assert waiting.served == [1, 2, 1, 1]


def test_a_round_ends_after_some_frames_and_the_rest_comes_in_the_next(loop: Loop) -> None:
    waiting = Waiting(loop)
    for _ in range(4):
        waiting.join(1, frames=8)
    loop.run_round()
    assert len(waiting.served) == 2
    loop.run_round()
    assert len(waiting.served) == 4


def test_a_round_ends_when_it_has_taken_long_however_few_its_frames(loop: Loop) -> None:
    waiting = Waiting(loop)
    for _ in range(5):
        waiting.join(1, seconds=0.0015)
    loop.run_round()
    assert len(waiting.served) == 2
    loop.run_round()
    assert len(waiting.served) == 4


def test_the_example_at_the_head_of_the_connection_is_what_happens(loop: Loop) -> None:
    served, turns = list[str](), Turns(loop)

    def flood(name: str) -> Callable[[], int]:
        def serve() -> int:
            served.append(name)
            turns.join(1, serve)
            return 8

        return serve

    def call() -> int:
        served.append("call")
        return 3

    for name in "abc":
        turns.join(1, flood(name))
    turns.join(2, call)
    loop.run_round()
    assert served == ["a", "call", "b"]
    loop.run_round()
    assert served == ["a", "call", "b", "c", "a"]
