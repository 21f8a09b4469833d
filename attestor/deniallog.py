"""The denials of this node's trust domain, in the order in which they came: whoever follows reads on from its place, at its own pace.

Decided here: what is denied, and as of which epoch. Not decided here: who is told (flows/serve_denials), how they outlive a restart
(flows/keep_denials). Belongs to one event loop; no method awaits, `changed` aside.
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
    """Denials in a row.

    Shape: numbers and ends as svid.denials.pack writes them.

    Args:
        place: where whoever has these stands.
    """

    place: int
    numbers: bytes
    ends: Sequence[int]


class DenialLog:
    """What is denied. A place in it is how many had ever come; it keeps its meaning when some are forgotten.

    They are kept packed beside the set that is asked: a follower, however slow, costs no memory but its place.
    """

    def __init__(self, denials: Iterable[Denial] = ()) -> None:
        self.cursor: Cursor | None = None
        """The epoch: every denial up to it is here. None: the issuer said nothing since the start."""
        self.news_at: Cursor | None = None
        """The epoch of the last news that followers were told of: whoever has taken that one lacks nothing."""
        self.place = 0
        """Where whoever has everything stands."""
        self.turn = 0
        """Another number after each news."""
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
        """Hold these, too, and stand at that cursor; whether any of them is new.

        Followers hear of denials, where a step that had some ends, and of another store; a cursor that moves otherwise is told with their
        next word.
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
        """What came after that place and is not forgotten, from the first on."""
        start, end = bisect_right(self._places, place), len(self._places)
        stop = end if most is None else min(end, start + most)
        return Piece(
            place=self.place if stop == end else self._places[stop - 1],
            numbers=bytes(self._numbers[SERIAL_BYTES * start : SERIAL_BYTES * stop]),
            ends=self._ends[start:stop],
        )

    async def changed(self, turn: int) -> None:
        """Return once there is news since that turn."""
        while self.turn == turn:
            await self._grown.wait()

    def forget(self, now: datetime) -> None:
        """Forget those whose credentials ended long ago."""
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
        # What is known stays as it is: whoever says an earlier end must not have it forgotten sooner.
        new = {denial.number: denial for denial in denials if denial.number not in self._denials}
        self._denials.add(new.values())
        numbers, ends = pack(new.values())
        self._numbers += numbers
        self._ends.extend(ends)
        self._places.extend(range(self.place + 1, self.place + len(new) + 1))
        self.place += len(new)


def number_of(token: JWTSVID) -> int | None:
    """What a denial would name a token by; None: it is not one of ours."""
    return number_of_jti(token.jti)
