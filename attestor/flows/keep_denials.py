"""Keep denials on this node's disk, so that an attestor that starts without its issuer still refuses them; forget those past their use.

They take effect in memory at once (flows/follow_feed). The file follows, and the feed does not wait for it. What is denied:
attestor/deniallog.
"""

import asyncio
from datetime import timedelta
from functools import partial

import structlog

from attestor.deniallog import DenialLog
from attestor.state.port import DenialStore
from attestor.surroundings import Surroundings
from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.process.ownthreads import in_own_thread

__all__ = ["KeepDenials"]

log = structlog.get_logger(__name__)

_LOOK = timedelta(minutes=1)
_AGAIN = timedelta(seconds=10)


class KeepDenials:
    """The flow.

    Args:
        denials: it starts with those of the store.
    """

    def __init__(self, denials: DenialLog, *, store: DenialStore, around: Surroundings) -> None:
        self.pulse = Pulse()
        self._denials = denials
        self._store = store
        self._clock = around.clock
        self._attempts = Attempts(
            log,
            around.clock,
            pulse=self.pulse,
            troubles=around.troubles,
            trouble="denials on disk",
            over="denials kept again",
            failure=Failure(event="denials not kept, in force only until the attestor stops", again=_AGAIN),
            is_woken_early=True,
        )
        self._tried = denials.place
        self._kept: int | None = None
        """How much the store holds; None: unknown, so it is rewritten, which repairs whatever a failed write left behind."""
        self._count = 0
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Keep forever what arrives."""
        while True:
            turn, place, at = self._denials.turn, self._denials.place, self._clock.read()
            # 1. Forget what has expired by both clocks: refusing for too long does no harm.
            self._denials.forget(min(at.own, at.issuer))
            # 2. Write what is new, or everything if most of the store is forgotten by now.
            with self._attempts.trying():
                await self._keep()
            self._tell_tried(place)
            # 3. Wait until there is more, or for a while.
            await self._attempts.rest(partial(self._denials.changed, turn), after=_LOOK)

    async def tried(self, place: int) -> None:
        """Return when everything up to that place is on disk, or could not be written.

        What could not be written is acknowledged all the same. This node refuses it from the moment it arrived, which is what the issuer
        wants to know, and a withheld acknowledgement would hide that this node also takes each later revocation. The trouble is reported
        instead.
        """
        while self._tried < place:
            await self._moved.wait()

    async def _keep(self) -> None:
        kept, self._kept = self._kept, None  # until it is done: this task may be cancelled while the write continues
        is_whole = kept is None or 2 * len(self._denials) < self._count
        piece = self._denials.after(0 if is_whole or kept is None else kept)
        if is_whole:
            await in_own_thread(self._store.replace, piece)
            self._count = 0
        elif piece.ends:
            await in_own_thread(self._store.append, piece)
        self._kept = piece.place
        self._count += len(piece.ends)

    def _tell_tried(self, place: int) -> None:
        self._tried = place
        self._moved.set()
        self._moved = asyncio.Event()
