"""Walk a path that a caller has chosen, without asking a file system that must not be asked.

Source: openat2(2), path_resolution(7).
"""

import ctypes
import os
import struct
from collections.abc import Callable

__all__ = ["open_remembered", "walk"]

_OPENAT2 = 437  # the same on every architecture that Python runs on but alpha
_AT_FDCWD = -100
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_CACHED = 0x20  # since Linux 5.12
_HOW = struct.pack("@3Q", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_CACHED)
_syscall = ctypes.CDLL(None).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long


def open_remembered(path: str) -> int | None:
    """Open what is at a path if the kernel remembers the whole path and need not ask a file system; links are not followed.

    Shape: a descriptor with O_PATH; the caller closes it.
    """
    descriptor: int = _syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), _HOW, len(_HOW))
    return descriptor if descriptor >= 0 else None


def walk(path: str, may_ask: Callable[[int], bool]) -> int:
    """Open what is at a path, step by step if the kernel does not remember the path; links are not followed.

    Shape: a descriptor with O_PATH; the caller closes it.

    Args:
        may_ask: whether the file system of this directory may be asked for a name.

    Raises:
        OSError: we find nothing there, or the path leads through a file system that must not be asked.
    """
    if (found := open_remembered(path)) is not None:
        return found
    here = os.open("/", os.O_PATH | os.O_CLOEXEC)
    for name in path.split("/")[1:]:
        above = here
        try:
            if not may_ask(above):
                raise PermissionError(f"{path} leads through a file system that must not be asked")
            here = os.open(name, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
    return here
