"""Keep denials on this node's disk, so that an attestor that starts without its issuer refuses what it refused before; forget what is over.

In memory they hold at once (flows/follow_feed); the file follows, and the feed does not wait for it. What is denied: attestor/deniallog.
"""

import asyncio

import structlog

from attestor.deniallog import DenialLog
from attestor.nodeclock import NodeClock
from attestor.state.port import DenialStore
from cognomen.daemon.errors import Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import first_of

__all__ = ["KeepDenials"]

log = structlog.get_logger(__name__)

_TROUBLE = "denials on disk"
_LOOK_SECONDS = 60.0
_AGAIN_SECONDS = 10.0


class KeepDenials:
    """The flow.

    Args:
        denials: they begin with those of the store.
    """

    def __init__(self, denials: DenialLog, *, store: DenialStore, clock: NodeClock, troubles: Troubles) -> None:
        self.pulse = Pulse()
        self._denials = denials
        self._store = store
        self._clock = clock
        self._troubles = troubles
        self._tried = denials.place
        self._kept: int | None = None
        """How far the store goes; None: nobody knows, so that it is written anew. That heals whatever a write may have left."""
        self._count = 0
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Keep what comes, for ever."""
        while True:
            self.pulse.work()
            turn, at = self._denials.turn, self._clock.read()
            # 1. What is over by both clocks: to refuse for too long does no harm.
            self._denials.forget(min(at.own, at.issuer))
            # 2. What is new; everything, where the store is mostly of what was forgotten.
            await self._keep()
            # 3. Until there is more, or time has passed.
            self.pulse.rest()
            rest = _LOOK_SECONDS if self._kept is not None else _AGAIN_SECONDS
            await first_of(self._denials.changed(turn), self._clock.sleep(rest))

    async def tried(self, place: int) -> None:
        """Return once everything up to that place is kept, or could not be.

        What could not be kept is acknowledged all the same: it is refused here from the moment it came, which is what the issuer asks
        about, and an acknowledgement held back would hide that this node takes each later revocation, too. The trouble is told instead.
        """
        while self._tried < place:
            await self._moved.wait()

    async def _keep(self) -> None:
        kept, self._kept = self._kept, None  # until it is done: this task may be cancelled, and the write go on
        is_whole = kept is None or 2 * len(self._denials) < self._count
        piece = self._denials.after(0 if is_whole or kept is None else kept)
        try:
            if is_whole:
                await asyncio.to_thread(self._store.replace, piece)
                self._count = 0
            elif piece.ends:
                await asyncio.to_thread(self._store.append, piece)
        except Refused as e:
            log.warning("denials not kept, in force until the attestor ends", reason=e.detail, hint=e.hint)
            self._troubles.note(_TROUBLE, e.detail)
        else:
            self._kept = piece.place
            self._count += len(piece.ends)
            self._troubles.over(_TROUBLE)
        self._tried = piece.place
        self._moved.set()
        self._moved = asyncio.Event()
