"""Explain to somebody why a process has the identities that it has, and not others.

Which entries are near, and which of them an ordinary user is told: attestor/decisions/explanation.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from weakref import WeakValueDictionary

from attestor.cache import Cache
from attestor.decisions.explanation import Near, concerns, nearest
from attestor.flows.serve_workload import ServeWorkload
from cognomen.daemon.caller import Caller, process_of
from cognomen.daemon.errors import Kind, Refused
from svid.clock import Clock
from svid.entry import RegistrationEntry
from svid.selector import Selector
from svid.spiffeid import SpiffeID

__all__ = ["ExplainIdentity", "Explanation"]

_MOST_NEAR = 10
_REST_SECONDS = 0.1  # after each: whoever asks without end leaves the event loop to others


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a process shows, and what follows from it.

    Args:
        matches: each with the end of its SVID; None: it is not minted yet.
    """

    node: SpiffeID
    pid: int
    uid: int
    selectors: frozenset[Selector]
    matches: Sequence[tuple[RegistrationEntry, datetime | None]]
    near: Sequence[Near]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainIdentity:
    """The flow and its ports.

    Args:
        find: a process by its pid; its handle is closed here.
    """

    cache: Cache
    node: Callable[[], SpiffeID]
    workloads: ServeWorkload
    clock: Clock
    find: Callable[[int], Caller] = process_of
    _last: asyncio.Lock = field(default_factory=asyncio.Lock)
    _of_uid: MutableMapping[int, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def __call__(self, asker: Caller, pid: int, *, sees_all: bool) -> Explanation:
        """Explain the asker itself (pid 0), or the process with that pid.

        Args:
            sees_all: whether the asker may ask about every uid, and hear of entries that do not name that uid.

        Raises:
            Refused: NOT_FOUND without such a process; DENIED where it runs as another uid; UNAVAILABLE before the first snapshot.
        """
        # 1. Whom is it about, and may the asker know?
        with self._process(asker, pid) as process:
            if not sees_all and process.uid != asker.uid:
                raise Refused(
                    Kind.DENIED,
                    f"pid: expected a process of uid {asker.uid}, found one of another",
                    hint="ask as the attestor's user, or as root",
                )
            # 2. What does it show? That may take its time, at the cost of nobody else.
            selectors = await self.workloads.attest(process)
            # 3. What matches, what is near? Ordinary users one at a time: it means a look at every entry.
            async with nullcontext() if sees_all else self._turn(asker.uid):
                view = self.cache.view(selectors)
                entries = self.cache.entries.values()
                told = entries if sees_all else (entry for entry in entries if concerns(entry, selectors))
                near = nearest(told, selectors, limit=_MOST_NEAR)
                if not sees_all:
                    await self.clock.sleep(_REST_SECONDS)
        ends = {entry_id: held.svid.not_after for entry_id, held in view.svids.items()}
        return Explanation(
            node=self.node(),
            pid=process.pid,
            uid=process.uid,
            selectors=selectors,
            matches=[(entry, ends.get(entry.id)) for entry in view.entries],
            near=near,
        )

    @asynccontextmanager
    async def _turn(self, uid: int) -> AsyncIterator[None]:
        """Wait for one's turn: behind one's own questions first, and then, with the first of these, behind those of other uids."""
        own = self._of_uid.setdefault(uid, asyncio.Lock())
        async with own, self._last:
            yield

    @contextmanager
    def _process(self, asker: Caller, pid: int) -> Iterator[Caller]:
        if pid in {0, asker.pid}:
            yield asker  # its handle is its connection's
            return
        found = self.find(pid)
        try:
            yield found
        finally:
            found.process.close()
