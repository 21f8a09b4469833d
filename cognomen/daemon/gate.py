"""The gate in front of a Unix socket: who connects, and how much they may ask, before anything they say is believed.

Decided here: where a socket may be bound, whose connection is let in and how many, that one connection's fault ends no other.
Not decided here: what identifies a caller (`caller`), what bytes cost (`meter`), when they are passed on (`connection`).
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import structlog

from cognomen.daemon.caller import Caller, peer
from cognomen.daemon.connection import Account, GatedConnection, Guest, Turns
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.meter import Bucket, Limits, goaway

__all__ = ["Gate", "Identify", "Limits", "listen"]

log = structlog.get_logger(__name__)

_BACKLOG = 1024
_READ_BYTES = 32 * 1024
_ACCEPTS_PER_ROUND = 8
_CONNECTION_COST = 50  # in units of Limits: what admitting one takes the loop from
_REST_SECONDS = 0.1
_ACCOUNTS = 1024  # more uids than that, and those without connections are forgotten
_ENHANCE_YOUR_CALM = 0xB
_SO_PASSRIGHTS = 83  # since Linux 6.16; the socket module does not name it


class Identify(Protocol):
    """What `peer` does."""

    def __call__(self, sock: socket.socket, *, accepted_at: float) -> Caller:
        """Say who is on the other side, or refuse."""


def listen(path: Path, mode: int, *, held: socket.socket | None = None) -> socket.socket:
    """Bind a Unix socket and listen on it; a dead one at the path is replaced, a live one is not.

    The path stays behind when the socket is closed: clients look for it.

    Args:
        held: one that listens at the path already, to be used in place of a new one if it lets in nobody whom the mode does not.

    Raises:
        Refused: INVALID when others could replace the socket or something else is there, EXISTS when somebody serves it.
    """
    _check_directory(path.parent.resolve())
    if held is not None:
        _check_held(path, mode)
        _take_no_descriptors(held)
        return held
    with _locked(path):
        _remove_dead(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.ExitStack() as unless_bound:
            unless_bound.callback(sock.close)
            _take_no_descriptors(sock)
            try:
                sock.bind(os.fspath(path))
                path.chmod(mode)  # before listen(): nobody connects earlier
            except OSError as err:
                raise Refused(
                    Kind.INVALID, f"socket path: expected one that can be bound, found {path} ({err})"
                ) from err
            sock.listen(_BACKLOG)
            sock.setblocking(False)
            unless_bound.pop_all()
    return sock


def _take_no_descriptors(listener: socket.socket) -> None:
    """Have the kernel refuse descriptors that a peer sends along; accepted sockets inherit that.

    Who reads closes what it does not take, and may wait in that for as long as the sender likes: a TCP socket with SO_LINGER, for one.
    """
    with contextlib.suppress(OSError):  # an older kernel, where nothing can be done: SECURITY.md
        listener.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let only one of our processes at a time look for and replace that socket; by a file that nobody else can open, and so hold."""
    try:
        opened = os.open(
            path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
    except OSError as err:
        raise Refused(
            Kind.INVALID, f"socket path: expected one that can be bound, found {path} ({err.strerror})"
        ) from err
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _check_held(path: Path, mode: int) -> None:
    """Refuse a socket that whoever handed it over opened to more than the door is meant for."""
    try:
        found = path.lstat()
    except OSError as err:
        raise Refused(
            Kind.INVALID, f"socket path: expected the socket handed over for it, found {path} ({err.strerror})"
        ) from err
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in {0, os.geteuid()}:
        raise Refused(
            Kind.INVALID,
            f"socket path: expected a socket of root or uid {os.geteuid()}, {path} is another file or of uid {found.st_uid}",
        )
    if stat.S_IMODE(found.st_mode) & ~mode:
        raise Refused(
            Kind.INVALID,
            f"socket path: expected mode {mode:04o} at most, {path} has {stat.S_IMODE(found.st_mode):04o}",
            hint=f"say SocketMode={mode:04o} in the .socket unit",
        )


def _check_directory(directory: Path) -> None:
    try:
        found = directory.stat()
    except OSError as err:
        raise Refused(
            Kind.INVALID, f"socket directory: expected one we can open, found {directory} ({err.strerror})"
        ) from err
    if found.st_uid not in {0, os.geteuid()}:
        raise Refused(
            Kind.INVALID,
            f"socket directory: expected one of root or uid {os.geteuid()}, {directory} is of uid {found.st_uid}",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused(
            Kind.INVALID,
            f"socket directory: expected one that only its owner writes, {directory} has mode {stat.S_IMODE(found.st_mode):04o}",
            hint=f"chmod go-w {directory}",
        )
    for above in directory.parents:
        found = above.stat()
        owner, mode = found.st_uid, found.st_mode
        if owner not in {0, os.geteuid()}:  # who could put another directory in the place of this one
            raise Refused(
                Kind.INVALID,
                f"socket directory: expected only those of root or uid {os.geteuid()} above it, {above} is of uid {owner}",
                hint="name a path that leads through no other user's directory",
            )
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise Refused(
                Kind.INVALID,
                f"socket directory: expected none that others write above it, {above} has mode {stat.S_IMODE(mode):04o}",
                hint=f"chmod o-w {above}",
            )


def _remove_dead(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Refused(Kind.INVALID, f"socket path: expected nothing or a socket, {path} is another kind of file")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(os.fspath(path)) != errno.ECONNREFUSED:
            raise Refused(
                Kind.EXISTS, f"socket path: expected no server, {path} has one", hint="is the daemon running already?"
            )
    path.unlink()


class Gate:
    """Accepts on a listening Unix socket, and hands whole HTTP/2 frames of identified callers to a guest made for each connection.

    Args:
        listener: its owner closes it, after `run`.
        welcome: makes the protocol behind the gate for one caller.
    """

    def __init__(
        self, listener: socket.socket, limits: Limits, welcome: Callable[[Caller], Guest], *, identify: Identify = peer
    ) -> None:
        self._listener = listener
        self._limits = limits
        self._welcome = welcome
        self._identify = identify
        self._accounts: dict[int, Account] = {}
        self._read_buffer = memoryview(bytearray(_READ_BYTES))
        self._accepting: asyncio.Task[None] | None = None
        self._connections: dict[GatedConnection, Account] = {}  # the oldest first
        self._told_at = 0.0

    async def run(self) -> None:
        """Serve until cancelled, or until `stop_accepting` and the last connection's end."""
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(self._loop)
        async with asyncio.TaskGroup() as connections:
            self._accepting = connections.create_task(self._accept(connections))

    def stop_accepting(self) -> None:
        """Let nobody in any more; the connections stay."""
        if self._accepting is not None:
            self._accepting.cancel()

    def end_connections(self, detail: str) -> None:
        """Close every connection with that reason."""
        for connection in self._connections:
            connection.end(detail, 0)

    async def _accept(self, connections: asyncio.TaskGroup) -> None:
        self._listener.setblocking(False)
        accepted = 0
        while True:
            try:
                sock, _ = await self._loop.sock_accept(self._listener)
            except OSError as err:  # no more descriptors, most likely: rest until some come back
                log.warning("accept failed", reason=err.strerror, connections=len(self._connections))
                await asyncio.sleep(_REST_SECONDS)
                continue
            connections.create_task(self._survive(sock))
            accepted += 1
            if accepted % _ACCEPTS_PER_ROUND == 0:
                await asyncio.sleep(0)  # sock_accept does not let the loop go on while more are there

    async def _survive(self, sock: socket.socket) -> None:
        """Attend to one connection; whatever goes wrong there stays there."""
        try:
            await self._attend(sock)
        except Exception:
            log.exception("connection failed")

    async def _attend(self, sock: socket.socket) -> None:
        with contextlib.ExitStack() as leaving:
            leaving.callback(sock.close)
            try:
                caller = self._identify(sock, accepted_at=time.clock_gettime(time.CLOCK_BOOTTIME))
                leaving.callback(caller.process.close)
                account = self._enter(caller)
                leaving.callback(self._leave, account)
                guest = self._welcome(caller)
            except Refused as refused:
                self._turn_away(sock, refused)
                return
            connection = GatedConnection(guest, account, self._limits, self._turns, self._read_buffer)
            try:
                await self._host(sock, caller.process.fileno(), connection, account)
            finally:
                await guest.wait_closed()  # before the pidfd is closed: its number is reused

    async def _host(self, sock: socket.socket, death: int, connection: GatedConnection, account: Account) -> None:
        transport, _ = await self._loop.connect_accepted_socket(lambda: connection, sock)
        self._connections[connection] = account
        self._loop.add_reader(death, transport.abort)
        try:
            await connection.lost.wait()
        finally:
            self._loop.remove_reader(death)
            del self._connections[connection]
            transport.abort()

    def _enter(self, caller: Caller) -> Account:
        now = self._loop.time()
        rate = self._limits.rate * self._limits.connections_worth
        account = self._accounts.setdefault(caller.uid, Account(caller.uid, Bucket(rate=rate, burst=rate, now=now)))
        account.bucket.take(_CONNECTION_COST, now)
        if account.connections >= self._limits.connections_per_uid:
            raise Refused(
                Kind.EXHAUSTED,
                f"connections of uid {caller.uid}: expected at most {self._limits.connections_per_uid}, found one more",
            )
        if account.bucket.wait(now) > 0:
            raise Refused(
                Kind.EXHAUSTED, f"uid {caller.uid}: expected fewer connections and calls in a second, found one more"
            )
        if len(self._connections) >= self._limits.connections:
            self._make_room(account)
        account.connections += 1
        return account

    def _make_room(self, account: Account) -> None:
        """End the newest connection of the uid that has most, if that is still more than the newcomer's: no few uids keep others out."""
        most = max(self._accounts.values(), key=lambda one: one.connections)
        newest = next((one for one in reversed(self._connections) if self._connections[one] is most), None)
        if newest is None or most.connections <= account.connections + 1:
            raise Refused(Kind.EXHAUSTED, f"connections: expected at most {self._limits.connections}, found one more")
        newest.end(f"connections of uid {most.uid}: expected fewer, now that others have no room", _ENHANCE_YOUR_CALM)
        newest.abort()

    def _leave(self, account: Account) -> None:
        account.connections -= 1
        if len(self._accounts) > _ACCOUNTS:
            self._accounts = {uid: kept for uid, kept in self._accounts.items() if kept.connections}

    def _turn_away(self, sock: socket.socket, refused: Refused) -> None:
        """Say why, as HTTP/2 does, if the socket takes it at once; log one refusal a second and no more."""
        with contextlib.suppress(OSError):
            sock.send(goaway(_ENHANCE_YOUR_CALM, refused.detail, nothing_was_done=True))
        now = self._loop.time()
        if now >= self._told_at + 1:
            self._told_at = now
            log.info("connection refused", reason=refused.detail, hint=refused.hint)
