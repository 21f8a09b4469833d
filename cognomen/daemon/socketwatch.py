"""Watches whether a Unix socket of ours is still at its path, because a server does not notice that the file is gone."""

import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from svid.clock import Clock

__all__ = ["SocketWatch"]

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0


class SocketWatch:
    """Checks every second, and reports a trouble until the same socket is back.

    Args:
        path: where it was bound before `run`.
        what: the name of the socket.
        hint: how to bind it again.
    """

    def __init__(self, path: Path, what: str, *, hint: str, clock: Clock, troubles: Troubles) -> None:
        self.pulse = Pulse()
        self._path = path
        self._what = what
        self._hint = hint
        self._clock = clock
        self._troubles = troubles
        self._missing = ""

    def missing(self) -> Sequence[str]:
        """What keeps clients from connecting, in words; empty if nothing does."""
        return [f"{self._what}: {self._missing}"] if self._missing else []

    async def run(self) -> None:
        """Check until cancelled."""
        bound = _identity(self._path)
        while True:
            self.pulse.work()
            found = _identity(self._path)
            self._tell("" if found == bound else _gone(self._path, is_replaced=found is not None))
            self.pulse.rest()
            await self._clock.sleep(_LOOK_SECONDS)

    def _tell(self, missing: str) -> None:
        if missing:
            self._troubles.note(self._what, f"{missing}: {self._hint}")
        if missing and not self._missing:
            log.error("socket is gone, nobody can connect", socket=str(self._path), reason=missing, hint=self._hint)
        if not missing and self._missing:
            self._troubles.over(self._what)
            log.info("socket is back", socket=str(self._path))
        self._missing = missing


def _gone(path: Path, *, is_replaced: bool) -> str:
    return f"{path} was {'replaced' if is_replaced else 'removed'}, so nobody can connect"


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there; None if there is none that we can see."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
