"""Tell local processes what is denied, as it comes, and hear from them what they enforce.

Any local process may know: a number says nothing to whoever does not hold the credential. What is denied: attestor/deniallog.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from attestor.deniallog import DenialLog, Piece
from attestor.nodeclock import NodeClock
from cognomen.daemon.caller import Caller, ProcessHandle
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.waiting import first_of
from cognomen.protocol.feed import Cursor

__all__ = ["Point", "ServeDenials", "Word"]

_MOST_TOLD = 4096  # in a message of some 100 kB
_WORD_SECONDS = 5.0
_MOST_POINTS = 1000  # of one uid
_POINT_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a follower is told next: hold these, too.

    Args:
        epoch: where whoever has taken this, and all before it, stands; None: nowhere yet.
        snapshot: this and the words before it, from the first on, are everything.
        more: there is more of it, without which the epoch is not reached.
        age: how long ago the issuer was heard.
    """

    epoch: Cursor | None
    snapshot: bool
    more: bool
    denials: Piece
    age: timedelta


class Point(NamedTuple):
    """What enforces denials in a process, by the name that the process gives it."""

    uid: int
    pid: int
    name: str


@dataclass(slots=True, kw_only=True)
class _Follower:
    """A connection with open streams, and what is enforced behind it."""

    uid: int
    pid: int
    streams: int = 0
    enforced: dict[str, Cursor] = field(default_factory=dict)


class ServeDenials:
    """The flow.

    Args:
        age: says how long ago the issuer was heard.
    """

    def __init__(self, denials: DenialLog, *, age: Callable[[], timedelta], clock: NodeClock) -> None:
        self._denials = denials
        self._age = age
        self._clock = clock
        self._turn = 0
        self._woken = asyncio.Event()
        self._followers: dict[ProcessHandle, _Follower] = {}

    async def run(self) -> None:
        """Wake the followers at news, and when it is time for a word, for ever: one wait for all of them, who may be hundreds."""
        while True:
            turn = self._denials.turn
            self._turn += 1
            self._woken.set()
            self._woken = asyncio.Event()
            await first_of(self._denials.changed(turn), self._clock.sleep(_WORD_SECONDS))

    async def follow(self, caller: Caller, send: Callable[[Word], Awaitable[None]]) -> None:
        """Tell a caller everything, then what comes, and a word every 5 s at least, for ever."""
        log, place, epoch, snapshot = self._denials, 0, None, True
        with self._follows(caller):
            while True:
                # 1. What it does not have yet, as it reads it: for a slow reader nothing is held but its place. Until the issuer was heard
                #    there is no epoch, so that the snapshot goes on.
                turn, piece = self._turn, log.after(place, most=_MOST_TOLD)
                more = piece.place < log.place or log.cursor is None
                epoch = epoch if more else log.cursor
                await send(Word(epoch=epoch, snapshot=snapshot, more=more, denials=piece, age=self._age()))
                place, snapshot = piece.place, snapshot and more
                # 2. Once it has everything: wait for news, or until it is time for a word.
                while place == log.place and turn == self._turn:
                    await self._woken.wait()

    def take_receipt(self, caller: Caller, name: str, epoch: Cursor) -> None:
        """Note that an enforcement point of the caller enforces all denials up to that epoch.

        Raises:
            Refused: INVALID for a name that is empty or too long, and for an epoch that was never told; CONFLICT unless the caller follows
                on this connection; EXHAUSTED when its uid has too many points.
        """
        if not 1 <= len(name.encode()) <= _POINT_BYTES:
            raise Refused(Kind.INVALID, f"point: expected 1 to {_POINT_BYTES} bytes, found {len(name.encode())}")
        now = self._denials.cursor
        if now is None or epoch.incarnation != now.incarnation or epoch.number > now.number:
            raise Refused(Kind.INVALID, "epoch: expected one that was told, found another")
        follower = self._followers.get(caller.process)
        if follower is None:
            raise Refused(
                Kind.CONFLICT,
                "caller: expected one that follows the denials on this connection, found one that does not",
            )
        known = follower.enforced.get(name)
        if known is None and self._points_of(caller.uid) >= _MOST_POINTS:
            raise Refused(Kind.EXHAUSTED, f"point: expected at most {_MOST_POINTS} of one uid, found one more")
        if known is None or known.incarnation != epoch.incarnation or known.number < epoch.number:
            follower.enforced[name] = epoch

    def enforced(self) -> Mapping[Point, Cursor]:
        """How far each enforcement point is whose process follows; of several that share a name in a process, the one furthest behind."""
        found: dict[Point, Cursor] = {}
        for follower in self._followers.values():
            for name, epoch in follower.enforced.items():
                point = Point(follower.uid, follower.pid, name)
                found[point] = min(epoch, found.get(point, epoch), key=self._progress)
        return found

    def _progress(self, epoch: Cursor) -> tuple[bool, int]:
        now = self._denials.cursor
        return now is not None and epoch.incarnation == now.incarnation, epoch.number

    def _points_of(self, uid: int) -> int:
        return sum(len(follower.enforced) for follower in self._followers.values() if follower.uid == uid)

    @contextmanager
    def _follows(self, caller: Caller) -> Iterator[None]:
        """Count a stream; with the last of a connection, which ends with its process, what is enforced behind it is forgotten."""
        follower = self._followers.setdefault(caller.process, _Follower(uid=caller.uid, pid=caller.pid))
        follower.streams += 1
        try:
            yield
        finally:
            follower.streams -= 1
            if not follower.streams:
                del self._followers[caller.process]
