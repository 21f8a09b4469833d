"""Stream the denials to local processes as they arrive.

Any local process may have them: a number means nothing without the credential. What is denied: attestor/deniallog. What the processes
report that they enforce: attestor/receipts.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from attestor.deniallog import DenialLog, Piece
from attestor.nodeclock import NodeClock
from attestor.receipts import Follower, Receipts
from attestor.turns import Turns
from cognomen.daemon.waiting import first_of
from cognomen.gate.shares import Share
from cognomen.protocol.feed import Cursor
from svid.denials import SERIAL_BYTES

__all__ = ["ServeDenials", "Word"]

_MOST_TOLD = 1024  # in a message of some 25 kB, which stays in memory for a follower that does not read
_DENIAL_BYTES = SERIAL_BYTES + 6  # with its end, as encoded in a message
_WORD_SECONDS = 5.0
_BURST_BYTES = 256 * 2**20  # a hundred processes of one account, after a restart, with 100,000 denials
_BYTES_PER_SECOND = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """The next message for a follower: denials to add to those it has.

    Args:
        epoch: the epoch of a follower that has taken this message and all before it; None: there is none yet.
        snapshot: this message and all before it, from the first on, are everything.
        more: more messages follow, and the epoch is reached only with the last one.
        age: how long ago the issuer last sent something.
    """

    epoch: Cursor | None
    snapshot: bool
    more: bool
    denials: Piece
    age: timedelta


class ServeDenials:
    """The flow.

    Args:
        receipts: what the followers report that they enforce.
        age: returns how long ago the issuer last sent something.
    """

    def __init__(
        self, denials: DenialLog, receipts: Receipts, *, age: Callable[[], timedelta], clock: NodeClock
    ) -> None:
        self.receipts = receipts
        self._denials = denials
        self._age = age
        self._clock = clock
        self._turns = Turns(Share.DENIALS, clock, rate=_BYTES_PER_SECOND, burst=_BURST_BYTES)
        self._turn = 0
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Wake the followers, forever, at news and when a message is due: one wait serves all of them, who may be hundreds."""
        while True:
            turn = self._denials.turn
            self._turn += 1
            self._woken.set()
            self._woken = asyncio.Event()
            await first_of(self._denials.changed(turn), self._clock.sleep(_WORD_SECONDS))

    async def follow(self, follower: Follower, send: Callable[[Word], Awaitable[None]]) -> None:
        """Send it everything when it is its account's turn, then each denial as it arrives, and a message at least every 5 s, forever.

        Raises:
            Refused: EXHAUSTED when its connection has too many streams.
        """
        log, place, epoch, snapshot = self._denials, 0, None, True
        with self.receipts.follows(follower):
            while True:
                # 1. Send what it does not have yet, as fast as it reads: a slow reader costs only its place. Until the issuer has sent
                #    something there is no epoch, so the snapshot continues. A request for everything is charged by its size.
                if snapshot:
                    size = _DENIAL_BYTES * min(len(log), _MOST_TOLD)
                    async with self._turns.turn(follower.caller.account, size):
                        pass  # the next lines run before the event loop does anything else
                turn, piece = self._turn, log.after(place, most=_MOST_TOLD)
                more = piece.place < log.place or log.cursor is None
                epoch = epoch if more else log.cursor
                await send(Word(epoch=epoch, snapshot=snapshot, more=more, denials=piece, age=self._age()))
                place, snapshot = piece.place, snapshot and more
                # 2. When it has everything, wait for news or until a message is due.
                while place == log.place and turn == self._turn:
                    await self._woken.wait()
