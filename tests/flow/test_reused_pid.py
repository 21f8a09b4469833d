"""A process number that may mean another process by now is never believed.

A parent connects, forks and exits while its child goes on speaking on the inherited connection: the number of whoever connected is free to
be given to anybody. The same with a double that calls every process alive shows what the test would see if such a caller were let in.
"""

import asyncio
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cognomen.daemon.caller import Caller
from cognomen.daemon.gate import listen
from tests.doubles.child import Child
from tests.doubles.workloadside import WorkloadSide, entry, serving

ROOT = Path(__file__).parents[2]


class AlwaysAlive:
    """Stands for a process and calls it alive, whatever has become of it."""

    def __init__(self) -> None:
        self._silence, self._never_written = os.pipe()

    def is_alive(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._silence

    def close(self) -> None:
        os.close(self._silence)
        os.close(self._never_written)


def believe_the_number(sock: socket.socket, *, accepted_at: float) -> Caller:
    """Who a peer is if one believes its process number for ever."""
    del accepted_at
    pid, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Caller(pid=pid, uid=uid, gid=gid, groups=frozenset(), process=AlwaysAlive())


@pytest.fixture
def side() -> WorkloadSide:
    side = WorkloadSide()
    side.synchronise(entry("a", f"unix:uid:{os.getuid()}"))
    return side


@contextmanager
def inheritor(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program; the parent stays a zombie until the end, so that its number is not given to anybody else meanwhile."""
    command = [sys.executable, "-m", "tests.doubles.inheritor", str(path), *options]
    with Child(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        yield parent


async def output(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return (await asyncio.to_thread(program.stdout.read)).strip()


async def test_a_child_that_speaks_for_its_dead_parent_is_refused(side: WorkloadSide, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with serving(side.flow(), path):
        with inheritor(path) as program:
            assert await output(program) == "refused"


async def test_a_parent_that_died_before_it_was_accepted_is_refused(side: WorkloadSide, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    listener = listen(path, 0o666)
    with inheritor(path, "--at-once") as program:
        await asyncio.to_thread(os.waitid, os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        async with serving(side.flow(), path, listener=listener):
            assert await output(program) == "refused"


async def test_whoever_believed_the_number_would_let_the_child_in(side: WorkloadSide, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with serving(side.flow(), path, identify=believe_the_number):
        with inheritor(path) as program:
            assert await output(program) == "spiffe://example.org/w/a"
