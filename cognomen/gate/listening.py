"""Where we may bind a Unix socket, and how.

Decided here: that nobody else can replace the socket, and that we do not remove one that is in use. Who may connect: `gate`.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from cognomen.process.ownpath import check_makeable, own_directory
from cognomen.protocol.errors import Kind, Refused

__all__ = ["check_free", "listen"]

_BACKLOG = 65_535  # the kernel caps it at net.core.somaxconn
_SO_PASSRIGHTS = 83  # since Linux 6.16; the socket module does not name it


def check_free(path: Path) -> None:
    """Check that `listen` could bind a socket there, and leave nothing behind; for callers that make other things first.

    The directory need not exist yet.

    Raises:
        Refused: as listen.
    """
    try:
        check_makeable(path.parent)
    except OSError as err:
        raise Refused(Kind.INVALID, f"socket directory: cannot open {path.parent}: {err.strerror}") from err
    _is_dead(path)


def listen(path: Path, mode: int, *, held: socket.socket | None = None, waits: bool = True) -> socket.socket:
    """Bind a Unix socket and listen on it; replaces a dead socket at the path, but not a live one.

    When the socket is closed, its path stays, because clients look for it.

    Args:
        held: a socket that already listens at the path; used instead of a new one, if it admits nobody whom the mode would not.
        waits: whether to wait while another of our processes binds it; an event loop must not.

    Raises:
        Refused: INVALID when others could replace the socket or something else is there, EXISTS when somebody serves it, UNAVAILABLE when
            another of our processes is about to bind it.
    """
    _check_directory(path.parent)
    if held is not None:
        _check_held(path, mode)
        _take_no_descriptors(held)
        return held
    with _locked(path, waits=waits):
        _remove_dead(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.ExitStack() as unless_bound:
            unless_bound.callback(sock.close)
            _take_no_descriptors(sock)
            try:
                sock.bind(os.fspath(path))
                path.chmod(mode)  # before listen(), so that nobody connects earlier
            except OSError as err:
                raise _unbindable(path, err) from err
            sock.listen(_BACKLOG)
            sock.setblocking(False)
            unless_bound.pop_all()
    return sock


def _take_no_descriptors(listener: socket.socket) -> None:
    """Have the kernel refuse descriptors that a peer sends; accepted sockets inherit that.

    A reader closes the descriptors that it does not want, and closing one can block for as long as the sender likes: for example, a TCP
    socket with SO_LINGER.
    """
    with contextlib.suppress(OSError):  # an older kernel, where we can do nothing: SECURITY.md
        listener.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


@contextlib.contextmanager
def _locked(path: Path, *, waits: bool) -> Iterator[None]:
    """Let only one of our processes at a time check and replace that socket; nobody else can open the lock file, and so hold it."""
    try:
        opened = os.open(
            path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
    except OSError as err:
        raise Refused(Kind.INVALID, f"socket path: cannot bind {path}: {err.strerror}") from err
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise Refused(Kind.UNAVAILABLE, f"socket path: another process is about to bind {path}") from err
        yield
    finally:
        os.close(opened)


def _check_held(path: Path, mode: int) -> None:
    """Refuse a socket that was handed over with more permissions than the door should have."""
    try:
        found = path.lstat()
    except OSError as err:
        raise Refused(
            Kind.INVALID, f"socket path: expected the socket that was handed over at {path}: {err.strerror}"
        ) from err
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in {0, os.geteuid()}:
        raise Refused(
            Kind.INVALID,
            f"socket path: expected a socket of root or uid {os.geteuid()}, but {path} is another file or belongs to uid {found.st_uid}",
        )
    if stat.S_IMODE(found.st_mode) & ~mode:
        raise Refused(
            Kind.INVALID,
            f"socket path: expected mode {mode:04o} at most, but {path} has {stat.S_IMODE(found.st_mode):04o}",
            hint=f"set SocketMode={mode:04o} in the .socket unit",
        )


def _check_directory(directory: Path) -> None:
    """Refuse a directory if anybody but root and us could put another socket there, or replace a directory above it."""
    try:
        with own_directory(directory):
            pass
    except OSError as err:
        raise Refused(Kind.INVALID, f"socket directory: cannot open {directory}: {err.strerror}") from err


def _unbindable(path: Path, err: OSError) -> Refused:
    return Refused(Kind.INVALID, f"socket path: cannot bind {path}: {err}")


def _remove_dead(path: Path) -> None:
    if _is_dead(path):
        path.unlink()


def _is_dead(path: Path) -> bool:
    """Whether there is a socket that nobody serves; False if there is nothing.

    Raises:
        Refused: INVALID for another kind of file, or a path that no socket can have; EXISTS when somebody serves the socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFSOCK
    except OSError as err:
        raise _unbindable(path, err) from err
    if not stat.S_ISSOCK(mode):
        raise Refused(Kind.INVALID, f"socket path: {path} is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            found = probe.connect_ex(os.fspath(path))
        except OSError as err:  # too long
            raise _unbindable(path, err) from err
    if found not in {errno.ECONNREFUSED, errno.ENOENT}:
        raise Refused(Kind.EXISTS, f"socket path: {path} is already in use", hint="is the daemon already running?")
    return found == errno.ECONNREFUSED
