"""This process's memory holds keys: no core dump shows it, and no other process of the same uid reads it.

For a whole process, so whoever owns the process calls it: the command, before it runs a daemon.
"""

import ctypes
import os
import resource

import structlog

__all__ = ["keep_memory_private"]

log = structlog.get_logger(__name__)

_PR_SET_DUMPABLE = 4  # prctl(2)


def keep_memory_private() -> None:
    """Forbid core dumps and make the process not dumpable, which a process it starts by exec does not inherit.

    Reading /proc/self still works; other processes of the uid can read neither memory nor /proc/PID/exe of this one.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("memory not made private", reason=os.strerror(ctypes.get_errno()))
