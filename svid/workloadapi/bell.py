"""A bell: threads, tasks and callbacks that wait for something to change, and who rings it."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

__all__ = ["Bell"]

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class Bell:
    """Rung from any thread whenever something changed; what changed is kept elsewhere, and was changed before."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self._callbacks: dict[object, Callable[[], None]] = {}

    def ring(self) -> None:
        """Wake all that wait, and call the callbacks; an error of one is logged."""
        with self._rung:
            self._rung.notify_all()
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001 - the callback is a stranger's, and whoever rings must outlive it
                _log.exception("callback failed")

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called at each ring, from the thread that rings; returns what ends that."""
        token = object()
        with self._rung:
            self._callbacks[token] = callback

        def unsubscribe() -> None:
            with self._rung:
                self._callbacks.pop(token, None)

        return unsubscribe

    def wait(self, condition: Callable[[], bool], timeout: timedelta) -> None:
        """Return when the condition holds, or the time is up."""
        with self._rung:
            self._rung.wait_for(condition, timeout.total_seconds())

    async def until(self, condition: Callable[[], bool], timeout: timedelta) -> None:  # noqa: ASYNC109 - as `wait`, no error
        """As `wait`, without holding up the event loop."""
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                async for _ in self.rings():
                    if condition():
                        return
        except TimeoutError:
            pass

    async def rings(self) -> AsyncIterator[None]:
        """Yield now, and whenever it rang since."""
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(rung.set)

        unsubscribe = self.subscribe(wake)
        try:
            while True:
                rung.clear()
                yield
                await rung.wait()
        finally:
            unsubscribe()
