"""Our own works are done although asyncio's pool is full of calls that do not return."""

import asyncio
import threading

import pytest

from cognomen.process.ownthreads import in_own_thread


async def test_a_full_pool_of_asyncio_delays_no_work_of_ours() -> None:
    over = threading.Event()
    loop = asyncio.get_running_loop()
    stuck = [loop.run_in_executor(None, over.wait) for _ in range(100)]
    try:
        async with asyncio.timeout(10):
            assert await in_own_thread(int, "7", base=8) == 7
            with pytest.raises(ValueError, match="invalid literal"):
                await in_own_thread(int, "x")
    finally:
        over.set()
        await asyncio.gather(*stuck)
