"""What waits until Ctrl-C: `--watch` for the next change or the next time to ask, `--wait` for others."""

import queue
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from typing import TypeVar

from cognomen.cli.output import warn
from cognomen.cli.reach import check_workload_api
from cognomen.daemon.errors import Refused
from svid.clock import SystemClock
from svid.errors import WorkloadAPIError
from svid.jwtsvid import JWTSVID

__all__ = ["Waiting", "changes", "heed_ctrl_c", "refetch_in", "tokens", "wait_for"]

_Found = TypeVar("_Found", bound=tuple[object, ...])

_SHORTEST_WAIT = timedelta(seconds=1)
_LOOK_SECONDS = 10.0  # how late the end of a sleep of the machine may be noticed
_LOOK_UP_SECONDS = 0.5
_QUIET_SECONDS = 30.0  # an attestor that starts is not worth a word
_AGAIN = timedelta(seconds=1)
_DENIED, _WHY = "PERMISSION_DENIED", " (cognomen why says more)"
_FOR_GOOD = frozenset({"INVALID_ARGUMENT", "UNIMPLEMENTED", "CANCELLED"})


def heed_ctrl_c() -> None:
    """Let Ctrl-C end what waits in a shell's background, too, which ignores it for whoever does not care."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Waiting:
    """Tells once what a watch waits for: an identity that is blocked may be there again later, and so may an attestor."""

    def __init__(self) -> None:
        self._told = ""
        self._since = SystemClock().monotonic()

    def tell(self, error: WorkloadAPIError) -> None:
        """Say what is missing, unless it was said.

        Raises:
            WorkloadAPIError: the error itself, where waiting is of no use.
        """
        if error.code in _FOR_GOOD:
            raise error
        is_quiet = error.code != _DENIED and SystemClock().monotonic() - self._since < _QUIET_SECONDS
        if str(error) != self._told and not is_quiet:
            self._told = str(error)
            warn(f"{error}; waiting for it{_WHY if error.code == _DENIED else ''}")

    def over(self) -> None:
        """What was waited for is there."""
        self._told = ""
        self._since = SystemClock().monotonic()


def wait_for(address: str | None) -> None:
    """Tell that nobody is there yet; who watches may have started first."""
    try:
        check_workload_api(address)
    except Refused as e:
        warn(f"{e.detail}; waiting for it")


def changes(
    look: Callable[[], _Found], *subscribes: Callable[[Callable[[], None]], Callable[[], None]]
) -> Iterator[_Found]:
    """Yield what is found, at once and when something else is; changes that nobody looked at count as one.

    A source may wake us for what we have found already: it sets its value before it tells of it. What `look` cannot have now
    (WorkloadAPIError) is waited for.

    Raises:
        WorkloadAPIError: it never comes.
    """
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()
    waiting = Waiting()
    seen: _Found | None = None
    with ExitStack() as leaving:
        for subscribe in subscribes:
            leaving.callback(subscribe(lambda: woken.put(None)))
        while True:
            try:
                found = look()
            except WorkloadAPIError as e:
                waiting.tell(e)
            else:
                waiting.over()
                if seen is None or any(new is not old for new, old in zip(found, seen, strict=True)):
                    seen = found
                    yield found
            with suppress(
                queue.Empty
            ):  # looked up now and then: Ctrl-C for one of gRPC's threads ends no wait of this one
                woken.get(timeout=_LOOK_UP_SECONDS)
            while not woken.empty():
                woken.get()


def tokens(fetch: Callable[[], Sequence[JWTSVID]]) -> Iterator[Sequence[JWTSVID]]:
    """Yield tokens, now and again at half of their life; what cannot be fetched now (WorkloadAPIError) is waited for.

    Raises:
        WorkloadAPIError: it never comes.
    """
    waiting = Waiting()
    while True:
        try:
            svids = fetch()
        except WorkloadAPIError as e:
            waiting.tell(e)
            _sleep(_AGAIN)
        else:
            waiting.over()
            yield svids
            _sleep(refetch_in(svids, now=SystemClock().now()))


def refetch_in(svids: Sequence[JWTSVID], *, now: datetime) -> timedelta:
    """How long to wait before tokens are fetched again: half of the time that they still live, by a clock that may be wrong."""
    waits = []
    for one in svids:
        left = one.expires_at - now
        life = left if one.issued_at is None else one.expires_at - one.issued_at
        waits.append((left if timedelta() < left <= life else life / 2) / 2)
    return max(min(waits), _SHORTEST_WAIT)


def _sleep(length: timedelta) -> None:
    """Sleep by a clock that goes on while the machine is asleep, unlike time.sleep's."""
    clock = SystemClock()
    end = clock.monotonic() + length.total_seconds()
    while (left := end - clock.monotonic()) > 0:
        time.sleep(min(left, _LOOK_SECONDS))
