"""Checks that a path is ours, up to `/`, before we read a secret or write anything; works on descriptors, not on names.

Decided here: who may write the directories of a path, and who may own the links in it. What the files in a directory must look like is
decided in privatefile. A group with write access counts as others: a member could replace our directory. A group with only root and us in
it (`localids`) does not count, unless there is an access control list, because that shows its permissions in the same bits.

Source: path_resolution(7), symlink(7), acl(5).
"""

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from cognomen.process.localids import PrivateGroups
from cognomen.protocol.errors import Kind, Refused

__all__ = [
    "check_makeable",
    "check_not_others",
    "check_own_file",
    "listed",
    "others_write",
    "own_directory",
    "own_way",
    "sync",
]

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_LINKS = 40  # the limit of the kernel
_ACL = "system.posix_acl_access"
_GROUPS = PrivateGroups()


@contextlib.contextmanager
def own_directory(
    path: Path,
    *,
    make: bool = False,
    shared: bool = False,
    unsafe_open: bool = False,
    groups: PrivateGroups = _GROUPS,
) -> Iterator[int]:
    """Open a directory that only root and we can write, and each one above it as well; a sticky one above may be writable by others.

    Follows links that root or we made.

    Shape: a descriptor with O_PATH, for `dir_fd`, until the block ends.

    Args:
        make: create missing directories durably, mode 0755 less the umask.
        shared: the directory itself may be a sticky one that others write, like /tmp.
        unsafe_open: anybody may write the directory itself, and so replace what is in it at any moment.
        groups: the groups with only one user.

    Raises:
        Refused: INVALID when somebody else could change what is there; the hint is the command that helps.
        OSError: the system refuses.
    """

    def check_last(found: int, shown: Path) -> None:
        what = f"directory {shown}"
        _check_owner(what, _directory(found), shown)
        if not unsafe_open:
            _check_mode(what, found, shown, groups, is_sticky_fine=shared)

    found = _walk(path.absolute(), check_last, groups, make=make)
    try:
        yield found
    finally:
        os.close(found)


def check_makeable(path: Path, *, shared: bool = False, groups: PrivateGroups = _GROUPS) -> None:
    """Check that `own_directory(path, make=True)` and a new name in the directory are possible, and make nothing.

    Args:
        shared, groups: as own_directory.

    Raises:
        Refused: as own_directory.
        OSError: the system would refuse.
    """
    path = path.absolute()
    there = next(one for one in (path, *path.parents) if os.path.lexists(one))
    with own_directory(there, shared=shared or there != path, groups=groups) as found:
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=found, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_own_file(path: Path, *, groups: PrivateGroups = _GROUPS) -> None:
    """Refuse a file that anybody but root and us could change or replace, or a link on the way to it.

    Raises:
        Refused: INVALID, with the command that helps.
        OSError: the system refuses.
    """
    os.close(
        _walk(
            path.absolute(),
            lambda found, shown: check_not_others(f"file {shown}", found, shown, groups=groups),
            groups,
        )
    )


@contextlib.contextmanager
def own_way(path: Path, *, groups: PrivateGroups = _GROUPS) -> Iterator[int]:
    """Walk to a file, following links, by a path that only root and we could change; the caller must still check who owns the file itself.

    Shape: a descriptor with O_PATH until the block ends; `/proc/self/fd/N` opens it.

    Raises:
        Refused: INVALID, with the command that helps.
        OSError: the system refuses.
    """
    found = _walk(path.absolute(), lambda _descriptor, _path: None, groups)
    try:
        yield found
    finally:
        os.close(found)


def check_not_others(what: str, descriptor: int, path: Path, *, groups: PrivateGroups = _GROUPS) -> None:
    """Refuse what anybody but root and us owns or may write, sticky or not.

    Raises:
        Refused: INVALID, with the command that helps.
    """
    _check_owner(what, os.fstat(descriptor), path)
    _check_mode(what, descriptor, path, groups)


def others_write(descriptor: int, *, groups: PrivateGroups = _GROUPS) -> bool:
    """Whether the mode of a file or directory lets anybody write but its owner, root and us."""
    found = os.fstat(descriptor)
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not (_has_no_acl(descriptor) and groups.has(found.st_gid))


