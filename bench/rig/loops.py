"""Event loops that leave nothing open behind them, whatever they were doing when they ended.

A loop of asyncio that ends closes no connection, and not what it was about to accept. Python notices that only when it collects the
garbage, maybe much later, and pytest blames the test that runs then.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from typing import TypeVar

__all__ = ["accepting", "in_own_loop", "leave_nothing_open"]

_BEGIN_SECONDS = 20
_TURNS_TO_CLOSE = 4  # turns of the loop in which asyncio closes the aborted transports

MadeT = TypeVar("MadeT")


async def leave_nothing_open(*servers: asyncio.Server) -> None:
    """End these servers, and all other tasks and all connections of this loop, which is about to end."""
    loop = asyncio.get_running_loop()
    for server in servers:
        for listener in server.sockets:
            loop.remove_reader(listener.fileno())
    # asyncio's tasks close what they have accepted only once they have begun, while the server is open
    await asyncio.sleep(0)
    await _abort_connections()  # first: who reads from one reads its end, and needs not be cancelled
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others)
    for server in servers:
        server.close()
    await _abort_connections()


async def _abort_connections() -> None:
    for transport in list(getattr(asyncio.get_running_loop(), "_transports", {}).values()):  # no public list has them
        transport.abort()
    for _ in range(_TURNS_TO_CLOSE):
        await asyncio.sleep(0)


@asynccontextmanager
async def accepting(server: asyncio.Server) -> AsyncIterator[int]:
    """Have a server while the block runs, and end all that its loop holds with it; yields the port."""
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        await leave_nothing_open(server)


@contextmanager
def in_own_loop(enter: Callable[[], AbstractAsyncContextManager[MadeT]]) -> Iterator[MadeT]:
    """Enter an asynchronous context in a loop and a thread of its own, for as long as the block runs; yields what it yields."""
    begun, stop, loop = Future[MadeT](), asyncio.Event(), asyncio.new_event_loop()

    async def run() -> None:
        try:
            async with enter() as made:
                begun.set_result(made)
                await stop.wait()
        finally:
            await leave_nothing_open()

    def ended(run: Future[None]) -> None:
        if not begun.done():
            begun.set_exception(run.exception() or RuntimeError("ended before it began"))

    with closing(loop), ThreadPoolExecutor(1) as thread:
        running = thread.submit(loop.run_until_complete, run())
        running.add_done_callback(ended)
        try:
            yield begun.result(_BEGIN_SECONDS)
        finally:
            loop.call_soon_threadsafe(stop.set)
            running.result()
