"""Files and directories that nobody but their owner may read: keys, state, tokens.

Decided here: what counts as private, and that a file is replaced whole or not at all. What stands in the files is their owners' business.
"""

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from cognomen.daemon.errors import Kind, Refused

__all__ = [
    "alone_in",
    "append_private",
    "own_what_we_make",
    "private_directory",
    "read_private",
    "sync_directory",
    "write_private",
]

_MAX_PRIVATE_BYTES = 16 * 1024 * 1024

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def own_what_we_make() -> None:
    """Take the owner's bits out of this process's umask: under 0777 we could not use the files and directories that we make."""
    os.umask(os.umask(0o077) & ~stat.S_IRWXU)


def private_directory(path: Path) -> Path:
    """Create a directory with mode 0700, missing parents too, or check that the one there is ours alone.

    Raises:
        Refused: INVALID when it is a link, of another uid or open to others; UNAVAILABLE when the system says no.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
    except OSError as e:
        raise _system_refusal(f"directory {path}", e) from e
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(Kind.INVALID, f"directory {path}: expected a directory, found {_type_name(found.st_mode)}")
    _check_owner_and_mode(f"directory {path}", found, hint=f"chmod 700 {path}")
    return path


@contextlib.contextmanager
def alone_in(directory: Path, daemon: str) -> Iterator[None]:
    """Hold a daemon's state directory, by a file `lock` in it, until the block ends: a second one would not notice what the first writes.

    Raises:
        Refused: EXISTS when another process holds it; UNAVAILABLE when the system says no.
    """
    with contextlib.ExitStack() as leaving:
        path = directory / "lock"
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise _system_refusal(f"file {path}", e) from e
        leaving.callback(os.close, held)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise Refused(
                Kind.EXISTS,
                f"state_dir: expected one that no {daemon} uses, found one running in {directory}",
                hint=f"end that {daemon}, or name another state_dir",
            ) from e
        yield


def write_private(path: Path, data: bytes) -> None:
    """Replace a file as a whole, mode 0600: after a crash it holds what it held before, or `data`.

    Raises:
        Refused: UNAVAILABLE when it cannot be written; what stood there before still does.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            _write_new(temporary, data)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as e:
        raise _system_refusal(f"file {path}", e) from e


def append_private(path: Path, data: bytes) -> None:
    """Write behind what a file of ours holds: after a crash or a failure it may hold a part of `data`.

    Raises:
        Refused: UNAVAILABLE when it cannot be written, or is not there.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as e:
        raise _system_refusal(f"file {path}", e) from e


def read_private(path: Path, *, max_bytes: int = _MAX_PRIVATE_BYTES) -> bytes:
    """Read a file that is ours alone.

    Raises:
        Refused: NOT_FOUND when there is none; INVALID when it is a link or no regular file, of another uid, open to others or too
            large; UNAVAILABLE when the system says no.
    """
    what = f"file {path}"
    try:
        if path.is_symlink():
            raise Refused(Kind.INVALID, f"{what}: expected a regular file, found a symbolic link")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Refused(Kind.INVALID, f"{what}: expected a regular file, found {_type_name(found.st_mode)}")
            _check_owner_and_mode(what, found, hint=f"chmod 600 {path}")
            data = file.read(max_bytes + 1)
    except FileNotFoundError as e:
        raise Refused(Kind.NOT_FOUND, f"{what}: expected a file, found none") from e
    except OSError as e:
        raise _system_refusal(what, e) from e
    if len(data) > max_bytes:
        raise Refused(Kind.INVALID, f"{what}: expected at most {max_bytes} bytes, found more")
    return data


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Make names that were made, replaced or removed in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_owner_and_mode(what: str, found: os.stat_result, *, hint: str) -> None:
    if found.st_uid != os.geteuid():
        raise Refused(
            Kind.INVALID,
            f"{what}: expected uid {os.geteuid()} as its owner, found uid {found.st_uid}",
            hint="run as its owner, or name another path",
        )
    if found.st_mode & _OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        raise Refused(
            Kind.INVALID, f"{what}: expected no access for group and others, found mode {mode:04o}", hint=hint
        )


def _type_name(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISREG(mode):
        return "a regular file"
    return "a directory" if stat.S_ISDIR(mode) else "a special file"


def _system_refusal(what: str, error: OSError) -> Refused:
    return Refused(
        Kind.UNAVAILABLE,
        f"{what}: {(error.strerror or str(error)).lower()}",
        hint="check the path, its permissions and the free space",
    )
