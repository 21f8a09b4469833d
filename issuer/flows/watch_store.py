"""Watch the files of the store: stop the issuer if they are taken away, report if they are damaged.

The datastore does the looking. It also makes sure, with each commit, that nothing is acknowledged once files are gone.
"""

from collections.abc import Callable
from datetime import timedelta

import structlog

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.waiting import pass_time
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Datastore
from issuer.surroundings import Surroundings

__all__ = ["CheckStore", "WatchStore"]

log = structlog.get_logger(__name__)

_LOOK_EVERY = timedelta(seconds=1)
_CHECK_EVERY = timedelta(days=1)
_CHECK_AGAIN = timedelta(minutes=1)
_SOUND = "soundness of the datastore"


class WatchStore:
    """Looks every second, because an issuer that writes nothing would not notice.

    Args:
        stop: ends the issuer.
    """

    def __init__(self, *, datastore: Datastore, around: Surroundings, stop: Callable[[], None]) -> None:
        self.datastore = datastore
        self.clock = around.clock
        self.troubles = around.troubles
        self.stop = stop
        self.pulse = Pulse()
        self.gone = ""

    async def run(self) -> None:
        """Look until something is gone; then stop the issuer, and keep looking until cancelled."""
        attempts = Attempts(
            log,
            self.clock,
            pulse=self.pulse,
            troubles=self.troubles,
            trouble="files of the datastore",
            over="files of the datastore checked again",
            failure=Failure(event="files of the datastore not checked", again=_LOOK_EVERY),
        )
        while True:
            with attempts.trying():
                self._take(await self.datastore.missing())
            await attempts.rest(after=_LOOK_EVERY)

    def _take(self, gone: str) -> None:
        if gone and not self.gone:
            self.gone = gone
            log.error("files of the datastore are gone, the issuer is stopping", reason=gone)
            self.stop()

    def check(self) -> None:
        """Raise if the issuer stopped because of this.

        Raises:
            Refused: UNAVAILABLE
        """
        if self.gone:
            raise Refused(
                Kind.UNAVAILABLE,
                f"datastore: {self.gone} under the running issuer, which stopped",
                hint="if it still exists, put it back where it was; else restore a backup: cognomen issuer restore FILE --state DIRECTORY",
            )


class CheckStore:
    """Reads the whole store when the issuer starts and once a day, in the background."""

    def __init__(self, *, datastore: Datastore, around: Surroundings) -> None:
        self.datastore = datastore
        self.clock = around.clock
        self.troubles = around.troubles
        self.pulse = Pulse()
        self.damage = ""

    async def __call__(self) -> bool:
        """Check now; returns whether the store could be read."""
        try:
            found = await self.datastore.check()
        except Refused as refused:
            self.troubles.note(_SOUND, f"not checked: {refused.detail}")
            log.warning("datastore not checked", reason=refused.detail, hint=refused.hint)
            return False
        self.damage = found
        if found:
            self.troubles.note_lasting(_SOUND, f"damaged: {found}")
            log.error(
                "datastore damaged",
                reason=found,
                hint="what can be read is still served; stop the issuer, move its state directory away, and restore the last backup:"
                " cognomen issuer restore FILE --state DIRECTORY",
            )
        else:
            self.troubles.over(_SOUND)
            log.info("datastore checked, nothing is damaged")
        return True

    async def run(self) -> None:
        """Check at once and then every day, until cancelled."""
        while True:
            rest = _CHECK_EVERY if await self() else _CHECK_AGAIN
            await pass_time(rest.total_seconds(), self.clock)
