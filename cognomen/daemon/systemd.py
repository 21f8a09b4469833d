"""What a daemon tells systemd (ready, stopping, alive), and the sockets that systemd holds for it.

Without systemd's variables nothing happens. We remove them from the environment, so that no child takes them for its own. grpcio accepts no
listening socket, so systemd can hold only Unix sockets (cognomen/gate/gate.listen); TCP doors are bound at each start.

Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)
"""

import asyncio
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

import structlog

from cognomen.protocol.errors import Kind, Refused
from svid.clock import Clock

__all__ = ["Systemd"]

log = structlog.get_logger(__name__)

_FIRST_DESCRIPTOR = 3
_MOST_SOCKETS = 16
_PINGS = 3  # within the time after which systemd restarts a silent daemon


@dataclass(frozen=True, slots=True, kw_only=True)
class Systemd:
    """The service manager of this process, if it has one.

    Args:
        notify_socket: where to send notifications; empty: nowhere.
        watchdog: how long a daemon may be silent; None: for ever.
        sockets: listening Unix sockets by path; the gate that serves one takes it.
    """

    notify_socket: str = ""
    watchdog: timedelta | None = None
    sockets: dict[str, socket.socket] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Self:
        """Read systemd's variables, and remove them from the environment.

        Raises:
            Refused: INVALID for variables or descriptors that systemd would not hand over.
        """
        notify_socket = environment.pop("NOTIFY_SOCKET", "")
        if notify_socket and notify_socket[0] not in "/@":
            raise Refused(Kind.INVALID, f"NOTIFY_SOCKET: expected a path or @name, found {notify_socket!r}")
        pid, interval = environment.pop("WATCHDOG_PID", ""), environment.pop("WATCHDOG_USEC", "")
        microseconds = _number("WATCHDOG_USEC", interval) if interval and pid in {"", str(os.getpid())} else 0
        return cls(
            notify_socket=notify_socket,
            watchdog=timedelta(microseconds=microseconds) if microseconds else None,
            sockets=_sockets(environment),
        )

    def ready(self) -> None:
        """Notify systemd that the doors are open."""
        self._say("READY=1")

    def stopping(self) -> None:
        """Notify systemd that the doors are closing."""
        self._say("STOPPING=1")

    def status(self, text: str) -> None:
        """Send one line about the state, for `systemctl status`."""
        self._say(f"STATUS={text}")

    async def run_watchdog(self, clock: Clock) -> None:
        """Tell the watchdog that the event loop still runs, until cancelled.

        Only that: a single stuck task is restarted by the supervisor, without losing what the other tasks hold.
        """
        if self.watchdog is None:
            await asyncio.Event().wait()  # systemd does not ask
            return
        while True:
            self._say("WATCHDOG=1")
            await clock.sleep(self.watchdog.total_seconds() / _PINGS)

    def take(self, path: Path) -> socket.socket | None:
        """The socket that systemd handed over for that path, whatever links lead to it; None if there is none."""
        name = next((one for one in self.sockets if os.path.realpath(one) == os.path.realpath(path)), None)
        return None if name is None else self.sockets.pop(name)

    def check_taken(self) -> None:
        """Refuse (INVALID) to run with a socket that nothing serves: clients that connect to it would wait for ever."""
        for path in self.sockets:
            raise Refused(
                Kind.INVALID,
                f"socket {path}: handed over by systemd, but not named in the configuration",
                hint="put the same path into ListenStream of the .socket unit and into the configuration",
            )

    def _say(self, text: str) -> None:
        if not self.notify_socket:
            return
        name = self.notify_socket
        address = f"\0{name[1:]}" if name.startswith("@") else name
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), address)
        except OSError as e:  # if systemd does not listen, we keep running
            log.warning("systemd not told", what=text, reason=e.strerror)


def _sockets(environment: MutableMapping[str, str]) -> dict[str, socket.socket]:
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count or pid != str(os.getpid()):
        return {}
    many = _number("LISTEN_FDS", count)
    if many > _MOST_SOCKETS:
        raise Refused(Kind.INVALID, f"LISTEN_FDS: expected at most {_MOST_SOCKETS}, found {many}")
    held = [_socket(descriptor) for descriptor in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + many)]
    return {str(sock.getsockname()): sock for sock in held}


def _socket(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as e:
        raise Refused(Kind.INVALID, f"LISTEN_FDS: expected a socket as descriptor {descriptor}, found none") from e
    if sock.family is not socket.AF_UNIX or sock.type is not socket.SOCK_STREAM or not listens:
        raise Refused(Kind.INVALID, f"LISTEN_FDS: expected a listening Unix stream socket as descriptor {descriptor}")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):  # noqa: PLR2004 - fits 64 bits
        raise Refused(Kind.INVALID, f"{name}: expected a whole number, found {text[:40]!r}")
    return int(text)
