"""Keeps this process's memory, which holds keys, out of core dumps and away from other processes of the same uid.

This affects the whole process, so the owner of the process calls it: the command, before it runs a daemon.
"""

import ctypes
import os
import resource

import structlog

__all__ = ["keep_memory_private"]

log = structlog.get_logger(__name__)

_PR_SET_DUMPABLE = 4  # prctl(2)


def keep_memory_private() -> None:
    """Forbid core dumps, and make the process not dumpable; a process that it starts with exec does not inherit that.

    Reading /proc/self still works; other processes of the uid can read neither memory nor /proc/PID/exe of this one.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("memory not made private", reason=os.strerror(ctypes.get_errno()))
