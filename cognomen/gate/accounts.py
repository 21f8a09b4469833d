"""Which uids belong to one account, so that nobody gets more of anything by using more uids.

Decided here: a user and the subordinate uids that root gave that user are one account. How much an account gets is decided by `gate`, and
by each shared thing. Which ids belong to somebody: `localids`. We never ask a directory service, because it might not answer.
"""

import fcntl
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from heapq import heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeAlias

from cognomen.process.localids import PASSWD, users_of
from svid.clock import SystemClock

__all__ = ["UNNAMED", "AccountID", "Subordinates", "account_of", "namespace_owner", "sole_account"]

AccountID: TypeAlias = int
"""A uid that represents itself and its subordinate uids, or the first uid of a block in a range that belongs to no user."""

UNNAMED: AccountID = -1
"""The single account of everybody who names none."""

_SUBUID = Path("/etc/subuid")
_clock = SystemClock()
_LOOK_SECONDS = 1.0
_ROOT = 0
_BLOCK = 65_536  # what one container gets from a range of root
_UIDS = 2**32
_NS_GET_PARENT, _NS_GET_OWNER_UID = 0xB702, 0xB704
_MOST_NESTED = 32  # the limit of the kernel


class _Range(NamedTuple):
    first: int
    end: int
    owner: int | None  # None: the range of root, or of a name that is not a user's: containers of root
    blocks_from: int


class Subordinates:
    """The ranges of subordinate uids. The file is checked once a second, and read again when it has changed.

    Names are looked up only in passwd(5): if only a directory service knows a user, each block of the user's range is one account.
    Source: subuid(5).
    """

    def __init__(self, subuid: Path = _SUBUID, passwd: Path = PASSWD, *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._subuid, self._passwd = subuid, passwd
        self._look_seconds, self._look_at = look_seconds, 0.0
        self._seen: tuple[int, ...] = ()
        self._ranges: list[_Range] = []

    def account(self, uid: int) -> AccountID:
        """The account that a uid belongs to; its own, unless it is a subordinate uid."""
        self._read_again()
        at = bisect_right(self._ranges, uid, key=lambda one: one.first) - 1
        if at < 0 or uid >= self._ranges[at].end:
            return uid
        found = self._ranges[at]
        if found.owner is not None:
            return found.owner
        return found.blocks_from + (uid - found.blocks_from) // _BLOCK * _BLOCK

    def _read_again(self) -> None:
        if (now := _clock.monotonic()) < self._look_at:
            return
        self._look_at = now + self._look_seconds
        seen: tuple[int, ...] = ()
        with suppress(OSError):
            found = os.stat(self._subuid)  # noqa: PTH116 - called for each connection: a Path costs five times as much
            seen = found.st_ino, found.st_size, found.st_mtime_ns
        if seen != self._seen:
            self._seen, self._ranges = seen, []
            with suppress(OSError):
                self._ranges = _apart(list(self._read()))

    def _read(self) -> Iterator[_Range]:
        users = {user.name: user.uid for user in users_of(self._passwd.read_bytes()) if user is not None}
        for line in self._subuid.read_bytes().splitlines():
            name, *numbers = line.split(b":")
            if len(numbers) != 2 or not all(number.isdigit() for number in numbers):  # noqa: PLR2004 - first and count
                continue
            first, count = map(int, numbers)
            owner = int(name) if name.isdigit() else users.get(name)
            if _ROOT < first < _UIDS and count:
                yield _Range(first, min(first + count, _UIDS), owner or None, first)


def _apart(ranges: list[_Range]) -> list[_Range]:
    """Cut ranges into parts that do not overlap: a user's range wins over root's, then the range that begins last wins."""
    ranges.sort(key=lambda one: one.first)
    borders = sorted({border for one in ranges for border in (one.first, one.end)})
    parts, over, begun = list[_Range](), list[tuple[bool, int, int, _Range]](), 0
    for first, end in pairwise(borders):
        while begun < len(ranges) and ranges[begun].first == first:
            one = ranges[begun]
            heappush(over, (one.owner is None, -first, begun, one))
            begun += 1
        while over and over[0][-1].end <= first:
            heappop(over)
        if over:
            parts.append(over[0][-1]._replace(first=first, end=end))
    return parts


_subordinates = Subordinates()
sole_account = _subordinates.account
"""The account of a uid, by the ranges alone."""


def account_of(uid: int, pid: int) -> AccountID:
    """The account of a process: by the ranges, else by the owner of its user namespace, if the kernel tells us."""
    account = sole_account(uid)
    if account == uid and uid != _ROOT and (owner := namespace_owner(pid)) is not None:
        return sole_account(owner)
    return account


def namespace_owner(pid: int) -> int | None:
    """The owner of the outermost user namespace below ours that a process is in; None: it is in ours, root owns it, or we may not know.

    Source: ioctl_ns(2), user_namespaces(7).
    """
    try:
        ours = os.stat("/proc/self/ns/user")  # noqa: PTH116 - as above
        theirs = os.stat(f"/proc/{pid}/ns/user")  # noqa: PTH116 - as above
        if theirs.st_ino == ours.st_ino:
            return None
        with ExitStack() as leaving:
            here = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            leaving.callback(os.close, here)
            for _ in range(_MOST_NESTED):
                above = fcntl.ioctl(here, _NS_GET_PARENT)
                leaving.callback(os.close, above)
                if os.fstat(above).st_ino == ours.st_ino:
                    owner: int = struct.unpack("I", fcntl.ioctl(here, _NS_GET_OWNER_UID, bytes(4)))[0]
                    return owner or None
                here = above
    except OSError:  # it has ended, or we may not look at it
        pass
    return None
