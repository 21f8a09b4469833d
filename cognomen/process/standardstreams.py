"""The standard streams of our processes: all three are open, and one that accepts no data ends no process unexpectedly.

Python leaves three traps. If a stream is closed at the start, the next opened file gets its number, and receives what is printed. What a
full disk did not accept stays in a buffer, and fails again when the process ends, with exit code 120. And a terminal that was stopped
(Ctrl-S) blocks its writer in a way that no signal can end.
"""

import errno
import fcntl
import io
import os
import select
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["LostOutputError", "check_output", "own_streams", "standard_error"]

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_LOG_PATIENCE_SECONDS = 0.2  # the event loop waits meanwhile
_AGAIN_SECONDS = 0.01


class LostOutputError(Exception):
    """Standard output did not accept what a command printed.

    It is not an OSError, because click and rich handle those in their own ways.

    Args:
        error: the reason.
    """

    def __init__(self, error: OSError) -> None:
        reason = "it is closed" if error.errno == errno.EBADF else (error.strerror or str(error)).lower()
        super().__init__(f"standard output: {reason}")
        self.is_hangup = error.errno == errno.EPIPE


class _Output(io.FileIO):
    """The raw stream below sys.stdout and sys.stderr.

    Args:
        patience_seconds: how long to wait for a reader that accepts no data; after that, output is lost until it reads again. None: for
            ever.
        raises: raise the first failure as LostOutputError; otherwise raise none.
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
        """Write the beginning of the data; returns how many bytes are done with: written, or lost."""
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
        """Write without blocking; None when patience has run out. The next byte that is accepted restores it."""
        while self._poll.poll(self._patience_left):  # a pipe that is ready accepts PIPE_BUF bytes
            if (written := super().write(some)) is not None:
                self._patience_left = self._patience
                return written
            time.sleep(_AGAIN_SECONDS)  # a terminal may have some room, but not enough
            if self._patience is not None:
                break
        self._patience_left = 0
        return None


def own_streams(*, patience_seconds: float | None = None) -> None:
    """Open closed streams, and replace sys.stdin, sys.stdout and sys.stderr; call this once, before anything else.

    A closed standard input reads as empty, a closed standard output fails at the first write, a closed standard error discards everything.

    Args:
        patience_seconds: how long standard output may accept no data before output is lost; None: for ever.
    """
    _open(_STDIN, os.O_RDONLY)
    _open(_STDOUT, os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(_STDIN, closefd=False)  # noqa: SIM115 - it is open for as long as the process
    sys.stdout = _text(_Output(_STDOUT, patience_seconds=patience_seconds, raises=True), like=sys.stdout)
    sys.stderr = standard_error()


def check_output() -> None:
    """Check that standard output is open; a full disk shows only when something is written.

    Raises:
        LostOutputError: it is closed.
    """
    try:
        flags = fcntl.fcntl(sys.stdout.fileno(), fcntl.F_GETFL)
    except (OSError, ValueError):  # it is no file, as in a program that catches what a command prints
        return
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise LostOutputError(OSError(errno.EBADF, os.strerror(errno.EBADF)))


def standard_error() -> TextIO:
    """A standard error that drops what it cannot write, and never raises."""
    _open(_STDERR, os.O_WRONLY)
    return _text(_Output(_STDERR, patience_seconds=_LOG_PATIENCE_SECONDS, raises=False), like=sys.stderr)


def _open(number: int, flags: int) -> None:
    """Occupy the number of a closed stream, so that no other file gets it."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, flags)
        os.dup2(null, number)
        os.set_inheritable(number, True)
        if null != number:
            os.close(null)


def _without_blocking(number: int) -> int:
    """Open a terminal again, so that only our own writes to it never block; any other stream is used unchanged."""
    if os.isatty(number):
        with suppress(OSError):
            return os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    return number


def _text(raw: _Output, *, like: TextIO | None) -> TextIO:
    """A text stream in the encoding that Python chose; a character that it lacks is written as its number."""
    encoding = "utf-8" if like is None else like.encoding
    is_utf = encoding.lower().startswith("utf")
    errors = like.errors if like is not None and is_utf else "backslashreplace"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=raw.isatty())
