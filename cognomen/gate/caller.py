"""Asks the kernel who connected to one of our Unix sockets.

Decided here: which peers are refused before we read a byte from them, and what counts as the same process later.
Not decided here: what a caller may do (the doors and their flows), how many connections a uid gets (`gate`).
Nothing here uses gRPC, so that flows may import `Caller`.
"""

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

from cognomen.gate.accounts import AccountID, account_of
from cognomen.process.localids import IDMap
from cognomen.protocol.errors import Kind, Refused

__all__ = [
    "Caller",
    "Process",
    "ProcessHandle",
    "Program",
    "effective_uid",
    "login_uid",
    "peer",
    "process_of",
    "program_of",
]

# The values on Linux for every architecture that Python runs on but parisc and sparc; the socket module does not name them.
_SO_PEERGROUPS = 59
_SO_PEERPIDFD = 77
_CREDENTIALS = struct.Struct("iII")  # pid_t is signed, uid_t and gid_t are not
_LONGEST_OPTION = 1024  # Python's own limit of getsockopt
_MOST_GROUPS = (
    1024  # each call looks at each group; the kernel allows 65,536, and a user with subordinate gids can have them
)
_NO_LOGIN = 2**32 - 1
_EFFECTIVE = 1  # of the real, effective, saved and file-system one
_LONGEST_STAT = 4096
_START_TIME = 19  # field 22 of /proc/PID/stat, counted after the command's closing parenthesis


class ProcessHandle(Protocol):
    """Something that identifies one process, and can never come to mean another."""

    def is_alive(self) -> bool:
        """Whether that process is still running; False once closed."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when the process ends."""

    def close(self) -> None:
        """Release it; a second call changes nothing."""


class Process:
    """A process held by its pidfd, which keeps meaning that process even if the pid is reused.

    Args:
        pidfd: owned from now on; call `close` only when no call of the process is in flight, because its number is reused.
    """

    __slots__ = ("_pidfd",)

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    def fileno(self) -> int:
        """The pidfd, which becomes readable when the process ends; -1 once closed."""
        return self._pidfd

    def is_alive(self) -> bool:
        """Whether the process is still running; False once closed."""
        if self._pidfd < 0:
            return False
        poll = select.poll()  # not select(), which stops at descriptor 1023
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the pidfd; a second call changes nothing."""
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The process that connected; all that we know of it comes from the kernel.

    Shape: uid and gid are the effective ones at the moment of connect(2); groups are the supplementary ones.
    degraded means that the kernel has no SO_PEERPIDFD (before 6.5): we found the process by its pid, and checked its start time.
    owner is the account whose subordinate uid this is; None: the uid is its own account.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]
    process: ProcessHandle = field(repr=False, compare=False)
    degraded: bool = False
    owner: AccountID | None = field(default=None, compare=False)

    @property
    def account(self) -> AccountID:
        """The account that is charged for what it does."""
        return self.uid if self.owner is None else self.owner

    def is_alive(self) -> bool:
        """Whether the process that connected is still running; another process with its pid does not count."""
        return self.process.is_alive()


def login_uid(caller: Caller) -> int | None:
    """The uid with which a caller's user logged in, which su and sudo do not change; None: nobody did, or the kernel does not say.

    Source: proc(5), /proc/PID/loginuid
    """
    try:
        found = int(Path(f"/proc/{caller.pid}/loginuid").read_text())
    except (OSError, ValueError):
        return None
    return found if found != _NO_LOGIN and caller.is_alive() else None


class Program(NamedTuple):
    """What runs in a process.

    Args:
        started: clock ticks from boot to its start; 0: unknown.
        executable: its path as the kernel reports it, in the mounts of the process; empty: unknown.
    """

    started: int
    executable: str


def program_of(pid: int, process: ProcessHandle) -> Program:
    """Find what runs in a process, for the record and not for a decision; no call to the kernel waits for a file system.

    Source: proc_pid_stat(5), proc_pid_exe(5)
    """
    started, executable = 0, ""
    with contextlib.suppress(OSError):
        started = _started_ticks(pid)
        executable = os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 - as in effective_uid
    return Program(started, executable) if process.is_alive() else Program(0, "")


def peer(sock: socket.socket, *, accepted_at: float) -> Caller:
    """Ask the kernel who is on the other side of an accepted Unix socket.

    The caller owns the `Process` inside the result and closes it.

    Units: accepted_at is in seconds of CLOCK_BOOTTIME.

    Raises:
        Refused: DENIED when the process is outside our pid namespace, has ended, was replaced, now runs under another uid, has ids
            that are not mapped into our user namespace, or has very many groups.

    Source: unix(7), socket(7), pidfd_open(2), proc(5).
    """
    pid, uid, gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if pid <= 0:
        raise Refused(
            Kind.DENIED,
            "caller: the process is outside our pid namespace",
            hint="run the caller in the pid namespace of the daemon, or in one below it",
            uid=uid,
        )
    process, degraded = _hold(sock, pid)
    with contextlib.ExitStack() as unless_accepted:
        unless_accepted.callback(process.close)
        if degraded:
            _check_start(pid, accepted_at)
        else:
            _check_pid(process, pid)
        _check_uid(pid, uid)
        ids = _ids()
        ids.check(uid, gid, pid=pid)
        groups = ids.known(_groups(sock))
        _check_groups(groups, pid)
        owner = account_of(uid, pid)
        _check_alive(process, pid)  # after the reads, so that what we read belongs to this process
        unless_accepted.pop_all()
    return Caller(pid=pid, uid=uid, gid=gid, groups=groups, process=process, degraded=degraded, owner=owner)


def process_of(pid: int) -> Caller:
    """Hold a process that somebody names by its pid, as if it had connected; what may be shown about it is decided elsewhere.

    The caller owns the `Process` inside the result and closes it.

    Raises:
        Refused: NOT_FOUND when there is no such process, or it is hidden from us; DENIED when its ids are not mapped into our
            user namespace.

    Source: pidfd_open(2), proc(5).
    """
    try:
        process = Process(os.pidfd_open(pid))
    except (OSError, OverflowError) as err:
        raise _no_process(pid) from err
    with contextlib.ExitStack() as unless_found:
        unless_found.callback(process.close)
        try:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        except OSError as err:
            raise _no_process(pid) from err
        uid, gid = (int(status[name].split()[_EFFECTIVE]) for name in ("Uid", "Gid"))
        ids = _ids()
        ids.check(uid, gid, pid=pid)
        groups = ids.known(frozenset(map(int, status["Groups"].split())))
        if not process.is_alive():  # after the read, so that what we read belongs to this process
            raise _no_process(pid)
        unless_found.pop_all()
    return Caller(pid=pid, uid=uid, gid=gid, groups=groups, process=process)


@cache
def _ids() -> IDMap:
    return IDMap()  # our own map never changes once it is set


def _no_process(pid: int) -> Refused:
    return Refused(Kind.NOT_FOUND, f"pid: no process with pid {pid}")


def _gone(pid: int) -> Refused:
    return Refused(Kind.DENIED, "caller: the process that connected has ended", pid=pid)


def _hold(sock: socket.socket, pid: int) -> tuple[Process, bool]:
    """Get the peer's pidfd; returns also whether it could be found only by its pid."""
    try:
        return Process(struct.unpack("i", sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4))[0]), False
    except OSError as err:
        if err.errno in {errno.EINVAL, errno.ESRCH, errno.ENODATA}:  # already reaped
            raise _gone(pid) from err
        if err.errno != errno.ENOPROTOOPT:
            raise
    try:
        return Process(os.pidfd_open(pid)), True
    except ProcessLookupError as err:
        raise _gone(pid) from err


