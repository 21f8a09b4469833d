"""Files and directories that only their owner may read: keys, state, tokens.

Decided here: what counts as private. How a file is replaced: wholefile. Who must own the directories above: ownpath. The contents of the
files are decided by the callers.
"""

import contextlib
import fcntl
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from cognomen.process.ownpath import check_makeable, own_directory, own_way, sync
from cognomen.process.wholefile import check_replaceable, new_file, put, sweep_in
from cognomen.protocol.errors import FileRefused, Kind, Refused

__all__ = [
    "alone_in",
    "append_private",
    "check_private_directory",
    "own_what_we_make",
    "private_directory",
    "private_writer",
    "read_given",
    "read_private",
    "remove_private",
    "sync_directory",
    "write_private",
]

_MAX_PRIVATE_BYTES = 16 * 1024 * 1024

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_INHERITED = re.compile(r"/dev/(stdin|fd/[0-9]{1,9})")


def own_what_we_make() -> None:
    """Clear the owner's bits in this process's umask: under 0777 we could not use the files and directories that we make."""
    os.umask(os.umask(0o077) & ~stat.S_IRWXU)


def private_directory(path: Path, *, make: bool = True) -> Path:
    """Create a directory with mode 0700, and missing parents, or check that an existing one is private, in a path that is ours.

    Args:
        make: False: one that is missing is refused.

    Raises:
        Refused: INVALID when it is a link, belongs to another uid or is open to others, or somebody else may write a directory above;
            UNAVAILABLE when the system refuses.
    """
    whole = path.absolute()
    try:
        with own_directory(whole.parent, make=make, shared=True) as parent:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(whole.name, 0o700, dir_fd=parent)
                    sync(parent)
            found = os.stat(whole.name, dir_fd=parent, follow_symlinks=False)
    except OSError as e:
        raise _system_refusal(f"directory {path}", e) from e
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(Kind.INVALID, f"directory {path}: expected a directory, found {_type_name(found.st_mode)}")
    _check_owner_and_mode(f"directory {path}", found, hint=f"chmod 700 {shlex.quote(str(path))}")
    return path


def check_private_directory(path: Path) -> None:
    """Check that `private_directory` would accept this path, and make nothing.

    Raises:
        Refused: as private_directory.
    """
    if os.path.lexists(path):
        private_directory(path, make=False)
        return
    try:
        check_makeable(path.absolute().parent, shared=True)
    except OSError as e:
        raise _system_refusal(f"directory {path}", e) from e


@contextlib.contextmanager
def alone_in(directory: Path, daemon: str) -> Iterator[None]:
    """Lock a daemon's state directory until the block ends: a second daemon would not notice what the first writes.

    This locks the directory itself, which nobody else can open, and a file `lock` in it, for file systems that cannot lock directories.

    Raises:
        Refused: EXISTS when another process holds it; INVALID when somebody else may write it; UNAVAILABLE when the system refuses.
    """
    with contextlib.ExitStack() as leaving:
        path = directory / "lock"
        try:
            with own_directory(directory) as here:
                held = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=here)
                leaving.callback(os.close, held)
                whole = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
                leaving.callback(os.close, whole)
        except OSError as e:
            raise _system_refusal(f"file {path}", e) from e
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _hold_directory(whole)
        except BlockingIOError as e:
            raise Refused(
                Kind.EXISTS,
                f"state_dir: {directory} is already in use by a running {daemon}",
                hint=f"stop that {daemon}, or name another state_dir",
            ) from e
        yield


