"""Which signals end a command, and the duties of the first process of a container.

How daemons end is decided in cognomen/daemon/supervisor.
"""

import os
import signal
import sys
from types import FrameType

__all__ = ["heed_ctrl_c", "heed_signals", "heed_signals_as_first_process", "reap_orphans"]

_FIRST = 1


def heed_ctrl_c() -> None:
    """Let Ctrl-C also end a waiting command in a shell's background, where SIGINT is ignored by default."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def heed_signals() -> None:
    """Let Ctrl-C and SIGTERM end a waiting command in an orderly way, with the exit code that a shell gives for that signal."""
    heed_ctrl_c()
    signal.signal(signal.SIGTERM, _end)


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
