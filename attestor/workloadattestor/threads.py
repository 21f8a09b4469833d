"""Threads for work that may block forever, such as a file system or a directory service.

Decided here: whose waiting delays whom. A blocked thread cannot be ended, so each account has only one. These threads are not taken from
the pool that the rest of the daemon shares, and they do not keep the process from ending.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple, TypeAlias, TypeVar

from cognomen.gate.accounts import AccountID
from cognomen.gate.shares import Share
from cognomen.protocol.errors import Kind, Refused
from svid.clock import Clock

__all__ = ["DaemonThreads", "StartThread", "Threads"]

T = TypeVar("T")
StartThread: TypeAlias = Callable[[str, Callable[[], None]], None]
"""Starts a thread with that name for that work."""
_Work: TypeAlias = tuple[str, Callable[[], None]] | None

_MOST = 256  # accounts served at the same time
_PATIENCE_SECONDS = 5.0


class DaemonThreads:
    """Runs work in threads that are reused, and that the process does not wait for when it ends."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Work]] = []
        self._over = threading.Event()
        weakref.finalize(self, _dismiss, self._idle, self._over)

    def __call__(self, name: str, work: Callable[[], None]) -> None:
        """Do this work in a thread with this name.

        Raises:
            RuntimeError: the system has no more threads.
        """
        if self._idle:
            self._idle.pop().put((name, work))
            return
        orders: SimpleQueue[_Work] = SimpleQueue()
        orders.put((name, work))
        threading.Thread(target=_serve, args=(orders, self._idle, self._over), daemon=True).start()


def _serve(orders: "SimpleQueue[_Work]", idle: "list[SimpleQueue[_Work]]", over: threading.Event) -> None:
    while not over.is_set() and (order := orders.get()) is not None:
        threading.current_thread().name, work = order
        work()
        del order, work
        idle.append(orders)


def _dismiss(idle: "list[SimpleQueue[_Work]]", over: threading.Event) -> None:
    over.set()  # for those that are not idle yet
    for orders in idle:
        orders.put(None)


class _Busy(NamedTuple):
    since: float
    done: "asyncio.Future[None]"


class Threads:
    """Does one thing at a time for each account.

    Args:
        what: what the threads look at; it is their name, and is in the message to a caller that gets no answer.
        start: how a thread is started.
    """

    def __init__(self, share: Share, what: str, clock: Clock, *, start: StartThread) -> None:
        self.share = share
        self._what = what
        self._clock = clock
        self._start = start
        self._busy: dict[AccountID, _Busy] = {}
        self._room = asyncio.Semaphore(_MOST)

    async def run(
        self,
        whose: AccountID,
        work: Callable[[], T],
        *,
        known: Callable[[], T | None] = lambda: None,
        keep: Callable[[T], None] = lambda _: None,
    ) -> T:
        """Do this work in a thread, as soon as nothing else is being done for that account.

        Args:
            known: called after each wait; returns the result if it is known by now, and None if the work must be done.
            keep: receives the result, even if nobody waits for it any longer.

        Raises:
            Refused: UNAVAILABLE, at once, if the account's thread has been waiting for long.
        """
        while (found := known()) is None and (busy := self._busy.get(whose)) is not None:
            if self._clock.monotonic() >= busy.since + _PATIENCE_SECONDS:
                raise self._unavailable(whose)
            await asyncio.wait([busy.done])
        if found is not None:
            return found
        outcome: Future[T] = Future()
        done = self._begin(whose)
        try:
            await self._room.acquire()
        except asyncio.CancelledError:
            done.cancel()
            raise
        finish = partial(self._finish, done, outcome, keep)
        try:
            self._start(self._what, partial(_do, work, outcome, partial(_report, asyncio.get_running_loop(), finish)))
        except RuntimeError as err:  # the system has no thread for us
            outcome.set_exception(err)
            finish()
            raise self._unavailable(whose) from err
        await asyncio.shield(done)
        return outcome.result()

    def _begin(self, whose: AccountID) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda _: self._busy.pop(whose))  # first, so it runs before the waiters
        self._busy[whose] = _Busy(self._clock.monotonic(), done)
        return done

    def _finish(self, done: "asyncio.Future[None]", outcome: "Future[T]", keep: Callable[[T], None]) -> None:
        self._room.release()
        if outcome.exception() is None:
            keep(outcome.result())
        done.set_result(None)

    def _unavailable(self, whose: AccountID) -> Refused:
        return Refused(
            Kind.UNAVAILABLE,
            f"{self._what} of uid {whose}: no answer in time",
            hint="check whether a file system or a directory service of that user has stopped answering",
            uid=whose,
        )


def _do(work: Callable[[], T], outcome: "Future[T]", report: Callable[[], None]) -> None:
    try:
        outcome.set_result(work())
    except Exception as e:  # noqa: BLE001 - raised where the result is waited for
        outcome.set_exception(e)
    report()


def _report(loop: asyncio.AbstractEventLoop, finish: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed because the daemon has ended
        loop.call_soon_threadsafe(finish)
