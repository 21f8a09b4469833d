"""Watches whether clients that connect to the path of a Unix socket of ours reach us, because a server does not notice when they do not.

Decided here: what is ours, and when to bind it again. If nobody serves the path any more, we do; if another process serves it, we say which
one and do not fight. A link in its place is not followed, and permissions that somebody changed stay: both are reported. How a socket is
bound: cognomen/gate/listening.
"""

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog

from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.protocol.errors import Refused
from svid.clock import Clock

__all__ = ["SocketWatch", "WatchedSocket"]

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_CREDENTIALS = struct.Struct("iII")
_NOBODY = frozenset({errno.ECONNREFUSED, errno.ENOENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedSocket:
    """A socket that we serve.

    Args:
        what: its name, such as `workload socket`.
        path: where clients look for it.
        listener: what is bound there now.
        bind: binds it again, has it served in place of `listener`, and returns it; raises Refused if that fails. None: systemd bound it.
        unit: systemd's unit for it.
    """

    what: str
    path: Path
    listener: socket.socket
    bind: Callable[[], socket.socket] | None
    unit: str


class _File(NamedTuple):
    """Which file is at a path itself, what kind, and whom its permissions admit."""

    device: int
    inode: int
    mode: int

    @property
    def permissions(self) -> int:
        return stat.S_IMODE(self.mode)

    def is_same(self, other: "_File | None") -> bool:
        return other is not None and (self.device, self.inode) == (other.device, other.inode)


class _Server(NamedTuple):
    """Who listens at a socket, as the kernel reports it."""

    pid: int
    uid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wrong:
    """Why clients do not reach us.

    Args:
        is_free: nobody serves the path, so that it can be bound.
    """

    reason: str
    hint: str
    is_free: bool = False


class SocketWatch:
    """Connects to the path every second, as a client does, and reports a trouble until that reaches us."""

    def __init__(self, watched: WatchedSocket, *, clock: Clock, troubles: Troubles) -> None:
        self.pulse = Pulse()
        self._watched = watched
        self._clock = clock
        self._troubles = troubles
        self._ours = _server(watched.listener)
        self._file = _file(watched.path)
        self._permissions = 0 if self._file is None else self._file.permissions
        """As the socket was bound: what is added later counts for nothing."""
        self._wrong: _Wrong | None = None

    def missing(self) -> Sequence[str]:
        """What keeps clients from reaching us, and what to do about it, in words; empty if nothing does."""
        return [] if self._wrong is None else [f"{self._watched.what}: {self._wrong.reason}: {self._wrong.hint}"]

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.pulse.work()
            self._tell(self._look())
            self.pulse.rest()
            await self._clock.sleep(_LOOK_SECONDS)

    def _look(self) -> _Wrong | None:
        """Find what is wrong, and mend it if we can."""
        wrong = self._judge()
        if wrong is None or not wrong.is_free or self._watched.bind is None:
            return wrong
        try:
            listener = self._watched.bind()
        except Refused as refused:
            hint = refused.hint or "once that is mended, it is bound again automatically"
            return _Wrong(reason=f"{wrong.reason}; it cannot be bound again: {refused.detail}", hint=hint)
        self._ours, self._file = _server(listener), _file(self._watched.path)
        log.warning("socket bound again", socket=str(self._watched.path), reason=wrong.reason)
        return None

    def _judge(self) -> _Wrong | None:
        found = _file(self._watched.path)
        if found is None:
            return self._free(f"{self._watched.path} was removed")
        return self._judge_file(found) or self._judge_server(found)

    def _judge_file(self, found: _File) -> _Wrong | None:
        path = self._watched.path
        if stat.S_ISLNK(found.mode):
            return _Wrong(reason=f"{path} was replaced by a link", hint=self._once("remove that link"))
        if not stat.S_ISSOCK(found.mode):
            return _Wrong(reason=f"{path} was replaced by another file", hint=self._once("remove that file"))
        if found.is_same(self._file) and self._permissions & ~found.permissions:
            expected = f"{self._permissions:04o}"
            reason = f"{path} admits fewer users than before: expected mode {expected}, found {found.permissions:04o}"
            return _Wrong(reason=reason, hint=f"to admit them again: chmod {expected} {path}")
        return None

    def _judge_server(self, found: _File) -> _Wrong | None:
        path = self._watched.path
        failed, server = _connect(path)
        if failed in _NOBODY:
            return self._free(f"nobody serves {path} any more")
        if failed:
            return _Wrong(reason=f"{path}: {os.strerror(failed).lower()}", hint=self._once("mend that"))
        if not self._is_ours(found, server):
            who = "another process" if server is None else f"pid {server.pid} of uid {server.uid}"
            return _Wrong(reason=f"{path} was taken by {who}", hint=self._once("end that process"))
        self._file = found
        return None

    def _is_ours(self, found: _File, server: _Server | None) -> bool:
        """Whether this is our socket; what systemd binds always has the same server, so there the file decides as well."""
        if server is None or self._watched.bind is None:
            return found.is_same(self._file) and server in {None, self._ours}
        return server == self._ours

    def _free(self, reason: str) -> _Wrong:
        return _Wrong(reason=reason, hint=self._once(""), is_free=True)

    def _once(self, act: str) -> str:
        """What to do: this first, then what brings the socket back."""
        if self._watched.bind is not None:
            return f"{act}; then it is bound again automatically" if act else "it is bound again automatically"
        restart = f"restart the unit that holds it: systemctl restart {self._watched.unit}"
        return f"{act}, then {restart}" if act else restart

    def _tell(self, wrong: _Wrong | None) -> None:
        watched, before = self._watched, self._wrong
        self._wrong = wrong
        if wrong is not None:
            self._troubles.note(watched.what, f"{wrong.reason}, so clients do not reach this daemon", hint=wrong.hint)
            if before is None or before.reason != wrong.reason:
                log.error(
                    "clients do not reach our socket", socket=str(watched.path), reason=wrong.reason, hint=wrong.hint
                )
        elif before is not None:
            self._troubles.over(watched.what)
            log.info("clients reach our socket again", socket=str(watched.path))


def _file(path: Path) -> _File | None:
    """Which file is there; None if there is none that we can see."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return _File(found.st_dev, found.st_ino, found.st_mode)


def _connect(path: Path) -> tuple[int, _Server | None]:
    """Connect and leave; returns why that failed, or 0, and who listens. It is not known if more wait there than the kernel lets wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        failed = probe.connect_ex(os.fspath(path))
        return (0, None) if failed == errno.EAGAIN else (failed, None if failed else _server(probe))


def _server(sock: socket.socket) -> _Server:
    """Who called listen() on this socket, or on the one that it is connected to."""
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return _Server(pid, uid)
