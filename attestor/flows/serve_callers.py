"""Tell a process who may call its identities, now and at each change.

Only a process that has an identity is told, and only of its own. What the entries declare: attestor/decisions/declared. Who is refused
because of it: the service itself (svid/tls/declared).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from attestor.cache import Cache
from attestor.decisions.declared import Declared, declared_by, length, pieces
from attestor.nodeclock import NodeClock
from attestor.streams import Subscription
from attestor.turns import Turns
from cognomen.daemon.waiting import first_of
from cognomen.gate.caller import Caller
from cognomen.gate.shares import Share
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector

__all__ = ["CallersWord", "ServeCallers"]

_WORD_SECONDS = 5.0
_BURST_BYTES = 64 * 2**20  # a hundred processes of one account, after a restart, each with several long lists
_BYTES_PER_SECOND = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class CallersWord:
    """The next message for a process.

    Args:
        unchanged: the last list still holds.
        more: more messages of the same list follow.
        age: how long ago the issuer last sent something.
    """

    unchanged: bool
    more: bool
    declared: Sequence[Declared]
    age: timedelta


class ServeCallers:
    """The flow.

    Args:
        attest: finds which selectors a process shows now, or raises Refused (flows/serve_workload).
        age: returns how long ago the issuer last sent something.
    """

    def __init__(
        self,
        cache: Cache,
        attest: Callable[[Caller], Awaitable[frozenset[Selector]]],
        *,
        age: Callable[[], timedelta],
        clock: NodeClock,
    ) -> None:
        self._cache = cache
        self._attest = attest
        self._age = age
        self._clock = clock
        self._turns = Turns(Share.CALLERS, clock, rate=_BYTES_PER_SECOND, burst=_BURST_BYTES)

    async def follow(self, caller: Caller, send: Callable[[CallersWord], Awaitable[None]]) -> None:
        """Send it the whole list, again after each change, and a message at least every 5 s, until it is refused.

        Raises:
            Refused: DENIED once it has no identity; UNAVAILABLE before the first complete snapshot; UNAUTHENTICATED.
        """
        last: tuple[Declared, ...] | None = None
        # 1. Identify the caller.
        now = await self._attest(caller)
        while True:
            selectors = now
            with self._cache.subscribe(selectors, who=(caller.uid, caller.pid)) as subscription:
                while now == selectors:
                    # 2. Send the whole list if it is news. A slow reader gets the latest one, not each one in between.
                    declared = declared_by(self._cache.view(selectors).entries)
                    if not declared:
                        raise Refused(Kind.DENIED, "no identity issued", uid=caller.uid, pid=caller.pid)
                    if declared != last:
                        await self._send_list(caller, declared, send)
                        last = declared
                    # 3. Wait; say that all is as before when a message is due, and identify the caller again after a change.
                    if await self._is_woken(subscription):
                        now = await self._attest(caller)
                    else:
                        await send(CallersWord(unchanged=True, more=False, declared=(), age=self._age()))

    async def _send_list(
        self, caller: Caller, declared: tuple[Declared, ...], send: Callable[[CallersWord], Awaitable[None]]
    ) -> None:
        async with self._turns.turn(caller.account, length(declared)):
            pass  # whoever asks for more than others waits
        *head, tail = pieces(declared)
        for piece in head:
            await send(CallersWord(unchanged=False, more=True, declared=piece, age=self._age()))
        await send(CallersWord(unchanged=False, more=False, declared=tail, age=self._age()))

    async def _is_woken(self, subscription: Subscription) -> bool:
        """Wait for a change, but no longer than until a message is due."""
        is_woken = False

        async def wake() -> None:
            nonlocal is_woken
            await subscription.changed()
            is_woken = True

        await first_of(wake(), self._clock.sleep(_WORD_SECONDS))
        return is_woken
