"""The standard streams of our processes: all three are open, and one that takes nothing ends no process by surprise.

Python leaves three traps. Where a stream is closed at the start, the next file that is opened gets its number, and what is printed goes
there. What a full disk did not take stays in a buffer, and fails again when the process ends: exit code 120. And a terminal that was
stopped (Ctrl-S) blocks its writer in a way that no signal ends.
"""

import errno
import io
import os
import select
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["LostOutputError", "own_streams", "standard_error"]

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_LOG_PATIENCE_SECONDS = 0.2  # an event loop waits meanwhile
_AGAIN_SECONDS = 0.01


class LostOutputError(Exception):
    """Standard output did not take what a command printed.

    It is no OSError: click and rich have ideas of their own about those.

    Args:
        error: why.
    """

    def __init__(self, error: OSError) -> None:
        reason = "it is closed" if error.errno == errno.EBADF else (error.strerror or str(error)).lower()
        super().__init__(f"standard output: {reason}")
        self.is_hangup = error.errno == errno.EPIPE


class _Output(io.FileIO):
    """What is below sys.stdout and sys.stderr.

    Args:
        patience_seconds: how long it waits for a reader that takes nothing; what comes after that is lost until it reads again.
            None: without end.
        raises: the first failure is raised as LostOutputError; otherwise no failure is.
    """

    def __init__(self, number: int, *, patience_seconds: float | None, raises: bool) -> None:
        super().__init__(_without_blocking(number), "w", closefd=False)
        self._poll = select.poll()
        self._poll.register(self.fileno(), select.POLLOUT)
        self._patience = None if patience_seconds is None else patience_seconds * 1000
        self._patience_left = self._patience
        self._raises = raises
        self._is_lost = False

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write the beginning of it, and return how many bytes are done with: written, or lost."""
        written = None
        if not self._is_lost:
            try:
                written = self._write_some(memoryview(data)[: select.PIPE_BUF])
            except OSError as e:
                if self._raises:
                    self._is_lost = True
                    raise LostOutputError(e) from e
        return memoryview(data).nbytes if written is None else written

    def _write_some(self, some: memoryview) -> int | None:
        """Write without blocking; None when patience has run out, which then begins anew with the next byte that is taken."""
        while self._poll.poll(self._patience_left):  # a pipe that is ready takes PIPE_BUF bytes
            if (written := super().write(some)) is not None:
                self._patience_left = self._patience
                return written
            time.sleep(_AGAIN_SECONDS)  # a terminal may have room, and not enough
            if self._patience is not None:
                break
        self._patience_left = 0
        return None


def own_streams(*, patience_seconds: float | None = None) -> None:
    """Open what is closed, and replace sys.stdin, sys.stdout and sys.stderr; call it once, first of all.

    A closed standard input is empty, a closed standard output fails at the first write, a closed standard error takes everything.

    Args:
        patience_seconds: how long standard output may take nothing before what is printed is lost; None: without end.
    """
    _open(_STDIN, os.O_RDONLY)
    _open(_STDOUT, os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(_STDIN, closefd=False)  # noqa: SIM115 - it is open for as long as the process
    sys.stdout = _text(_Output(_STDOUT, patience_seconds=patience_seconds, raises=True), like=sys.stdout)
    sys.stderr = standard_error()


def standard_error() -> TextIO:
    """Standard error that loses what it cannot write, and raises nothing."""
    _open(_STDERR, os.O_WRONLY)
    return _text(_Output(_STDERR, patience_seconds=_LOG_PATIENCE_SECONDS, raises=False), like=sys.stderr)


def _open(number: int, flags: int) -> None:
    """Take the number of a closed stream, so that no other file gets it."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, flags)
        os.dup2(null, number)
        os.set_inheritable(number, True)
        if null != number:
            os.close(null)


def _without_blocking(number: int) -> int:
    """Open a terminal once more, so that writes to it never block, for us alone; any other stream is used as it is."""
    if os.isatty(number):
        with suppress(OSError):
            return os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    return number


def _text(raw: _Output, *, like: TextIO | None) -> TextIO:
    """A text stream in the encoding that Python chose; where that does not know a letter, its number is written."""
    encoding = "utf-8" if like is None else like.encoding
    is_utf = encoding.lower().startswith("utf")
    errors = like.errors if like is not None and is_utf else "backslashreplace"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=raw.isatty())
