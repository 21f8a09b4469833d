"""Tell the issuer which processes were given SVIDs: at least twice a minute what is new, and once more at the end.

After a quiet quarter of a minute, a new process is reported within seconds. What is noted, and what becomes of it if there is too much:
attestor/uses. A kill loses what was noted since the last report.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from attestor.issuerclient.port import IssuerClient
from attestor.surroundings import Surroundings
from attestor.uses import Uses
from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.gate.caller import program_of
from cognomen.protocol.errors import Refused
from cognomen.protocol.uses import short_path
from svid.backoff import Backoff

__all__ = ["ReportUses"]

log = structlog.get_logger(__name__)

_PAUSE = timedelta(
    seconds=15
)  # after a report, if there was something to say; and how long a use that is not new may then wait
_GATHER = timedelta(seconds=1)  # programs often start together
_BACKOFF = Backoff(initial=timedelta(seconds=5), maximum=timedelta(seconds=30))
_LAST_SECONDS = 2.0  # how long the last report may delay the end
_SLICE = 16  # processes to look at before the event loop may do something else


class ReportUses:
    """The flow.

    Args:
        incarnation: that of the issuer's store, as the feed said; empty: it has not yet.
    """

    def __init__(
        self, uses: Uses, *, client: IssuerClient, around: Surroundings, incarnation: Callable[[], str]
    ) -> None:
        self._uses = uses
        self._incarnation = incarnation
        self._told = ""  # the incarnation that was told
        self._client = client
        self._around = around
        self._is_taken = True  # whether the issuer took the last report
        self._lost = 0
        self.pulse = Pulse()

    async def run(self) -> None:
        """Report for ever."""
        attempts = Attempts(
            log,
            self._around.clock,
            pulse=self.pulse,
            troubles=self._around.troubles,
            trouble="uses of identities",
            over="uses reported again",
            failure=Failure(event="uses not reported", again=_BACKOFF),
            jitter=self._around.jitter,
        )
        while True:
            if not attempts.is_failing:
                await attempts.rest(self._uses.is_fresh.wait, after=_PAUSE)
                await attempts.rest(after=_GATHER)
            has_asked = True  # also if it fails
            with attempts.trying():
                has_asked = await self()
            if has_asked:
                await attempts.rest(after=_PAUSE)

    async def look(self) -> None:
        """Look at the programs of new processes for ever, as soon as they have been served: many do not live long."""
        while True:
            await self._uses.is_new.wait()
            self._look(_SLICE)
            await asyncio.sleep(0)

    def _look(self, most: int) -> None:
        for row in self._uses.unseen(most):
            if row.process is not None:
                found = program_of(row.pid, row.process)
                row.program = found._replace(executable=short_path(found.executable))

    async def __call__(self) -> bool:
        """Report what is new now.

        Returns:
            Whether there was anything to ask the issuer for.

        Raises:
            Refused: as the issuer client.
        """
        has_asked = False
        self._uses.is_fresh.clear()
        incarnation = self._incarnation()
        if incarnation and incarnation != self._told:
            if self._told:
                self._uses.tell_again()
            self._told = incarnation
        mark = self._uses.mark()
        for batch in self._uses.batches():
            has_asked = True
            is_taken = await self._client.report_uses(batch.uses)
            if self._is_taken and not is_taken:
                log.warning("uses not taken", reason="the issuer is an older version", hint="logged only once")
            self._is_taken = is_taken
            if not is_taken:
                return has_asked
            self._uses.told(batch)
        self._uses.told_until(mark)
        if self._uses.lost > self._lost:
            log.warning("uses lost", count=self._uses.lost - self._lost, reason="too many until they could be reported")
            self._lost = self._uses.lost
        return has_asked

    async def finish(self) -> None:
        """Report once more, if that is possible at once, and say that it was the last time: from now on, nobody is given an SVID."""
        while self._uses.is_new.is_set():
            self._look(_SLICE)
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self()
                if (reported := self._uses.reported()) is not None:
                    await self._client.report_uses((), last=reported)
        except Refused as e:
            log.warning("last uses not reported", count=self._uses.untold, reason=e.detail)
        except TimeoutError:
            reason = f"the issuer did not answer within {_LAST_SECONDS:g} s"
            log.warning("last uses not reported", count=self._uses.untold, reason=reason)
