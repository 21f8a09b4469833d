"""Room for those who join or return: who is at work, who waits, and who has to make room.

A turn at work is held only while the issuer works. Whoever owes an answer to a challenge, or waits for a turn, is one of a crowd, in which
one address cannot keep others out. What a join is, and how its messages travel: join.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cognomen.protocol.errors import Kind, Refused
from issuer.api.crowd import Crowd, CrowdLimits, KnownAddresses

__all__ = ["JoinLimits", "JoinRoom", "Visit"]

_SHARES = 4  # one address may have one in this many of the turns


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinLimits:
    """How many may join or return at once. Addresses from which nodes have proved themselves have as much room again.

    Args:
        at_work: for how many the issuer works at the same time; a quarter of them may be from one address.
        waiting: how many may owe an answer or wait for their turn; one more ends the oldest of the address that has the most.
        seconds: how long each may take, including its silence.
    """

    at_work: int = 32
    waiting: int = 256
    seconds: float = 10.0


class JoinRoom:
    """The room of one join door."""

    def __init__(self, known: KnownAddresses, limits: JoinLimits | None = None) -> None:
        self.limits = limits or JoinLimits()
        most = self.limits.waiting
        # One more than there are places: an address may have all of them, until somebody else comes.
        self._crowd: Crowd[Visit] = Crowd(CrowdLimits(strangers=most, per_address=most + 1, reserved=most), known)
        self._turns = {is_known: _Turns(self.limits.at_work) for is_known in (False, True)}

    @asynccontextmanager
    async def visit(self, address: bytes) -> AsyncIterator["Visit"]:
        """Hold room for one join or return, for a while.

        Raises:
            Refused: EXHAUSTED: it took too long, or has to make room.
        """
        deadline = asyncio.timeout(self.limits.seconds)
        visit = Visit(address, self._turns[self._crowd.is_known(address)], self._crowd, deadline)
        try:
            async with deadline:
                yield visit
        except TimeoutError as e:
            if not deadline.expired():
                raise
            if visit.has_to_go:
                raise Refused(
                    Kind.EXHAUSTED,
                    f"joins: expected at most {self.limits.waiting} that wait or owe an answer, found one more; try again",
                ) from e
            raise Refused(Kind.EXHAUSTED, f"join: took longer than {self.limits.seconds:g} s") from e


class Visit:
    """One join or return: it is at work, or one of those who wait.

    Args:
        deadline: ends what this visit does.
    """

    def __init__(self, address: bytes, turns: "_Turns", crowd: "Crowd[Visit]", deadline: asyncio.Timeout) -> None:
        self.has_to_go = False
        self._address = address
        self._turns = turns
        self._crowd = crowd
        self._deadline = deadline
        self._has_turn = self._is_over = False

    def end(self) -> None:
        """End it, because others need its room."""
        self.has_to_go = True
        if not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it while the block runs."""
        await self._take_turn()
        try:
            yield
        finally:
            self._is_over = True
            self._give_back()

    @asynccontextmanager
    async def owing(self) -> AsyncIterator[None]:
        """Within at_work: give the turn to others while the other end owes something, and then wait for another turn.

        Raises:
            Refused: INTERNAL: a node attestor asks twice at once, or after it has judged.
        """
        if not self._has_turn:
            raise Refused(Kind.INTERNAL, "challenge: expected one after the other, while the evidence is judged")
        self._give_back()
        self._wait()
        try:
            yield
        finally:
            self._crowd.leave(self)
        await self._take_turn()

    def _wait(self) -> None:
        gone = self._crowd.enter(self, self._address)
        if gone is not None:
            gone.end()

    async def _take_turn(self) -> None:
        turn = self._turns.ask(self._address)
        try:
            if not turn.done():
                self._wait()
            await turn
        except asyncio.CancelledError:
            self._turns.withdraw(self._address, turn)
            raise
        finally:
            self._crowd.leave(self)
        self._has_turn = True
        if self._is_over:  # a task that a node attestor left behind
            self._give_back()

    def _give_back(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turns.give_back(self._address)


class _Turns:
    """Turns at work, for one address after the other; no address has more than its share of them, even if nobody else waits."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._share = max(1, most // _SHARES)
        self._at_work: Counter[bytes] = Counter()
        self._waiting: dict[
            bytes, dict[asyncio.Future[None], None]
        ] = {}  # who is next, and of each address the oldest first

    def ask(self, address: bytes) -> asyncio.Future[None]:
        """Ask for a turn: done when it has come."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, {})[turn] = None
        self._go_on()
        return turn

    def withdraw(self, address: bytes, turn: asyncio.Future[None]) -> None:
        """Ask no more; a turn that came meanwhile goes to somebody else."""
        own = self._waiting.get(address, {})
        if turn not in own:
            self.give_back(address)
            return
        del own[turn]
        if not own:
            del self._waiting[address]

    def give_back(self, address: bytes) -> None:
        """Give back a turn."""
        self._free += 1
        self._at_work[address] -= 1
        if not self._at_work[address]:
            del self._at_work[address]
        self._go_on()

    def _go_on(self) -> None:
        while self._free and (address := self._next()) is not None:
            own = self._waiting.pop(address)
            turn = next(iter(own))
            del own[turn]
            if own:
                self._waiting[address] = own  # behind all others
            self._free -= 1
            self._at_work[address] += 1
            if not turn.done():
                turn.set_result(None)

    def _next(self) -> bytes | None:
        """The next address that has not all of its share; few have, so this is soon found."""
        return next((each for each in self._waiting if self._at_work[each] < self._share), None)
