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

from bench.rig.child import Child
from cognomen.gate.caller import Caller, peer
from cognomen.gate.gate import Identify, listen
from tests.doubles.project import ROOT
from tests.doubles.workloadside import WorkloadSide, entry, serving


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
    with Child(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        yield parent


class Noted:
    """Says when somebody was asked for."""

    def __init__(self, identify: Identify) -> None:
        self._identify = identify
        self.accepted = asyncio.Event()

    def __call__(self, sock: socket.socket, *, accepted_at: float) -> Caller:
        self.accepted.set()
        return self._identify(sock, accepted_at=accepted_at)


async def said_once_accepted(side: WorkloadSide, path: Path, identify: Identify) -> str:
    """What the child says, whose parent exits once it was accepted."""
    noted = Noted(identify)
    async with serving(side.flow(), path, identify=noted):
        with inheritor(path) as program:
            await noted.accepted.wait()
            assert program.stdin is not None
            program.stdin.close()
            return await output(program)


async def output(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return (await asyncio.to_thread(program.stdout.read)).strip()


async def test_a_child_that_speaks_for_its_dead_parent_is_refused(side: WorkloadSide, tmp_path: Path) -> None:
    assert await said_once_accepted(side, tmp_path / "api.sock", peer) == "refused"


async def test_a_parent_that_died_before_it_was_accepted_is_refused(side: WorkloadSide, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    listener = listen(path, 0o666)
    with inheritor(path, "--at-once") as program:
        await asyncio.to_thread(os.waitid, os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        async with serving(side.flow(), path, listener=listener):
            assert await output(program) == "refused"


async def test_whoever_believed_the_number_would_let_the_child_in(side: WorkloadSide, tmp_path: Path) -> None:
    said = await said_once_accepted(side, tmp_path / "api.sock", believe_the_number)
    assert said == "spiffe://example.org/w/a"
