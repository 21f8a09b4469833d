"""Files that are replaced together: a reader that follows one directory never finds a new key beside an old certificate.

A reader that opens the files by their own names, one after the other, may open some before a change and others after it. The command that
runs after each change (`hook`) can make it read them again.

One writer at a time has the lock of the directory. A watch also holds the directory (`Hold`), so that no other command replaces its files.

In a shared directory, others can replace every name at any moment, and so decide what readers find there. They cannot make us write, change
or remove anything elsewhere: we follow no link, and make and remove files only in a directory of our own, by its descriptor.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from cognomen.process.ownpath import listed, own_directory, sync
from cognomen.process.wholefile import replace_file
from cognomen.protocol.errors import FileRefused, Kind, Refused

__all__ = ["Hold", "add_to_set", "check_set", "remove_set", "write_set"]

_CURRENT, _LOCK, _WATCH = "..data", "..lock", "..watch"
_GENERATION = re.compile(r"\.\.[0-9a-f]{16}")
_HALF_MADE = re.compile(r"\.\.[0-9a-f]{16}\.link")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Hold:
    """What a watch holds, so that nobody else writes its directory: from its first use until it is closed, or the process ends.

    A command that the process runs does not inherit it. If the directory is replaced, the next use holds the new one.
    """

    def __init__(self) -> None:
        self._held: int | None = None

    def close(self) -> None:
        """Let others write the directory."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def take(self, directory: Path, here: int, *, shared: bool) -> None:
        """Hold the directory; only for who has its lock.

        Raises:
            Refused: CONFLICT while another watch holds it.
            OSError: the system refuses.
        """
        found = _open_lock(directory, here, _WATCH, os.O_CREAT, shared=shared)
        try:
            if self._held is not None and os.path.sameopenfile(self._held, found):
                return
            _check_unwatched(directory, found)
            self.close()
            self._held, found = found, -1
        finally:
            if found >= 0:
                os.close(found)


def check_set(directory: Path, *, shared: bool = False, hold: Hold | None = None) -> None:
    """Check that a set of files can be written there, before we ask anybody for its contents; makes the directory.

    Raises:
        Refused: as write_set.
    """
    with _one_writer(directory, shared=shared, hold=hold):
        pass


def write_set(
    directory: Path,
    private: Mapping[str, bytes],
    public: Mapping[str, bytes],
    *,
    shared: bool = False,
    hold: Hold | None = None,
) -> list[str]:
    """Replace a set of files; the private ones have mode 0600, the public ones 0644.

    Shape: each file is a link into `..data`, which is a link to the directory of this generation; renaming that one link replaces
        the set, as Kubernetes does with secrets. Returns the sorted names of the files that only the set before had: they are gone.

    Args:
        shared: others may write the directory, and are trusted not to replace what readers find there.
        hold: what a watch holds the directory with; None: only for this once.

    Raises:
        Refused: INVALID when somebody else may write the directory or one above; CONFLICT while another watch holds it; UNAVAILABLE
            when the files cannot be written, or a directory has the name of one. The old files then stay.
    """
    with _one_writer(directory, shared=shared, hold=hold) as here:
        _check_names(directory, here, [*private, *public])
        before = _names(here)
        generation, inside = _new_generation(here)
        try:
            for files, mode in ((private, 0o600), (public, 0o644)):
                for name, data in files.items():
                    replace_file(inside, name, data, mode=mode)
            os.fsync(inside)
        finally:
            os.close(inside)
        sync(here)  # so that after a crash the link still leads to complete files
        _link(here, _CURRENT, generation)
        _link_files(here, [*private, *public])
    return sorted(before - {*private, *public})


def remove_set(directory: Path, *, shared: bool = False, hold: Hold | None = None) -> None:
    """Remove the set of files, which needs no space.

    Raises:
        Refused: as write_set.
    """
    with _one_writer(directory, shared=shared, hold=hold) as here, contextlib.suppress(FileNotFoundError):
        os.unlink(_CURRENT, dir_fd=here)  # what it led to goes with the leftovers


def add_to_set(directory: Path, name: str, data: bytes, *, shared: bool = False, hold: Hold | None = None) -> None:
    """Add one public file, mode 0644, to the current set, or replace it there; the next set will not have it.

    Raises:
        Refused: as write_set.
    """
    with _one_writer(directory, shared=shared, hold=hold) as here:
        inside = _current(here)
        if inside is None:
            generation, inside = _new_generation(here)
            _link(here, _CURRENT, generation)
        try:
            replace_file(inside, name, data, mode=0o644)
            os.fsync(inside)
        finally:
            os.close(inside)
        _link_files(here, [name])


@contextlib.contextmanager
def _one_writer(directory: Path, *, shared: bool, hold: Hold | None) -> Iterator[int]:
    """Let one writer in at a time; before and after, remove what is not in the current set: the last set, and leftovers of a failure.

    The lock is a file that nobody else can open, so nobody else can hold it. Only who has it looks whether a watch holds the
    directory: so it is never another's look that is found.
    """
    try:
        with contextlib.ExitStack() as leaving:
            here = leaving.enter_context(_opened(directory, shared=shared))
            lock = _open_lock(directory, here, _LOCK, os.O_CREAT, shared=shared)
            leaving.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if hold is not None:
                hold.take(directory, here, shared=shared)
            elif (watched := _watched(directory, here, shared=shared)) is not None:
                leaving.callback(os.close, watched)
                _check_unwatched(directory, watched)
            leaving.callback(_sweep, here)
            _sweep(here)  # makes room on a full disk
            yield here
            sync(here)
    except OSError as e:
        raise FileRefused(
            Kind.UNAVAILABLE,
            f"directory {directory}: {(e.strerror or str(e)).lower()}",
            hint="name a directory that you can write, on a disk with free space",
        ) from e


