"""The executable of a process: its path, and the digest of its bytes.

Decided here: which paths of executables are believed, and which executables are never read. Which file systems may be asked: `mounts`.

A caller chooses the file system of its executable, and one that never answers must not delay anybody else. So the event loop makes only
calls that the kernel answers without the file system; the account's thread (`threads`) does everything else.
"""

import errno
import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import structlog

from attestor.workloadattestor.mounts import Mounts, mount_id
from attestor.workloadattestor.threads import StartThread, Threads
from attestor.workloadattestor.walk import open_remembered, walk
from cognomen.gate.accounts import AccountID
from cognomen.gate.caller import Caller
from cognomen.gate.shares import Share, Shelf
from cognomen.protocol.errors import Kind, Refused
from svid.clock import Clock

__all__ = ["MAX_BYTES", "Executables"]

log = structlog.get_logger(__name__)

MAX_BYTES = 512 << 20
"""By default, no digest is taken of a larger executable."""

_REMEMBERED = 1024
_READ_BYTES = 1 << 20
_REMOVED = " (deleted)"
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class _Version(NamedTuple):
    """Attributes of a file that stay the same as long as nobody writes to it."""

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
        """Whether an open file is the same one, even if it was written to meanwhile."""
        found = os.fstat(descriptor)
        return (found.st_dev, found.st_ino) == (self.device, self.inode)


class _Seen(NamedTuple):
    """An executable at one moment; it has no path if we do not find it at the path where the process has it.

    Args:
        link: its path as the kernel reports it.
    """

    version: _Version
    path: str | None
    link: str


class _Unasked(NamedTuple):
    """An executable on a file system of a kind that we do not ask."""

    kind: str


class Executables:
    """Looks at the executables of callers, and remembers their digests while the files are unchanged."""

    def __init__(self, clock: Clock, *, start: StartThread, max_bytes: int = MAX_BYTES, first_process: int = 1) -> None:
        self._max_bytes = max_bytes
        self._digests: Shelf[_Version, str] = Shelf(Share.KNOWN_DIGESTS, _REMEMBERED)
        self._looking = Threads(Share.LOOKS, "executable", clock, start=start)
        self._reading = Threads(Share.DIGESTS, "digest of the executable", clock, start=start)
        self._mounts = Mounts(first_process)
        self._said: set[str] = set()

    async def look(self, caller: Caller, *, path: bool, digest: bool) -> Sequence[tuple[str, str]]:
        """Find the path and digest of a caller's executable, as far as possible.

        Shape: ("path", "/usr/bin/db"), ("sha256", 64 hexadecimal digits); what cannot be found, or was not requested, is left out.

        Raises:
            Refused: UNAVAILABLE when an earlier look for that account still waits, or when no descriptor is left.
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
        except OSError as err:
            if err.errno in _NO_ROOM:  # not the caller's fault, so it must not cost the caller its identity
                raise Refused(
                    Kind.UNAVAILABLE, f"executable: cannot be examined now ({err.strerror})", pid=caller.pid
                ) from err
            log.debug("executable not seen", pid=caller.pid, uid=caller.uid, exc_info=True)
        return facts

    async def unseen(self, caller: Caller, *, path: bool, digest: bool) -> Sequence[str]:
        """Say which requested facts `look` leaves out, and why.

        Raises:
            Refused: as look.
        """
        asked = " and ".join(name for name, wanted in (("unix:path", path), ("unix:sha256", digest)) if wanted)
        if not asked:
            return []
        try:
            seen = await self._see(caller)
        except OSError as err:
            return [f"{asked}: the attestor may not look at its executable ({err.strerror})"]
        if isinstance(seen, _Unasked):
            return [f"{asked}: its executable is on a file system that is not asked ({seen.kind})"]
        found = []
        if path and seen.path is None:
            found.append(f"unix:path: {_why_nowhere(seen.link)}")
        if digest and seen.version.size > self._max_bytes:
            found.append(f"unix:sha256: its executable has more than {self._max_bytes} bytes")
        return found

    async def _see(self, caller: Caller) -> _Seen | _Unasked:
        if (seen := self._look_at_once(caller.pid)) is not None:
            return seen
        return await self._looking.run(caller.account, partial(self._look, caller.pid))

    def _look_at_once(self, pid: int) -> _Seen | None:
        """Look at an executable without a call that may wait; None: such a call is needed, or the file at its path was replaced.

        The file is first found by its path, in what the kernel remembers. Only if that file is local, and the process has its executable
        by a local mount, is the executable asked for its attributes.
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
                return _Seen(version, path, path) if version.is_of(found) else None
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
                return _Seen(version, None, path)
            try:
                is_there = self._may_ask(found) and version.is_of(found)
            finally:
                os.close(found)
            return _Seen(version, path if is_there else None, path)

    def _may_ask(self, descriptor: int) -> bool:
        return self._mounts.unasked(descriptor, os.getpid()) is None

    async def _digest(self, caller: Caller, version: _Version) -> str | None:
        if version.size > self._max_bytes:
            self._say_once(caller, "executable too large for a digest", f"unix:sha256 ends at {self._max_bytes} bytes")
            return None
        if (known := self._known(version)) is not None:
            return known
        return await self._reading.run(
            caller.account,
            partial(self._read, caller.pid, version),
            known=partial(self._known, version),
            keep=partial(self._keep, caller.account, version),
        )

    def _read(self, pid: int, version: _Version) -> str | None:
        """Read the executable and take its digest; None: it was replaced, not readable, or was written to meanwhile."""
        try:
            with _Executable(pid) as pinned:
                if self._mounts.unasked(pinned, pid) is not None or _Version.of(pinned) != version:
                    return None
                return _digest_of(pinned, version)
        except OSError:
            return None

    def _keep(self, whose: AccountID, version: _Version, digest: str | None) -> None:
        if digest is not None:
            self._digests.put(whose, version, digest)

    def _known(self, version: _Version) -> str | None:
        if (found := self._digests.get(version)) is not None:
            self._digests.use(version)
        return found

    def _say_once(self, caller: Caller, event: str, hint: str) -> None:
        if event not in self._said:
            self._said.add(event)
            log.warning(event, pid=caller.pid, uid=caller.uid, hint=f"{hint}; logged only once")


class _Executable:
    """Holds the executable of a process open. O_PATH does not call its file system, which may be another user's program (FUSE)."""

    __slots__ = ("_pid", "_pinned")

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> int:
        self._pinned = os.open(f"/proc/{self._pid}/exe", os.O_PATH | os.O_CLOEXEC)
        return self._pinned

    def __exit__(self, *_: object) -> None:
        os.close(self._pinned)


def _why_nowhere(link: str) -> str:
    """Why an executable is not at the path that the kernel reports.

    Source: proc_pid_exe(5): the kernel marks a file that has no name any more.
    """
    if link.endswith(_REMOVED):
        at = link.removesuffix(_REMOVED)
        return f"{at} was replaced or removed after the process had started (an upgrade does that): restart the process"
    return f"the attestor does not find that file at {link}; it may have other mounts than the process"


def _digest_of(pinned: int, version: _Version) -> str | None:
    digest = hashlib.sha256()
    with Path(f"/proc/self/fd/{pinned}").open("rb", buffering=0) as file:
        left = version.size
        while left and (block := file.read(min(left, _READ_BYTES))):
            digest.update(block)
            left -= len(block)
        return digest.hexdigest() if _Version.of(file.fileno()) == version else None
