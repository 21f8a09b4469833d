"""The executable of a process: where it lies, and the digest of its bytes.

Decided here: which executables are believed to lie where, and which are never read. Both are read through one descriptor, so that they
speak of one file even if the process runs another one meanwhile.
"""

import asyncio
import ctypes
import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import structlog

from cognomen.daemon.caller import Caller

__all__ = ["MAX_BYTES", "Executables"]

log = structlog.get_logger(__name__)

MAX_BYTES = 512 << 20
"""No digest of a larger executable is taken, unless told otherwise."""

_REMEMBERED = 1024
_READ_BYTES = 1 << 20
_FUSE_MAGIC = 0x65735546  # statfs(2)
_STATFS_BYTES = 256  # more than struct statfs anywhere; it begins with the type


class _Version(NamedTuple):
    """What a file has in common with itself as long as nobody writes to it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Executables:
    """Looks at the executables of callers, and remembers their digests while the files stay as they are."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._digests: OrderedDict[_Version, str] = OrderedDict()
        self._reading: dict[int, asyncio.Future[str | None]] = {}
        self._said: set[str] = set()

    async def look(self, caller: Caller, *, path: bool, digest: bool) -> Sequence[tuple[str, str]]:
        """See what can be seen of a caller's executable.

        Shape: ("path", "/usr/bin/db"), ("sha256", 64 hexadecimal digits); what cannot be seen, or is not asked for, is left out.
        """
        facts: list[tuple[str, str]] = []
        try:
            # O_PATH asks nothing of the file's own file system, which may be another user's program (FUSE).
            pinned = os.open(f"/proc/{caller.pid}/exe", os.O_PATH | os.O_CLOEXEC)
            try:
                version = _Version.of(os.fstat(pinned))
                if path and (place := _place(pinned, version)) is not None:
                    facts.append(("path", place))
                if digest and (text := await self._digest(caller, pinned, version)) is not None:
                    facts.append(("sha256", text))
            finally:
                os.close(pinned)
        except PermissionError:
            self._say_once(
                caller, "executable not readable", "unix:path and unix:sha256 of other uids need CAP_SYS_PTRACE"
            )
        except OSError:
            log.debug("executable not seen", pid=caller.pid, uid=caller.uid, exc_info=True)
        return facts

    async def _digest(self, caller: Caller, pinned: int, version: _Version) -> str | None:
        # One file at a time for each uid, also when the callers have gone: nobody takes all the threads.
        while (known := self._known(version)) is None and caller.uid in self._reading:
            await asyncio.wait([self._reading[caller.uid]])
        if known is not None:
            return known
        if version.size > self._max_bytes:
            self._say_once(caller, "executable too large for a digest", f"unix:sha256 ends at {self._max_bytes} bytes")
            return None
        # The thread has a descriptor of its own, and is shielded so that it closes it: it goes on when we are cancelled.
        reading = asyncio.get_running_loop().run_in_executor(None, _read_digest, os.dup(pinned), version)
        self._reading[caller.uid] = reading
        reading.add_done_callback(partial(self._take, caller.uid, version))
        return await asyncio.shield(reading)

    def _take(self, uid: int, version: _Version, reading: asyncio.Future[str | None]) -> None:
        del self._reading[uid]
        if (digest := reading.result()) is None:
            return
        self._digests[version] = digest
        if len(self._digests) > _REMEMBERED:
            self._digests.popitem(last=False)

    def _known(self, version: _Version) -> str | None:
        if version in self._digests:
            self._digests.move_to_end(version)
        return self._digests.get(version)

    def _say_once(self, caller: Caller, event: str, hint: str) -> None:
        if event not in self._said:
            self._said.add(event)
            log.warning(event, pid=caller.pid, uid=caller.uid, hint=f"{hint}; said only once")


def _place(pinned: int, version: _Version) -> str | None:
    """The file's path, if it is the same file under that path for us: not in another mount namespace, not deleted, not replaced."""
    path = os.readlink(f"/proc/self/fd/{pinned}")  # noqa: PTH115 - asked at each call and push: a Path costs more than the link
    try:
        found = os.stat(path)  # noqa: PTH116 - as above
    except (OSError, ValueError):
        return None
    return path if (found.st_dev, found.st_ino) == (version.device, version.inode) else None


def _read_digest(pinned: int, version: _Version) -> str | None:
    """Read the file of a descriptor, which is closed, to its digest; None: on FUSE, not readable, or written to meanwhile."""
    try:
        if _is_on_fuse(pinned):
            return None
        digest = hashlib.sha256()
        with Path(f"/proc/self/fd/{pinned}").open("rb", buffering=0) as file:
            left = version.size
            while left and (block := file.read(min(left, _READ_BYTES))):
                digest.update(block)
                left -= len(block)
            return digest.hexdigest() if _Version.of(os.fstat(file.fileno())) == version else None
    except OSError:
        return None
    finally:
        os.close(pinned)


def _is_on_fuse(descriptor: int) -> bool:
    """Whether a file system that is somebody's program would serve the bytes: it could serve others the next time, or none ever."""
    found = ctypes.create_string_buffer(_STATFS_BYTES)
    if ctypes.CDLL(None, use_errno=True).fstatfs(descriptor, found) != 0:
        raise OSError(ctypes.get_errno(), "fstatfs")
    return ctypes.c_uint32.from_buffer(found).value == _FUSE_MAGIC