@contextlib.contextmanager
def _opened(directory: Path, *, shared: bool) -> Iterator[int]:
    with contextlib.ExitStack() as leaving:
        try:
            here = leaving.enter_context(own_directory(directory, make=True, unsafe_open=shared))
        except Refused as e:
            if shared or not _could_be_shared(directory):
                raise
            hint = f"{e.hint}; or, if you trust everybody who can write this one, add --shared-directory"
            raise Refused(e.kind, e.detail, hint=hint) from e
        yield here


def _could_be_shared(directory: Path) -> bool:
    """Whether the only fault is that others may write the directory, and we cannot change its mode, as in a Kubernetes volume."""
    try:
        with own_directory(directory, unsafe_open=True) as here:
            found = os.fstat(here)
    except (OSError, Refused):
        return False
    return found.st_uid != os.geteuid() and not found.st_mode & stat.S_ISVTX


def _open_lock(directory: Path, here: int, name: str, flags: int = 0, *, shared: bool) -> int:
    """Open a file that is locked; the caller closes it."""
    opened = os.open(name, _LOCK_FILE | flags, 0o600, dir_fd=here)
    try:
        if shared:
            _check_lock(directory / name, os.fstat(opened))
    except Refused:
        os.close(opened)
        raise
    return opened


def _watched(directory: Path, here: int, *, shared: bool) -> int | None:
    """Open the file that a watch holds; None if there was never a watch."""
    try:
        return _open_lock(directory, here, _WATCH, shared=shared)
    except FileNotFoundError:
        return None


def _check_unwatched(directory: Path, opened: int) -> None:
    """Lock the file that a watch holds.

    Raises:
        Refused: CONFLICT when another watch has done so.
    """
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(
            Kind.CONFLICT,
            f"directory {directory}: another cognomen fetch --watch keeps this directory",
            hint="give each command a directory of its own, or give one fetch jwt several --token",
        ) from None  # it does not pass by itself, as other faults of the system may


def _check_lock(path: Path, found: os.stat_result) -> None:
    """Refuse a lock that somebody else can hold."""
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or not _is_ours(found):
        raise Refused(
            Kind.INVALID,
            f"file {path}: expected one of uid {os.geteuid()} alone, found one of uid {found.st_uid}",
            hint="only one user may write a directory; if no other does, remove that file",
        )


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _new_generation(here: int) -> tuple[str, int]:
    """Make the directory of a generation, and open it.

    Raises:
        OSError: somebody has put another directory in its place.
    """
    generation = f"..{secrets.token_hex(8)}"
    os.mkdir(generation, 0o755, dir_fd=here)
    inside = _open_ours(here, generation)
    if listed(inside):
        os.close(inside)
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
    return generation, inside


def _current(here: int) -> int | None:
    """Open the directory of the current generation; None if we did not make it."""
    generation = _target(here, _CURRENT) or ""
    if not _GENERATION.fullmatch(generation):
        return None
    try:
        return _open_ours(here, generation)
    except OSError:
        return None


def _names(here: int) -> set[str]:
    """The files of the current generation."""
    inside = _current(here)
    if inside is None:
        return set()
    try:
        return set(listed(inside))
    finally:
        os.close(inside)


def _open_ours(here: int, generation: str) -> int:
    """Open a directory that is ours: nobody else can put anything into it, or move it.

    Raises:
        OSError: it is not such a directory.
    """
    inside = os.open(generation, _DIRECTORY, dir_fd=here)
    if not _is_ours(os.fstat(inside)):
        os.close(inside)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
    return inside


def _sweep(here: int) -> None:
    current = _target(here, _CURRENT)
    for name in listed(here):
        target = _target(here, name)
        if _GENERATION.fullmatch(name) and name != current:
            _remove(here, name)
        elif _HALF_MADE.fullmatch(name) or (target == f"{_CURRENT}/{name}" and not _is_there(here, target)):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=here)


def _remove(here: int, generation: str) -> None:
    """Remove the files of a generation, and its directory; it contains no directories."""
    with contextlib.suppress(OSError):
        inside = _open_ours(here, generation)
        try:
            for name in listed(inside):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=inside)
        finally:
            os.close(inside)
        os.rmdir(generation, dir_fd=here)


def _is_there(here: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=here)
    except OSError as e:
        if e.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            raise
        return False
    return True


def _target(here: int, name: str) -> str | None:
    """Where a link leads; None if there is no link of that name."""
    try:
        return os.readlink(name, dir_fd=here)
    except OSError:
        return None


def _check_names(directory: Path, here: int, names: list[str]) -> None:
    """Refuse a name that a link cannot replace, before anything is replaced."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.lstat(name, dir_fd=here).st_mode):
                raise FileRefused(
                    Kind.UNAVAILABLE,
                    f"file {directory / name}: is a directory",
                    hint="name another file or directory, or remove that one",
                )


def _link_files(here: int, names: list[str]) -> None:
    for name in names:
        if _target(here, name) != f"{_CURRENT}/{name}":
            _link(here, name, f"{_CURRENT}/{name}")


def _link(here: int, name: str, target: str) -> None:
    """Make a link, or replace what is there with it, in one step."""
    temporary = f"..{secrets.token_hex(8)}.link"
    os.symlink(target, temporary, dir_fd=here)
    os.replace(temporary, name, src_dir_fd=here, dst_dir_fd=here)
