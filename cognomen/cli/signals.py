"""Which signals end a command, and the duties of the first process of a container.

How daemons end is decided in cognomen/daemon/supervisor.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = [
    "ctrl_c_ends_at_once",
    "heed_ctrl_c",
    "heed_signals",
    "heed_signals_as_first_process",
    "reap_orphans",
    "signals_kept",
]

_FIRST = 1


@contextmanager
def ctrl_c_ends_at_once() -> Iterator[None]:
    """While the block imports, Ctrl-C ends the process without a traceback; an exception could be lost in the import system.

    If SIGINT is ignored, as in a shell's background, it stays ignored.
    """
    is_heeded = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not is_heeded:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def heed_ctrl_c() -> None:
    """Let Ctrl-C also end a waiting command in a shell's background, where SIGINT is ignored by default."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def heed_signals() -> None:
    """Let Ctrl-C and SIGTERM end a waiting command in an orderly way, with the exit code that a shell gives for that signal."""
    heed_ctrl_c()
    signal.signal(signal.SIGTERM, _end)


@contextmanager
def signals_kept(*, even_default: bool = False) -> Iterator[list[int]]:
    """Within the block, the signals that end a command are only kept; after it, the last of them has its usual effect.

    Elsewhere a signal raises between any two steps of the main thread, also where a library holds a lock, which then stays locked.

    Args:
        even_default: whether those are kept as well that end the process by the kernel's default, because something has to be ended first.

    Returns:
        the signals that have come.
    """
    kept: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # no signal raises there
        yield kept
        return
    usual = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    }
    changed = [
        number for number, handler in usual.items() if callable(handler) or (even_default and handler is signal.SIG_DFL)
    ]
    try:
        for number in changed:
            signal.signal(number, lambda number, _: kept.append(number))
        yield kept
    finally:
        for number in changed:
            signal.signal(number, usual[number])
        if kept:
            signal.raise_signal(kept[-1])


def heed_signals_as_first_process() -> None:
    """Let the usual signals end the first process of a container, for which the kernel has no default action."""
    if os.getpid() == _FIRST:
        heed_ctrl_c()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, _end)


def reap_orphans() -> None:
    """Reap processes whose parent ended before them: they became children of the first process, and nobody else waits for them."""
    if os.getpid() == _FIRST:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            pass


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
