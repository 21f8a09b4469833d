"""A bell: threads, tasks and callbacks wait for a change, and any thread rings it."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta

from svid.workloadapi.forks import forks

__all__ = ["Bell"]

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class Bell:
    """Ring it from any thread after a change; the changed state itself is kept elsewhere."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._wakers: set[object] = set()
        forks.renew(self)

    def renew(self) -> None:
        """In a forked child, keep the callbacks, but drop the waiting tasks, which are the parent's."""
        self._rung = threading.Condition()
        for token in self._wakers:
            self._callbacks.pop(token, None)
        self._wakers = set()

    @property
    def callbacks(self) -> int:
        """The number of callbacks, including those of waiting tasks."""
        return len(self._callbacks)

    def ring(self) -> None:
        """Wake everything that waits, and call the callbacks; their errors are logged."""
        with self._rung:
            self._rung.notify_all()
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            try:
                callback()
            except BaseException:  # noqa: BLE001 - it is the application's code, and the ringing thread must survive even its sys.exit()
                _log.exception("callback failed")

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` at each ring, in the thread that rings; returns a function that stops this."""
        return self._add(callback)

    def _add(self, callback: Callable[[], None], *, is_waker: bool = False) -> Callable[[], None]:
        token = object()
        with self._rung:
            self._callbacks[token] = callback
            if is_waker:
                self._wakers.add(token)

        def unsubscribe() -> None:
            with self._rung:
                self._callbacks.pop(token, None)
                self._wakers.discard(token)

        return unsubscribe

    def wait(self, condition: Callable[[], bool], timeout: timedelta) -> None:
        """Return when the condition holds or the timeout is over."""
        with self._rung:
            self._rung.wait_for(condition, timeout.total_seconds())

    async def until(self, condition: Callable[[], bool], timeout: timedelta) -> None:  # noqa: ASYNC109 - as `wait`, no error
        """Do the same as `wait` without blocking the event loop."""
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                async with aclosing(self.rings()) as rings:
                    async for _ in rings:
                        if condition():
                            return
        except TimeoutError:
            pass

    async def rings(self) -> AsyncGenerator[None, None]:
        """Yield now, and again after each ring; several rings may become one."""
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(rung.set)
            except RuntimeError:  # the loop was closed during a wait, and nobody is left to wake
                unsubscribe()

        unsubscribe = self._add(wake, is_waker=True)
        try:
            while True:
                rung.clear()
                yield
                await rung.wait()
        finally:
            unsubscribe()
