"""A FUSE file system with one program in it, `program`, that can be told to answer nothing any more.

A process of its own serves it, in the kernel's own protocol (linux/fuse.h), so that nothing has to be installed. Mounting needs root.
When the process ends, every call that waits for it ends with an error; it ends with the test, or after some seconds.
"""

import ctypes
import os
import select
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["PROGRAM", "Frozen", "fuse_of", "why_not"]

PROGRAM = "program"
_LIFE_SECONDS = 20
_REQUEST_BYTES = 1 << 18
_DETACH = 2  # umount2(2): MNT_DETACH
_ROOT, _FILE = 1, 2
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ = 1, 2, 3, 14, 15
_STATFS, _RELEASE, _FLUSH, _INIT, _INTERRUPT, _BATCH_FORGET = 17, 18, 25, 26, 36, 42
_UNASKED = frozenset({_READ, _FORGET, _RELEASE, _FLUSH, _INTERRUPT, _BATCH_FORGET})
"""What the kernel asks for the sake of the running program, whether or not anybody looks at it: always answered."""


class Frozen:
    """The file system from outside."""

    def __init__(self, orders: IO[str], answers: IO[str]) -> None:
        self._orders = orders
        self._answers = answers

    def freeze(self) -> None:
        """Have it answer nothing from now on, but its own program's reads."""
        self._order("freeze")

    def questions(self) -> int:
        """How often anybody has asked it about its files since it was frozen."""
        return int(self._order("questions"))

    def _order(self, text: str) -> str:
        self._orders.write(f"{text}\n")
        self._orders.flush()
        return self._answers.readline().strip()


def why_not() -> str:
    """Why such a file system cannot be mounted here; empty when it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError:
        return "no /dev/fuse here"
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        return "mounting is not allowed here"
    return ""


@contextmanager
def fuse_of(program: Path, mount: Path, *, remembered_seconds: int = 0) -> Iterator[Frozen]:
    """Mount one with a copy of that program.

    Args:
        remembered_seconds: for how long the kernel may believe names and attributes without asking again.
    """
    command = [sys.executable, "-m", "tests.doubles.fuse", str(program), str(mount), str(remembered_seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == "mounted\n"
            yield Frozen(server.stdin, server.stdout)
        finally:
            server.kill()
            _libc().umount2(os.fsencode(mount), _DETACH)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class _Server:
    """The other side."""

    def __init__(self, program: Path, mount: Path, remembered_seconds: int) -> None:
        self._bytes = program.read_bytes()
        self._remembered_seconds = remembered_seconds
        self._fuse = os.open("/dev/fuse", os.O_RDWR)
        self._frozen = False
        self._questions = 0
        options = f"fd={self._fuse},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if _libc().mount(b"test", os.fsencode(mount), b"fuse", 0, options) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        self._attend(os.read(self._fuse, _REQUEST_BYTES))  # the kernel introduces itself

    def run(self) -> None:
        _say("mounted")
        signal.alarm(_LIFE_SECONDS)
        while True:
            ready, _, _ = select.select([self._fuse, sys.stdin], [], [])
            if sys.stdin in ready and not self._obey(sys.stdin.readline()):
                return
            if self._fuse in ready:
                self._attend(os.read(self._fuse, _REQUEST_BYTES))

    def _obey(self, order: str) -> bool:
        self._frozen |= order == "freeze\n"
        if order:
            _say(str(self._questions))
        return bool(order)

    def _attend(self, request: bytes) -> None:
        _, asked, number, node = struct.unpack_from("<IIQQ", request)
        if self._frozen and asked not in _UNASKED:
            self._questions += 1
            return
        answer = self._answer(asked, node, request[40:])
        if answer is not None:
            os.write(self._fuse, struct.pack("<IiQ", 16 + len(answer), 0, number) + answer)
        elif asked not in {_FORGET, _BATCH_FORGET, _INTERRUPT}:
            os.write(self._fuse, struct.pack("<IiQ", 16, -2 if asked == _LOOKUP else -38, number))

    def _answer(self, asked: int, node: int, body: bytes) -> bytes | None:
        seconds = self._remembered_seconds
        if asked == _INIT:
            return struct.pack("<IIIIHHIIHHIIII", 7, 31, 131072, 0, 12, 10, 131072, 1, 0, 0, 0, 0, 0, 0)
        if asked == _LOOKUP and body.rstrip(b"\0") == PROGRAM.encode():
            return struct.pack("<QQQQII", _FILE, 0, seconds, seconds, 0, 0) + self._attributes(_FILE)
        if asked == _GETATTR:
            return struct.pack("<QII", seconds, 0, 0) + self._attributes(node)
        if asked == _OPEN:
            return struct.pack("<QII", 1, 0, 0)
        if asked == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self._bytes[offset : offset + size]
        return b"" if asked in {_RELEASE, _FLUSH} else bytes(80) if asked == _STATFS else None

    def _attributes(self, node: int) -> bytes:
        mode, size = (stat.S_IFREG | 0o755, len(self._bytes)) if node == _FILE else (stat.S_IFDIR | 0o755, 0)
        return struct.pack("<6Q10I", node, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


if __name__ == "__main__":
    _Server(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])).run()
