"""What this machine's own files say about uids and gids: users, groups of a single user, and ids that belong to somebody.

Decided here: a group counts as private to one user only if passwd(5) and group(5) leave no doubt. What such a group may do: `ownpath`.
We never ask a directory service, because it might not answer.
"""

import errno
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cognomen.protocol.errors import Kind, Refused

__all__ = ["PASSWD", "IDMap", "PrivateGroups", "User", "users_of"]

PASSWD = Path("/etc/passwd")
"""The path of passwd(5)."""

_GROUP = Path("/etc/group")
_MAX_BYTES = 16 * 1024 * 1024
_MAX_DIGITS = 10
_ROOT = 0
_UIDS = 2**32


class User(NamedTuple):
    """A line of passwd(5)."""

    name: bytes
    uid: int
    gid: int


class _Group(NamedTuple):
    gid: int
    has_password: bool
    members: frozenset[bytes]


def users_of(text: bytes) -> Iterator[User | None]:
    """The users of passwd(5); None for a line that names no user, or that refers to a directory service."""
    for line in _lines(text):
        match line.split(b":"):
            case [name, _, uid, gid, _, _, _] if _is_name(name) and _is_number(uid) and _is_number(gid):
                yield User(name, int(uid), int(gid))
            case _:
                yield None


def _groups(text: bytes) -> Iterator[_Group | None]:
    """The groups of group(5); None in the same cases as for users."""
    for line in _lines(text):
        match line.split(b":"):
            case [name, password, gid, members] if _is_name(name) and _is_number(gid):
                has_password = password not in {b"", b"x"} and not password.startswith((b"!", b"*"))
                yield _Group(int(gid), has_password, frozenset(filter(None, members.split(b","))))
            case _:
                yield None


def _lines(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line and not line.startswith(b"#")]


def _is_name(name: bytes) -> bool:
    return bool(name.strip()) and not name.startswith((b"+", b"-"))


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= _MAX_DIGITS


class PrivateGroups:
    """The groups that contain only root or our own user, like the one that a system makes for each user; read from passwd(5) and group(5).

    If these files leave any doubt, the group does not count: the group or a member is not in them, a line cannot be read or refers to a
    directory service, or somebody else could have written the file.

    Args:
        proc: proc(5).
    """

    def __init__(self, passwd: Path = PASSWD, group: Path = _GROUP, *, proc: Path = Path("/proc")) -> None:
        self._passwd, self._group, self._proc = passwd, group, proc

    def has(self, gid: int) -> bool:
        """Whether this is the primary group of root or our user, and nobody else is in it or can join it with a password."""
        try:
            users = list(users_of(_read_own(self._passwd)))
            groups = list(_groups(_read_own(self._group)))
            is_somebodys = bool(IDMap(self._proc).known(frozenset({gid})))
        except OSError:
            return False
        uids: dict[bytes, set[int]] = {}
        members = set[int]()
        for user in users:
            if user is None:
                return False
            uids.setdefault(user.name, set()).add(user.uid)
            if user.gid == gid:
                members.add(user.uid)
        is_first = bool(members)
        is_known = False
        for group in groups:
            if group is None:
                return False
            if group.gid == gid:
                if group.has_password or not group.members <= uids.keys():
                    return False
                is_known = True
                members |= {uid for name in group.members for uid in uids[name]}
        return is_somebodys and is_first and is_known and members <= {_ROOT, os.geteuid()}


def _read_own(path: Path) -> bytes:
    """Read a file that only root or we can have written.

    Raises:
        OSError: others can write it, it is not a regular file or too large, or the system refuses.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        is_own = stat.S_ISREG(found.st_mode) and found.st_uid in {_ROOT, os.geteuid()}
        if not is_own or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or found.st_size > _MAX_BYTES:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return file.read()


class IDMap:
    """The ids that belong to somebody in our user namespace. The kernel shows all unmapped ids as one, the overflow id.

    Args:
        proc: proc(5).

    Source: user_namespaces(7), Unmapped user and group IDs.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._uid = _overflow(proc / "self/uid_map", proc / "sys/kernel/overflowuid")
        self._gid = _overflow(proc / "self/gid_map", proc / "sys/kernel/overflowgid")

    def check(self, uid: int, gid: int, *, pid: int) -> None:
        """Refuse ids that could belong to anybody.

        Raises:
            Refused: DENIED for a process whose uid or gid is not mapped into our user namespace.
        """
        refuse = partial(
            Refused,
            Kind.DENIED,
            hint="run the attestor in the user namespace of its callers, or map their ids into its own",
            pid=pid,
        )
        if uid == self._uid:
            raise refuse(
                f"caller: expected a uid that is mapped into our user namespace, found {uid}, which stands for all others"
            )
        if gid == self._gid:
            raise refuse(
                f"caller: expected a gid that is mapped into our user namespace, found {gid}, which stands for all others"
            )

    def known(self, gids: frozenset[int]) -> frozenset[int]:
        """Those that mean exactly one group."""
        return gids if self._gid is None else gids - {self._gid}


def _overflow(map_of_ids: Path, overflow: Path) -> int | None:
    """The id that stands for all unmapped ids; None if all are mapped.

    Raises:
        OSError: there is no /proc, without which we can identify nobody.
    """
    every = [0, 0, _UIDS - 1]
    return None if [int(one) for one in map_of_ids.read_text().split()] == every else int(overflow.read_text())
