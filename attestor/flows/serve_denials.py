"""Tell local processes what is denied, as it comes.

Any local process may know: a number says nothing to whoever does not hold the credential. What is denied: attestor/deniallog; what they
say that they enforce: attestor/receipts.
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
from cognomen.protocol.feed import Cursor
from svid.denials import SERIAL_BYTES

__all__ = ["ServeDenials", "Word"]

_MOST_TOLD = 1024  # in a message of some 25 kB: what a follower that does not read keeps in memory
_DENIAL_BYTES = SERIAL_BYTES + 6  # with its end, as a message has it
_WORD_SECONDS = 5.0


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


class ServeDenials:
    """The flow.

    Args:
        receipts: what those who follow say that they enforce.
        age: says how long ago the issuer was heard.
    """

    def __init__(
        self, denials: DenialLog, receipts: Receipts, *, age: Callable[[], timedelta], clock: NodeClock
    ) -> None:
        self.receipts = receipts
        self._denials = denials
        self._age = age
        self._clock = clock
        self._turns = Turns(clock)
        self._turn = 0
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Wake the followers at news, and when it is time for a word, for ever: one wait for all of them, who may be hundreds."""
        while True:
            turn = self._denials.turn
            self._turn += 1
            self._woken.set()
            self._woken = asyncio.Event()
            await first_of(self._denials.changed(turn), self._clock.sleep(_WORD_SECONDS))

    async def follow(self, follower: Follower, send: Callable[[Word], Awaitable[None]]) -> None:
        """Tell it everything, when it is its uid's turn; then what comes, at once, and a word every 5 s at least, for ever.

        Raises:
            Refused: EXHAUSTED when its connection follows too often.
        """
        log, place, epoch, snapshot = self._denials, 0, None, True
        with self.receipts.follows(follower):
            while True:
                # 1. What it does not have yet, as it reads it: for a slow reader nothing is held but its place. Until the issuer was heard
                #    there is no epoch, so that the snapshot goes on. Whoever asks for everything costs more than the asking.
                if snapshot:
                    await self._turns.take(follower.caller.uid, _DENIAL_BYTES * min(len(log), _MOST_TOLD))
                turn, piece = self._turn, log.after(place, most=_MOST_TOLD)
                more = piece.place < log.place or log.cursor is None
                epoch = epoch if more else log.cursor
                await send(Word(epoch=epoch, snapshot=snapshot, more=more, denials=piece, age=self._age()))
                place, snapshot = piece.place, snapshot and more
                # 2. Once it has everything: wait for news, or until it is time for a word.
                while place == log.place and turn == self._turn:
                    await self._woken.wait()
