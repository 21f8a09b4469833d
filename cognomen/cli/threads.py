"""Work beside the main thread of a command."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> "Future[T]":
    """Begin some work in a thread that delays no end of the process; the future has its result, or what it raised."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as e:  # noqa: BLE001 - it is raised to whoever waits
            result.set_exception(e)

    threading.Thread(target=run, name="cognomen", daemon=True).start()
    return result
