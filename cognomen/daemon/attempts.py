"""What a daemon repeats for as long as it runs, with everything that is common to failures.

    attempts = Attempts(log, clock, trouble="pruning", over="pruned again", failure=Failure(event="not pruned", again=MINUTE), …)
    while True:
        with attempts.trying():
            await prune()
        await attempts.rest(after=MINUTE)

A refusal does not end the loop. It is logged, at once and then once a minute with a count; it is a trouble until an attempt succeeds; it is
counted; and the next rest is a delay, which may grow from one failure to the next. After a success, delays start small again. The pulse is
at work from `trying` to `rest`. A rest notices within 30 s that the machine slept or that the wall clock was set (cognomen/daemon/waiting),
so that no loop has to care about it.

The loop decides what to try, how to handle a refusal, and what wakes it.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeAlias

from prometheus_client import Counter

from cognomen.daemon.pulse import Pulse
from cognomen.daemon.retrylines import RetryLines, Tell
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import first_of, pass_time
from cognomen.protocol.errors import Refused
from svid.backoff import Backoff
from svid.clock import Clock

__all__ = ["Attempts", "Failure", "Wake"]

Wake: TypeAlias = Callable[[], Coroutine[None, None, object]]
"""Returns when there is something to do."""

_AT_ONCE = timedelta()


class _Log(Protocol):
    """The methods of a logger that we use here."""

    info: Tell
    warning: Tell
    error: Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How to handle a refusal.

    Args:
        event: the log event.
        again: the delay before the next attempt; the delays of a backoff grow from one to the next.
        at_most: the longest delay, whatever `again` says; None: no limit.
        is_error: log it as an error, else as a warning.
        hint: what to do about it, shown with the trouble as well; None: the hint of the refusal, only in the log.
    """

    event: str
    again: Backoff | timedelta
    at_most: timedelta | None = None
    is_error: bool = False
    hint: str | None = None


class Attempts:
    """The attempts of one loop.

    Args:
        trouble: its name among the troubles.
        over: the log event once it works again.
        failure: how to handle all refusals, or a function that says how to handle each.
        jitter: returns a number in [0, 1), for the delays of a backoff.
        failures: counts the failed attempts.
        is_woken_early: whether what wakes a rest also ends a delay.
    """

    def __init__(
        self,
        log: _Log,
        clock: Clock,
        *,
        pulse: Pulse,
        troubles: Troubles,
        trouble: str,
        over: str,
        failure: Failure | Callable[[Refused], Failure],
        jitter: Callable[[], float] = lambda: 0.0,
        failures: Counter | None = None,
        is_woken_early: bool = False,
    ) -> None:
        self._log = log
        self._clock = clock
        self._pulse = pulse
        self._troubles = troubles
        self._trouble = trouble
        self._failure = failure
        self._jitter = jitter
        self._failures = failures
        self._is_woken_early = is_woken_early
        self._lines = RetryLines(over)
        self._delays: dict[Backoff, Iterator[timedelta]] = {}
        self._delay: timedelta | None = None

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._delay is not None

    @contextmanager
    def trying(self, **fields: object) -> Iterator[None]:
        """Make an attempt: run the block. A Refused ends the block, but not the loop.

        Args:
            fields: log fields, if it fails.
        """
        self._pulse.work()
        try:
            yield
        except Refused as refused:
            self.failed(refused, **fields)
        else:
            self.well()
            self.begin_anew()

    def failed(self, refused: Refused, **fields: object) -> None:
        """Note that an attempt failed."""
        failure = self._failure if isinstance(self._failure, Failure) else self._failure(refused)
        self._delay = delay = self._next_delay(failure)
        self._lines.failed(
            self._log.error if failure.is_error else self._log.warning,
            failure.event,
            self._clock.monotonic(),
            reason=refused.detail,
            hint=refused.hint if failure.hint is None else failure.hint,
            of="",
            delay_seconds=round(delay.total_seconds(), 3),
            **fields,
        )
        if failure.hint is None:
            self._troubles.note(self._trouble, refused.detail)
        else:
            self._troubles.note_refused(self._trouble, refused, hint=failure.hint)
        if self._failures is not None:
            self._failures.inc()

    def put_off(self, again: Backoff) -> None:
        """Note that an attempt did not succeed, and that the caller has reported it."""
        self._delay = self._next(again)

    def well(self) -> None:
        """Note that it works: the trouble is over, and that is logged. Delays keep growing until `begin_anew`."""
        self._delay = None
        self._troubles.over(self._trouble)
        self._lines.over(self._log.info)

    def unneeded(self) -> None:
        """Note that what failed is no longer wanted: the trouble is over, although nothing succeeded."""
        self._delay = None
        self._troubles.over(self._trouble)

    def begin_anew(self) -> None:
        """Make the next delay a first one."""
        self._delays.clear()

    async def rest(self, *wakes: Wake, after: timedelta = _AT_ONCE) -> None:
        """Rest for that time, or until a wake returns; after a failed attempt, rest for its delay."""
        if self._delay is not None:
            after, wakes = self._delay, wakes if self._is_woken_early else ()
        self._pulse.rest()
        passing = pass_time(after.total_seconds(), self._clock)
        if wakes:
            await first_of(passing, *(wake() for wake in wakes))
        else:
            await passing

    def _next_delay(self, failure: Failure) -> timedelta:
        delay = self._next(failure.again) if isinstance(failure.again, Backoff) else failure.again
        return delay if failure.at_most is None else min(delay, failure.at_most)

    def _next(self, again: Backoff) -> timedelta:
        return next(self._delays.setdefault(again, again.delays(self._jitter)))
