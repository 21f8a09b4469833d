"""What a local program tries with what the kernel says about it: each was a hole, or nearly one."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from attestor.workloadattestor.unix import UnixAttestor
from bench.rig.child import Child
from cognomen.gate.caller import Caller, Process, peer
from cognomen.protocol.errors import Refused
from tests.doubles.clock import FakeClock
from tests.doubles.threads import ThreadsDouble
from tests.doubles.until import until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="other groups need root")
CONNECT = """
import os, socket, sys
os.setgroups(range(10_000, 10_000 + int(sys.argv[2])))
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sys.stdin.read()
"""


@needs_root
@pytest.mark.parametrize("groups", [1025, 65_536])
def test_a_caller_with_so_many_groups_that_each_look_at_it_costs_everybody_is_refused(
    tmp_path: Path, groups: int
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        command = [sys.executable, "-c", CONNECT, str(tmp_path / "s"), str(groups)]
        connecting = Child(command, stdin=subprocess.PIPE)
        with connecting, listener.accept()[0] as sock, pytest.raises(Refused) as refused:
            peer(sock, accepted_at=time.clock_gettime(time.CLOCK_BOOTTIME))
    assert refused.value.detail == f"caller: expected at most 1024 supplementary groups, found {groups}"


async def test_names_are_looked_up_for_one_caller_of_a_uid_at_a_time() -> None:
    threads = ThreadsDouble(hold="group names")
    attestor = UnixAttestor(FakeClock(), start=threads)
    calls = [one_of_us(range(first, first + 100)) for first in range(1_000_000, 1_000_800, 100)]
    try:
        async with asyncio.TaskGroup() as group:
            for caller in calls:
                group.create_task(attestor.attest(caller, needed={"unix:supplementary_group"}))
            for count in range(1, len(calls) + 1):
                await until(lambda: bool(threads.held))
                await asyncio.sleep(0)
                assert threads.count["group names"] == count
                threads.release()
    finally:
        for caller in calls:
            caller.process.close()


def one_of_us(groups: Collection[int]) -> Caller:
    process = Process(os.pidfd_open(os.getpid()))
    return Caller(pid=os.getpid(), uid=os.geteuid(), gid=os.getegid(), groups=frozenset(groups), process=process)
