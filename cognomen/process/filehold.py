"""Hold an open file exclusively, against everybody else who tries to hold it."""

import fcntl
import os
import struct

__all__ = ["hold"]

_LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 2**62, 1, 0)
"""A lock on one byte beyond everything that a database reads, writes or locks.

The lock belongs to the open file description (OFD), not to the process: closing another descriptor of the file does not drop it, as it
would drop process locks, which databases use. And it never conflicts with those, not even on NFS, where flock(2) locks the whole file.
"""


def hold(descriptor: int) -> bool:
    """Hold a file exclusively until the descriptor is closed; False if somebody else holds it.

    Raises:
        OSError: the system refuses.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: fcntl(2) allows either
        return False
    return True