def _hold_directory(descriptor: int) -> None:
    """Lock a directory if that is possible: somebody may have removed its file `lock` and made a new one.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # NFS locks only what is open for writing
        return


def write_private(path: Path, data: bytes) -> None:
    """Replace a file completely, mode 0600: after a crash it has its old contents, or `data`.

    Removes what earlier writers of the file left behind when they were killed.

    Raises:
        Refused: INVALID when somebody else may write its directory or one above; UNAVAILABLE when it cannot be written, or not durably:
            then it has its old contents, or `data`, which a crash may undo.
    """
    with private_writer(path) as write:
        write(data)


@contextlib.contextmanager
def private_writer(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Prepare a `write_private` before the data exists, so that we do not request data that we then cannot write.

    Returns:
        A function that writes, to be called once; until then, the file stays as it is.

    Raises:
        Refused: as write_private; at once if nothing can be written.
    """
    with contextlib.ExitStack() as leaving:
        try:
            directory = leaving.enter_context(own_directory(path.parent, shared=True))
            sweep_in(directory, path.name)
            check_replaceable(directory, path.name)
            descriptor, temporary = leaving.enter_context(new_file(directory, path.name))
        except OSError as e:
            raise _system_refusal(f"file {path}", e) from e

        def write(data: bytes) -> None:
            try:
                put(descriptor, data, mode=0o600)
                os.replace(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
                sync(directory)
            except OSError as e:
                raise _system_refusal(f"file {path}", e) from e

        yield write


def append_private(path: Path, data: bytes) -> None:
    """Append to a file of ours; after a crash or a failure it may have a part of `data`.

    Raises:
        Refused: INVALID as read_private; UNAVAILABLE when it cannot be written, or does not exist.
    """
    try:
        with _opened(path, os.O_WRONLY | os.O_APPEND) as descriptor, os.fdopen(descriptor, "ab", closefd=False) as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as e:
        raise _system_refusal(f"file {path}", e) from e


def read_private(path: Path, *, max_bytes: int = _MAX_PRIVATE_BYTES) -> bytes:
    """Read a private file, in a path that is ours.

    Raises:
        Refused: NOT_FOUND when there is no such file; INVALID when it is a link or not a regular file, belongs to another uid, is open to
            others or too large, or somebody else may write a directory above it; UNAVAILABLE when the system refuses.
    """
    try:
        with _opened(path, os.O_RDONLY) as descriptor:
            return _read(descriptor, f"file {path}", max_bytes)
    except FileNotFoundError as e:
        raise FileRefused(Kind.NOT_FOUND, f"file {path}: no such file") from e
    except OSError as e:
        raise _system_refusal(f"file {path}", e) from e


def read_given(path: Path, what: str, *, max_bytes: int) -> bytes:
    """Read a secret that somebody gave us: a private file of ours, or one of root that our group may read; follows links of root and ours.

    An inherited stream (/dev/stdin, /dev/fd/N) is read without these checks.

    Args:
        what: its name, for error messages.

    Raises:
        Refused: as read_private.
    """
    try:
        if _INHERITED.fullmatch(str(path)):
            with path.open("rb") as file:
                return _read(file.fileno(), what, max_bytes)
        with own_way(path) as found:
            _check_given(f"{what} {path}", os.fstat(found), path)
            descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read(descriptor, f"{what} {path}", max_bytes)
        finally:
            os.close(descriptor)
    except FileNotFoundError as e:
        raise FileRefused(Kind.NOT_FOUND, f"{what} {path}: no such file") from e
    except OSError as e:
        raise _system_refusal(f"{what} {path}", e) from e


def remove_private(path: Path) -> None:
    """Remove a file, durably; it need not exist.

    Raises:
        Refused: INVALID as write_private; UNAVAILABLE when it cannot be removed, or not durably.
    """
    try:
        with own_directory(path.parent, shared=True) as directory:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=directory)
            sync(directory)
    except OSError as e:
        raise _system_refusal(f"file {path}", e) from e


def sync_directory(path: Path) -> None:
    """Make the creation, replacement and removal of names in a directory of ours durable.

    Raises:
        Refused: INVALID as write_private; UNAVAILABLE when the system refuses.
    """
    try:
        with own_directory(path, shared=True) as directory:
            sync(directory)
    except OSError as e:
        raise _system_refusal(f"directory {path}", e) from e


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Open a private regular file, in a path that is ours."""
    with own_directory(path.parent, shared=True) as directory:
        found = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            raise Refused(Kind.INVALID, f"file {path}: expected a regular file, found a symbolic link")
        descriptor = os.open(path.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Refused(Kind.INVALID, f"file {path}: expected a regular file, found {_type_name(found.st_mode)}")
        _check_owner_and_mode(f"file {path}", found, hint=f"chmod 600 {shlex.quote(str(path))}")
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, what: str, max_bytes: int) -> bytes:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise Refused(Kind.INVALID, f"{what}: expected at most {max_bytes} bytes, found more")
    return data


def _check_given(what: str, found: os.stat_result, path: Path) -> None:
    """Refuse what others could have written, or may read; for a file of root, root decides which group may read it."""
    is_roots = found.st_uid == 0 != os.geteuid()
    mode, quoted = stat.S_IMODE(found.st_mode), shlex.quote(str(path))
    if not stat.S_ISREG(found.st_mode):
        raise Refused(
            Kind.INVALID,
            f"{what}: expected a regular file, found {_type_name(found.st_mode)}",
            hint=f"pass it on standard input: - < {quoted}",
        )
    if found.st_uid not in {0, os.geteuid()}:
        raise Refused(
            Kind.INVALID,
            f"{what}: expected root or uid {os.geteuid()} as its owner, found uid {found.st_uid}",
            hint=f"if you trust what is in it, pass it on standard input: - < {quoted}",
        )
    if mode & (_OTHERS & ~stat.S_IRGRP if is_roots else _OTHERS):
        raise Refused(
            Kind.INVALID,
            f"{what}: expected no access for others, because it holds a secret, found mode {mode:04o}",
            hint=f"chmod {'640' if is_roots else '600'} {quoted}",
        )


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
    return FileRefused(
        Kind.UNAVAILABLE,
        f"{what}: {(error.strerror or str(error)).lower()}",
        hint="check the path, its permissions and the free space",
    )
