"""The denials of this node's trust domain in order of arrival; each follower reads on from its own place, at its own pace.

Decided here: what is denied, and as of which epoch. Not decided here: who is sent it (flows/serve_denials), how it survives a restart
(flows/keep_denials). The log belongs to one event loop; only `changed` awaits.
"""

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cognomen.protocol.feed import Cursor
from svid.denials import SERIAL_BYTES, Denial, Denials, number_of_jti, pack
from svid.jwtsvid import JWTSVID

__all__ = ["DenialLog", "Piece", "number_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Consecutive denials.

    Shape: numbers and ends as svid.denials.pack writes them.

    Args:
        place: the place in the log of a follower that has these.
    """

    place: int
    numbers: bytes
    ends: Sequence[int]


class DenialLog:
    """What is denied. A place is a count of all denials that ever arrived, so it keeps its meaning when some are forgotten.

    The denials are kept packed, beside the set that answers lookups: even a slow follower costs no memory but its place.
    """

    def __init__(self, denials: Iterable[Denial] = ()) -> None:
        self.cursor: Cursor | None = None
        """The epoch: every denial up to it is here. None: nothing has arrived from the issuer since the start."""
        self.news_at: Cursor | None = None
        """The epoch of the last news sent to followers: a follower that has taken that one lacks nothing."""
        self.place = 0
        """The place of a follower that has everything."""
        self.turn = 0
        """A number that changes with each piece of news."""
        self._denials = Denials()
        self._places, self._numbers, self._ends = array("Q"), bytearray(), array("q")
        self._grown = asyncio.Event()
        self._is_amidst = False
        self._hold(denials)

    def __len__(self) -> int:
        return len(self._denials)

    def __contains__(self, number: int | None) -> bool:
        return number in self._denials

    def put(self, denials: Iterable[Denial], cursor: Cursor) -> bool:
        """Add these and move to that cursor; whether any of them is new.

        Followers wake for denials, at the end of a step that had some, and when the store changes. Any other move of the cursor reaches
        them with their next message.
        """
        before = self.place
        self._hold(denials := tuple(denials))
        is_other = self.cursor is None or self.cursor.incarnation != cursor.incarnation
        moved, self.cursor = cursor != self.cursor, cursor
        if denials or is_other or (moved and self._is_amidst):
            self.turn += 1
            self.news_at = cursor
            self._grown.set()
            self._grown = asyncio.Event()
        self._is_amidst = not moved and (bool(denials) or self._is_amidst)
        return self.place > before

    def after(self, place: int, *, most: int | None = None) -> Piece:
        """What arrived after that place and is not forgotten, oldest first."""
        start, end = bisect_right(self._places, place), len(self._places)
        stop = end if most is None else min(end, start + most)
        return Piece(
            place=self.place if stop == end else self._places[stop - 1],
            numbers=bytes(self._numbers[SERIAL_BYTES * start : SERIAL_BYTES * stop]),
            ends=self._ends[start:stop],
        )

    async def changed(self, turn: int) -> None:
        """Return when there has been news since that turn."""
        while self.turn == turn:
            await self._grown.wait()

    def forget(self, now: datetime) -> None:
        """Forget the denials of credentials that expired long ago."""
        self._denials.forget(now)
        if len(self._denials) == len(self._places):
            return
        places, numbers, ends = self._places, self._numbers, self._ends
        self._places, self._numbers, self._ends = array("Q"), bytearray(), array("q")
        for at, place in enumerate(places):
            packed = numbers[SERIAL_BYTES * at : SERIAL_BYTES * (at + 1)]
            if int.from_bytes(packed) in self._denials:
                self._places.append(place)
                self._numbers += packed
                self._ends.append(ends[at])

    def _hold(self, denials: Iterable[Denial]) -> None:
        # A known denial stays as it is: one that names an earlier end must not make us forget it sooner.
        new = {denial.number: denial for denial in denials if denial.number not in self._denials}
        self._denials.add(new.values())
        numbers, ends = pack(new.values())
        self._numbers += numbers
        self._ends.extend(ends)
        self._places.extend(range(self.place + 1, self.place + len(new) + 1))
        self.place += len(new)


def number_of(token: JWTSVID) -> int | None:
    """The number by which a denial would name a token; None: the token is not one of ours."""
    return number_of_jti(token.jti)
