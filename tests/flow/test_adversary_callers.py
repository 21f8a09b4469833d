"""What a local program tries with what the kernel says about it: each was a hole, or nearly one."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from attestor.workloadattestor.unix import UnixAttestor
from cognomen.daemon.caller import Caller, Process, peer
from cognomen.daemon.errors import Refused
from svid.clock import SystemClock

P = ParamSpec("P")
T = TypeVar("T")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="other groups need root")
CONNECT = """
import os, socket, sys
os.setgroups(range(10_000, 10_000 + int(sys.argv[2])))
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sys.stdin.read()
"""


class WatchedThreads(ThreadPoolExecutor):
    """Threads of which the most that ever worked, or were waited for, at once are known."""

    def __init__(self) -> None:
        super().__init__(max_workers=8)
        self.busy = self.most_busy = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: object) -> None:
        self.busy -= 1


@needs_root
@pytest.mark.parametrize("groups", [1025, 65_536])
def test_a_caller_with_so_many_groups_that_each_look_at_it_costs_everybody_is_refused(
    tmp_path: Path, groups: int
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        command = [sys.executable, "-c", CONNECT, str(tmp_path / "s"), str(groups)]
        connecting = subprocess.Popen(command, stdin=subprocess.PIPE)
        with connecting, listener.accept()[0] as sock, pytest.raises(Refused) as refused:
            peer(sock, accepted_at=time.clock_gettime(time.CLOCK_BOOTTIME))
    assert refused.value.detail == f"caller: expected at most 1024 supplementary groups, found {groups}"


async def test_names_are_looked_up_for_one_caller_of_a_uid_at_a_time() -> None:
    threads = WatchedThreads()
    asyncio.get_running_loop().set_default_executor(threads)
    attestor = UnixAttestor(SystemClock())
    calls = [one_of_us(range(first, first + 100)) for first in range(1_000_000, 1_000_800, 100)]
    try:
        answers = [attestor.attest(caller, needed={"unix:supplementary_group"}) for caller in calls]
        await asyncio.gather(*answers)
    finally:
        for caller in calls:
            caller.process.close()
    assert threads.most_busy == 1


def one_of_us(groups: Collection[int]) -> Caller:
    process = Process(os.pidfd_open(os.getpid()))
    return Caller(pid=os.getpid(), uid=os.geteuid(), gid=os.getegid(), groups=frozenset(groups), process=process)