def listed(directory: int) -> list[str]:
    """The names in a directory that `own_directory` opened."""
    with _readable(directory) as readable:
        return os.listdir(readable)  # noqa: PTH208 - a descriptor, not a path


def sync(directory: int) -> None:
    """Make the creation, replacement and removal of names in a directory durable."""
    with _readable(directory) as readable:
        os.fsync(readable)


@contextlib.contextmanager
def _readable(directory: int) -> Iterator[int]:
    descriptor = os.open(".", _LIST, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _has_no_acl(descriptor: int) -> bool:
    """Whether there is certainly no access control list; a file system without this kind may have another kind."""
    try:
        os.getxattr(
            f"/proc/self/fd/{descriptor}", _ACL
        )  # through /proc, because fgetxattr(2) accepts no descriptor with O_PATH
    except OSError as e:
        return e.errno == errno.ENODATA
    return False


def _walk(path: Path, check_last: Callable[[int, Path], None], groups: PrivateGroups, *, make: bool = False) -> int:
    """Go down from `/` name by name, following links, and open what is at the end."""
    here, shown, links = os.open("/", _LOOK), Path("/"), 0
    try:
        ahead = _names(path)
        while ahead:
            _check(here, shown, groups)
            name = ahead.pop()
            found = _made(name, here) if make else os.open(name, _LOOK, dir_fd=here)
            try:
                if not stat.S_ISLNK(os.fstat(found).st_mode):
                    shown = shown.parent if name == ".." else shown / name
                    here, found = found, here
                    continue
                _check_owner(f"link {shown / name}", os.fstat(found), shown / name)
                target = os.readlink("", dir_fd=found)
            finally:
                os.close(found)
            links = _one_more(links)
            ahead += _names(PurePath(target))
            if target.startswith("/"):
                root = os.open("/", _LOOK)
                os.close(here)
                here, shown = root, Path("/")
        check_last(here, shown)
    except BaseException:
        os.close(here)
        raise
    return here


def _one_more(links: int) -> int:
    if links == _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return links + 1


def _names(path: PurePath) -> list[str]:
    """The names of a path, last first."""
    return [name for name in reversed(path.parts) if name not in {"/", "//"}]


def _made(name: str, directory: int) -> int:
    """Open what has that name, or make a directory if nothing has it."""
    with contextlib.suppress(FileNotFoundError):
        return os.open(name, _LOOK, dir_fd=directory)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=directory)
        sync(directory)
    return os.open(name, _LOOK, dir_fd=directory)


def _check(directory: int, shown: Path, groups: PrivateGroups) -> None:
    """Refuse a directory on the way that others can write, unless it is sticky: there nobody can replace what belongs to others."""
    _check_owner(f"directory {shown}", _directory(directory), shown)
    _check_mode(f"directory {shown}", directory, shown, groups, is_sticky_fine=True)


def _directory(descriptor: int) -> os.stat_result:
    found = os.fstat(descriptor)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return found


def _check_owner(what: str, found: os.stat_result, path: Path) -> None:
    own, quoted = os.geteuid(), shlex.quote(str(path))
    if found.st_uid in {0, own}:
        return
    home = "/var/lib or /root" if own == 0 else "your home directory"
    raise Refused(
        Kind.INVALID,
        f"{what}: expected root or uid {own} as its owner, found uid {found.st_uid}, who can change it",
        hint=f"if you trust what is in it, name a copy of your own: cp {quoted} {quoted}.own"
        if stat.S_ISREG(found.st_mode)
        else f"name a path that leads through no other user's directory, such as one below {home}",
    )


def _check_mode(what: str, descriptor: int, path: Path, groups: PrivateGroups, *, is_sticky_fine: bool = False) -> None:
    found = os.fstat(descriptor)
    if (is_sticky_fine and found.st_mode & stat.S_ISVTX) or not others_write(descriptor, groups=groups):
        return
    if found.st_mode & stat.S_ISVTX:
        hint = f"name a directory below it, such as {shlex.quote(str(path / 'cognomen'))}"
    elif os.geteuid() in {0, found.st_uid}:
        hint = f"chmod go-w {shlex.quote(str(path))}"
    else:
        hint = "name a path in which only root and you can write the directories"
    raise Refused(
        Kind.INVALID,
        f"{what}: expected write access for its owner only, found mode {stat.S_IMODE(found.st_mode):04o}",
        hint=hint,
    )
