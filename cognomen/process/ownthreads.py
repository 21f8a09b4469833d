"""Threads for our own short works on files, apart from asyncio's pool: a plugin may fill that with calls that never return."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["THREADS", "in_own_thread"]

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="own")


async def in_own_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Do a work that ends soon, as asyncio.to_thread does it."""
    return await asyncio.wrap_future(_pool.submit(work, *arguments, **named))
