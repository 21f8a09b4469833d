"""Explain why a process has the identities that it has, and not others.

Which entries are near, and which of them an ordinary user may see: cognomen/rulebook/nearness.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime

from attestor.cache import Cache
from attestor.flows.serve_workload import ServeWorkload
from attestor.turns import Turns
from cognomen.gate.caller import Caller, process_of
from cognomen.gate.shares import Share
from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector
from cognomen.rulebook.nearness import Near, concerns, nearest
from svid.clock import Clock
from svid.spiffeid import SpiffeID

__all__ = ["ExplainIdentity", "Explanation"]

_MOST_NEAR = 10
_PER_SECOND = 10  # per account
_REST = 3  # times the duration of the last one: endless requests, however many, leave the event loop to others


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a process shows, and what follows from it.

    Args:
        matches: each with the end of its SVID; None: it is not minted yet.
        near: those that nearly match, the nearest first.
        is_near_cut: whether there are more of them.
        unseen: which facts that entries ask for it cannot show, and why.
        left_out: how many of the matches do not fit in a message: always the last ones.
        observed: what it would be by entries that only observe.
        withdrawn: why nobody on this node gets an identity; empty: the node was not sent away.
    """

    node: SpiffeID
    pid: int
    uid: int
    selectors: frozenset[Selector]
    matches: Sequence[tuple[RegistrationEntry, datetime | None]]
    near: Sequence[Near]
    is_near_cut: bool = False
    unseen: Sequence[str] = ()
    left_out: int = 0
    withdrawn: str = ""
    observed: Sequence[RegistrationEntry] = ()


class ExplainIdentity:
    """The flow and its ports.

    Args:
        find: a process by its pid; its handle is closed here.
    """

    def __init__(
        self,
        *,
        cache: Cache,
        node: Callable[[], SpiffeID],
        workloads: ServeWorkload,
        clock: Clock,
        find: Callable[[int], Caller] = process_of,
    ) -> None:
        self._cache = cache
        self._node = node
        self._workloads = workloads
        self._find = find
        self._turns = Turns(Share.EXPLANATIONS, clock, rate=_PER_SECOND, burst=_PER_SECOND, rest=_REST)

    async def __call__(self, asker: Caller, pid: int, *, sees_all: bool) -> Explanation:
        """Explain the asker itself (pid 0), or the process with that pid.

        Args:
            sees_all: whether the asker may ask about every uid, and see entries that do not name that uid.

        Raises:
            Refused: NOT_FOUND if there is no such process; DENIED if it runs as another uid; UNAVAILABLE before the first snapshot,
                and when a workload attestor fails.
        """
        # 1. Find the process, and check that the asker may ask about it.
        with self._process(asker, pid) as process:
            if not sees_all and process.uid != asker.uid:
                raise Refused(
                    Kind.DENIED,
                    f"pid: expected a process of uid {asker.uid}, found one of another uid",
                    hint="ask as the attestor's user, or as root",
                )
            # 2. Find what it shows. That may take a while, but delays nobody else.
            selectors, unseen = await self._shown(process)
            # 3. Find what matches and what is near. Ordinary users wait for their turn, because it looks at every entry.
            async with nullcontext() if sees_all else self._turns.turn(asker.account, 1):
                view = self._cache.view(selectors)
                left_out = self._workloads.left_out(view)
                entries = self._cache.entries.values()
                told = entries if sees_all else (entry for entry in entries if concerns(entry, selectors))
                near = nearest(told, selectors, limit=_MOST_NEAR + 1)
        ends = {entry_id: held.svid.not_after for entry_id, held in view.svids.items()}
        return Explanation(
            node=self._node(),
            pid=process.pid,
            uid=process.uid,
            selectors=selectors,
            matches=[(entry, ends.get(entry.id)) for entry in view.entries],
            near=near[:_MOST_NEAR],
            is_near_cut=len(near) > _MOST_NEAR,
            unseen=unseen,
            left_out=left_out,
            withdrawn=self._cache.withdrawn,
            observed=view.observed,
        )

    async def _shown(self, process: Caller) -> tuple[frozenset[Selector], Sequence[str]]:
        """What a process shows and does not. This names an attestor that fails; what a workload gets is `internal error`."""
        try:
            return await self._workloads.attest(process), await self._workloads.unseen(process)
        except Refused as err:
            if err.kind is not Kind.INTERNAL:
                raise
            raise Refused(Kind.UNAVAILABLE, f"{err.detail}; the attestor's log says more") from err

    @contextmanager
    def _process(self, asker: Caller, pid: int) -> Iterator[Caller]:
        if pid in {0, asker.pid}:
            yield asker  # its connection owns the handle
            return
        found = self._find(pid)
        try:
            yield found
        finally:
            found.process.close()
