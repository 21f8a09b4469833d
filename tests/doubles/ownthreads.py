"""Waiting for works in the threads of our own (cognomen/process/ownthreads), however slow the disk is."""

import asyncio
import threading

from cognomen.process.ownthreads import THREADS, in_own_thread

__all__ = ["own_threads_done"]

_SECONDS = 20


async def own_threads_done() -> None:
    """Return when every work that had been given to the threads before is done: each of them has time for a work of ours."""
    everybody = threading.Barrier(THREADS)
    await asyncio.gather(*(in_own_thread(everybody.wait, _SECONDS) for _ in range(THREADS)))
