"""Decide whose handshake is next: addresses of nodes more often, then one address after the other, and never all of the loop's time.

A step of a handshake is a signature and a key agreement. It takes half a millisecond of the event loop, for which everybody else waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Handshakes"]

_ROUND_SECONDS = 0.004
_SHARE = 0.4  # of the loop's time, while there is more to do
_STRANGERS_TURN = 4  # one in this many turns is theirs, whatever goes on where nodes are known, since others may also connect from there

Step = Callable[[], None]


class Handshakes:
    """The steps that wait for a turn."""

    def __init__(self) -> None:
        self._waiting: dict[bool, dict[bytes, deque[Step]]] = {True: {}, False: {}}
        self._round: asyncio.TimerHandle | None = None
        self._turns = 0

    def join(self, address: bytes, step: Step, *, is_known: bool) -> None:
        """Queue this step, which must not raise, until its turn comes."""
        self._waiting[is_known].setdefault(address, deque()).append(step)
        self._schedule(0.0)

    def close(self) -> None:
        """Accept no more steps."""
        for some in self._waiting.values():
            some.clear()
        if self._round is not None:
            self._round.cancel()

    def _schedule(self, seconds: float) -> None:
        if self._round is None and any(self._waiting.values()):
            self._round = asyncio.get_running_loop().call_later(seconds, self._go_round)

    def _go_round(self) -> None:
        loop = asyncio.get_running_loop()
        self._round, began, took = None, loop.time(), 0.0
        try:
            while took < _ROUND_SECONDS and (some := self._next()):
                address = next(iter(some))
                steps = some.pop(address)
                step = steps.popleft()
                if steps:
                    some[address] = steps  # behind the others
                step()
                took = loop.time() - began
        finally:
            self._schedule(took * (1 / _SHARE - 1))

    def _next(self) -> dict[bytes, deque[Step]]:
        """The group that has the next turn."""
        self._turns += 1
        are_known = self._turns % _STRANGERS_TURN != 0
        return self._waiting[are_known] or self._waiting[not are_known]