def _check_alive(process: Process, pid: int) -> None:
    if not process.is_alive():
        raise _gone(pid)


def _check_pid(process: Process, pid: int) -> None:
    """Refuse a pidfd without a process: newer kernels return one, with the pid -1, for a peer that was reaped."""
    info = os.open(f"/proc/self/fdinfo/{process.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.read(info, 1024).partition(b"\nPid:\t")[2].partition(b"\n")[0]
    finally:
        os.close(info)
    if found != str(pid).encode():
        raise _gone(pid)


def _check_start(pid: int, accepted_at: float) -> None:
    """Refuse a process that started after the connection was made: it reuses the pid."""
    try:
        started_at = _started_at(pid)
    except OSError as err:
        raise _gone(pid) from err
    if started_at > accepted_at:
        raise _gone(pid)


def _started_at(pid: int) -> float:
    """When a process started. Units: seconds of CLOCK_BOOTTIME, rounded down to a clock tick (10 ms)."""
    return _started_ticks(pid) / os.sysconf("SC_CLK_TCK")


def _started_ticks(pid: int) -> int:
    stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # for each connection: a Path costs twice as much
    try:
        return int(os.read(stat, _LONGEST_STAT).rpartition(b")")[2].split()[_START_TIME])
    finally:
        os.close(stat)


def effective_uid(pid: int) -> int:
    """Read the uid that a process runs under now: it owns the directory, even if root owns the files in it.

    Raises:
        OSError: it has ended, or is hidden from us.

    Source: proc(5)
    """
    return os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116 - called for each call and push: a Path costs five times as much


def _check_uid(pid: int, uid: int) -> None:
    """Refuse a process whose uid is not the one it connected with: it has run a set-uid program since, which its /proc now describes."""
    try:
        now = effective_uid(pid)
    except OSError as err:
        raise Refused(
            Kind.DENIED,
            "caller: cannot read its status, because it has ended or is hidden",
            hint="a /proc mounted with hidepid needs gid= with a group of the daemon",
            pid=pid,
            uid=uid,
        ) from err
    if now != uid:
        raise Refused(
            Kind.DENIED, f"caller: expected uid {uid}, with which it connected, found {now}", pid=pid, uid=uid
        )


def _groups(sock: socket.socket) -> frozenset[int]:
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LONGEST_OPTION)
    except OSError as err:
        if err.errno != errno.ERANGE:
            raise
        raw = _long_option(sock, _SO_PEERGROUPS)
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))


def _check_groups(groups: frozenset[int], pid: int) -> None:
    if len(groups) > _MOST_GROUPS:
        raise Refused(
            Kind.DENIED, f"caller: expected at most {_MOST_GROUPS} supplementary groups, found {len(groups)}", pid=pid
        )


def _long_option(sock: socket.socket, option: int) -> bytes:
    """Read a socket option longer than Python's getsockopt allows (more than 256 groups)."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_uint(0)
    with contextlib.suppress(OSError):
        _check(
            libc.getsockopt(sock.fileno(), socket.SOL_SOCKET, option, None, ctypes.byref(size))
        )  # ERANGE, which gives the size
    buffer = ctypes.create_string_buffer(size.value)
    _check(libc.getsockopt(sock.fileno(), socket.SOL_SOCKET, option, buffer, ctypes.byref(size)))
    return buffer.raw[: size.value]


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
