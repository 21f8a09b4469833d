"""The executable of a process: where it lies, and the digest of its bytes.

Decided here: which executables are believed to lie where, and which are never read. Which file systems may be asked: `mounts`.

A caller chooses the file system of its executable, and one that answers nothing must keep nobody else waiting. So the event loop makes
only calls that the kernel answers without the file system, and everything else is done by the uid's thread (`threads`).
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import structlog

from attestor.workloadattestor.mounts import Mounts, mount_id
from attestor.workloadattestor.threads import StartThread, Threads
from attestor.workloadattestor.walk import open_remembered, walk
from cognomen.daemon.caller import Caller
from svid.clock import Clock

__all__ = ["MAX_BYTES", "Executables"]

log = structlog.get_logger(__name__)

MAX_BYTES = 512 << 20
"""No digest of a larger executable is taken, unless told otherwise."""

_REMEMBERED = 1024
_READ_BYTES = 1 << 20


class _Version(NamedTuple):
    """What a file has in common with itself as long as nobody writes to it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, descriptor: int) -> Self:
        found = os.fstat(descriptor)
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def is_of(self, descriptor: int) -> bool:
        """Whether an open file is the same one, whatever was written to it meanwhile."""
        found = os.fstat(descriptor)
        return (found.st_dev, found.st_ino) == (self.device, self.inode)


class _Seen(NamedTuple):
    """An executable at one moment; without a path where it does not lie for us where it lies for the process."""

    version: _Version
    path: str | None


class _Unasked(NamedTuple):
    """An executable on a file system of this kind, which is not asked."""

    kind: str


class Executables:
    """Looks at the executables of callers, and remembers their digests while the files stay as they are."""

    def __init__(self, clock: Clock, *, start: StartThread, max_bytes: int = MAX_BYTES, first_process: int = 1) -> None:
        self._max_bytes = max_bytes
        self._digests: OrderedDict[_Version, str] = OrderedDict()
        self._looking = Threads("executable", clock, start=start)
        self._reading = Threads("digest of the executable", clock, start=start)
        self._mounts = Mounts(first_process)
        self._said: set[str] = set()

    async def look(self, caller: Caller, *, path: bool, digest: bool) -> Sequence[tuple[str, str]]:
        """See what can be seen of a caller's executable.

        Shape: ("path", "/usr/bin/db"), ("sha256", 64 hexadecimal digits); what cannot be seen, or is not asked for, is left out.

        Raises:
            Refused: UNAVAILABLE, when an earlier look for that uid still waits.
        """
        facts: list[tuple[str, str]] = []
        try:
            seen = await self._see(caller)
            if isinstance(seen, _Unasked):
                hint = f"unix:path and unix:sha256 need a program on a local file system, this one is on {seen.kind}"
                self._say_once(caller, "executable on a file system that is not asked", hint)
                return facts
            if path and seen.path is not None:
                facts.append(("path", seen.path))
            if digest and (text := await self._digest(caller, seen.version)) is not None:
                facts.append(("sha256", text))
        except PermissionError:
            self._say_once(
                caller, "executable not readable", "unix:path and unix:sha256 of other uids need CAP_SYS_PTRACE"
            )
        except OSError:
            log.debug("executable not seen", pid=caller.pid, uid=caller.uid, exc_info=True)
        return facts

    async def _see(self, caller: Caller) -> _Seen | _Unasked:
        if (seen := self._look_at_once(caller.pid)) is not None:
            return seen
        return await self._looking.run(caller.uid, partial(self._look, caller.pid))

    def _look_at_once(self, pid: int) -> _Seen | None:
        """See an executable without a call that may wait; None: it takes one, or a file that lies elsewhere.

        The file is found under its path first, in what the kernel remembers. Only if it is local, and the process has one by a local
        mount, is the latter asked for its attributes.
        """
        if (theirs := self._mounts.seen_by(pid)) is None:
            return None
        path = os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 - asked at each call and push: a Path costs more than the link
        if (found := open_remembered(path)) is None:
            return None
        try:
            if not self._mounts.is_local(mount_id(found)):
                return None
            with _Executable(pid) as pinned:
                if not theirs.is_local(mount_id(pinned)):
                    return None
                version = _Version.of(pinned)
                return _Seen(version, path) if version.is_of(found) else None
        finally:
            os.close(found)

    def _look(self, pid: int) -> _Seen | _Unasked:
        """The same, in a thread."""
        with _Executable(pid) as pinned:
            if (kind := self._mounts.unasked(pinned, pid)) is not None:
                return _Unasked(kind)
            version = _Version.of(pinned)
            path = os.readlink(f"/proc/self/fd/{pinned}")  # noqa: PTH115 - as above
            try:
                found = walk(path, self._may_ask)
            except OSError:
                return _Seen(version, None)
            try:
                is_there = self._may_ask(found) and version.is_of(found)
            finally:
                os.close(found)
            return _Seen(version, path if is_there else None)

    def _may_ask(self, descriptor: int) -> bool:
        return self._mounts.unasked(descriptor, os.getpid()) is None

    async def _digest(self, caller: Caller, version: _Version) -> str | None:
        if version.size > self._max_bytes:
            self._say_once(caller, "executable too large for a digest", f"unix:sha256 ends at {self._max_bytes} bytes")
            return None
        if (known := self._known(version)) is not None:
            return known
        return await self._reading.run(
            caller.uid,
            partial(self._read, caller.pid, version),
            known=partial(self._known, version),
            keep=partial(self._keep, version),
        )

    def _read(self, pid: int, version: _Version) -> str | None:
        """Read the executable to its digest; None: another one by now, not readable, or written to meanwhile."""
        try:
            with _Executable(pid) as pinned:
                if self._mounts.unasked(pinned, pid) is not None or _Version.of(pinned) != version:
                    return None
                return _digest_of(pinned, version)
        except OSError:
            return None

    def _keep(self, version: _Version, digest: str | None) -> None:
        if digest is None:
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


class _Executable:
    """Holds the executable of a process. O_PATH asks nothing of its file system, so it may be another user's program (FUSE)."""

    __slots__ = ("_pid", "_pinned")

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> int:
        self._pinned = os.open(f"/proc/{self._pid}/exe", os.O_PATH | os.O_CLOEXEC)
        return self._pinned

    def __exit__(self, *_: object) -> None:
        os.close(self._pinned)


def _digest_of(pinned: int, version: _Version) -> str | None:
    digest = hashlib.sha256()
    with Path(f"/proc/self/fd/{pinned}").open("rb", buffering=0) as file:
        left = version.size
        while left and (block := file.read(min(left, _READ_BYTES))):
            digest.update(block)
            left -= len(block)
        return digest.hexdigest() if _Version.of(file.fileno()) == version else None
