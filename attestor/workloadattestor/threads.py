"""Threads for what may wait for ever: a file system, a directory service.

Decided here: whose waits keep others waiting. A thread that waits cannot be ended, so a uid has one and no more. None is taken from the
threads that the rest of the daemon shares, and none keeps the process from ending.
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

from cognomen.daemon.errors import Kind, Refused
from svid.clock import Clock

__all__ = ["DaemonThreads", "StartThread", "Threads"]

T = TypeVar("T")
StartThread: TypeAlias = Callable[[str, Callable[[], None]], None]
"""Starts a thread of that name for that work."""
_Work: TypeAlias = tuple[str, Callable[[], None]] | None

_MOST = 256  # uids that are attended to at once
_PATIENCE_SECONDS = 5.0


class DaemonThreads:
    """Starts work in threads that are used again, and that the end of the process does not wait for."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Work]] = []
        self._over = threading.Event()
        weakref.finalize(self, _dismiss, self._idle, self._over)

    def __call__(self, name: str, work: Callable[[], None]) -> None:
        """Do that in a thread of this name.

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
    """Does one thing at a time for each uid.

    Args:
        what: they look at; it names them, and is in the message to a caller that gets no answer.
        start: how a thread is started.
    """

    def __init__(self, what: str, clock: Clock, *, start: StartThread) -> None:
        self._what = what
        self._clock = clock
        self._start = start
        self._busy: dict[int, _Busy] = {}
        self._room = asyncio.Semaphore(_MOST)

    async def run(
        self,
        uid: int,
        work: Callable[[], T],
        *,
        known: Callable[[], T | None] = lambda: None,
        keep: Callable[[T], None] = lambda _: None,
    ) -> T:
        """Do that in a thread, as soon as nothing else is being done for that uid.

        Args:
            known: says after each wait what need not be done any more; None: it must be.
            keep: takes the result, also when nobody waits for it any more.

        Raises:
            Refused: UNAVAILABLE, at once, where the uid's thread has been waiting for long.
        """
        while (found := known()) is None and (busy := self._busy.get(uid)) is not None:
            if self._clock.monotonic() >= busy.since + _PATIENCE_SECONDS:
                raise self._unavailable(uid)
            await asyncio.wait([busy.done])
        if found is not None:
            return found
        outcome: Future[T] = Future()
        done = self._begin(uid)
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
            raise self._unavailable(uid) from err
        await asyncio.shield(done)
        return outcome.result()

    def _begin(self, uid: int) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda _: self._busy.pop(uid))  # the first one: before anybody who waits goes on
        self._busy[uid] = _Busy(self._clock.monotonic(), done)
        return done

    def _finish(self, done: "asyncio.Future[None]", outcome: "Future[T]", keep: Callable[[T], None]) -> None:
        self._room.release()
        if outcome.exception() is None:
            keep(outcome.result())
        done.set_result(None)

    def _unavailable(self, uid: int) -> Refused:
        return Refused(
            Kind.UNAVAILABLE,
            f"{self._what} of uid {uid}: no answer in time",
            hint="does a file system or a directory service of that user answer nothing?",
            uid=uid,
        )


def _do(work: Callable[[], T], outcome: "Future[T]", report: Callable[[], None]) -> None:
    try:
        outcome.set_result(work())
    except Exception as e:  # noqa: BLE001 - raised where the result is waited for
        outcome.set_exception(e)
    report()


def _report(loop: asyncio.AbstractEventLoop, finish: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: the daemon has ended meanwhile
        loop.call_soon_threadsafe(finish)
