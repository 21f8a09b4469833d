"""How `--watch` waits, until Ctrl-C, for the next change or for the time to ask again."""

import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from itertools import chain
from typing import TypeAlias, TypeVar

from cognomen.cli.heldtokens import HeldTokens
from cognomen.cli.output import warn
from cognomen.cli.reach import check_workload_api
from cognomen.cli.signals import reap_orphans, signals_kept
from cognomen.protocol.errors import Refused
from svid.clock import Clock, SystemClock
from svid.errors import WorkloadAPIError
from svid.jwtsvid import JWTSVID

__all__ = ["Absence", "Tokens", "Waiting", "changes", "refetch_in", "tokens"]

_Found = TypeVar("_Found", bound=tuple[object, ...])

Tokens: TypeAlias = Mapping[str, Sequence[JWTSVID]]
"""The tokens of all identities, by what they were asked for."""

_SHORTEST_WAIT = timedelta(seconds=1)
_LOOK_SECONDS = 15.0  # between two checks whether somebody listens
_LOOK_UP_SECONDS = 0.5
_QUIET_SECONDS = 30.0  # an attestor that is starting is not worth a warning
_AGAIN = timedelta(seconds=1)
_DENIED, _WHY = "PERMISSION_DENIED", " (cognomen why says more)"
_FOR_GOOD = frozenset({"INVALID_ARGUMENT", "UNIMPLEMENTED", "CANCELLED"})


class Waiting:
    """Reports once what a watch waits for: a blocked identity may come back later, and so may an attestor."""

    def __init__(self) -> None:
        self._told = ""  # the status code; the text that gRPC adds differs each time
        self._since = SystemClock().monotonic()

    def tell(self, error: WorkloadAPIError) -> None:
        """Report what is missing, unless that was reported.

        Raises:
            WorkloadAPIError: the error itself, if waiting does not help.
        """
        if error.code in _FOR_GOOD:
            raise error
        is_quiet = error.code != _DENIED and SystemClock().monotonic() - self._since < _QUIET_SECONDS
        if error.code != self._told and not is_quiet:
            self._told = error.code
            warn(f"{error}; waiting for it{_WHY if error.code == _DENIED else ''}")

    def over(self) -> None:
        """Note that what we waited for has come."""
        self._told = ""
        self._since = SystemClock().monotonic()


class Absence:
    """Reports once that nobody listens at the socket any more; meanwhile, what was fetched stays.

    Args:
        address: of the Workload API; None: the one in the environment.
    """

    def __init__(self, address: str | None, clock: Clock | None = None) -> None:
        self._address = address
        self._clock = clock or SystemClock()
        self._here_at = self._looked_at = self._clock.monotonic()
        self._is_told = False

    def tell(self) -> None:
        """Warn if nobody listens yet: the watch may have started before the attestor."""
        try:
            check_workload_api(self._address)
        except Refused as e:
            warn(f"{e.detail}; waiting for it")
            self._is_told = True

    def look(self) -> None:
        """Check now and then whether somebody listens, and warn if nobody did for a while."""
        now = self._clock.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            check_workload_api(self._address)
        except Refused as e:
            if not self._is_told and now - self._here_at >= _QUIET_SECONDS:
                self._is_told = True
                warn(f"{e.detail}; waiting for it")
        else:
            self._here_at, self._is_told = now, False


def changes(
    look: Callable[[], _Found],
    *subscribes: Callable[[Callable[[], None]], Callable[[], None]],
    is_due: Callable[[], bool] = lambda: False,
    at_rest: Callable[[], None] = lambda: None,
) -> Iterator[_Found | WorkloadAPIError]:
    """Yield what `look` finds, at once and after each change; changes that nobody looked at count as one.

    A source may wake us for a value that we already found, because it sets the value before it notifies us. If `look` fails for now
    (WorkloadAPIError), we wait. If there is no identity any more (PERMISSION_DENIED), that is also a change, and is yielded.

    Args:
        is_due: whether to yield the last value once more.
        at_rest: called now and then while nothing changes.

    Raises:
        WorkloadAPIError: waiting does not help.
    """
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()
    waiting = Waiting()
    seen: _Found | WorkloadAPIError | None = None
    with ExitStack() as leaving:
        for subscribe in subscribes:
            leaving.callback(subscribe(lambda: woken.put(None)))
        while True:
            found = _look(look, waiting) or seen
            if found is not None and (_is_news(found, seen) or is_due()):
                seen = found
                yield found
            with suppress(
                queue.Empty
            ):  # with a timeout: a Ctrl-C that reaches one of gRPC's threads does not end the wait of this one
                woken.get(timeout=_LOOK_UP_SECONDS)
            while not woken.empty():
                woken.get()
            at_rest()
            reap_orphans()


def _look(look: Callable[[], _Found], waiting: Waiting) -> _Found | WorkloadAPIError | None:
    try:
        found = look()
    except WorkloadAPIError as e:
        waiting.tell(e)
        return e if e.code == _DENIED else None
    waiting.over()
    return found


def _is_news(found: _Found | WorkloadAPIError, seen: _Found | WorkloadAPIError | None) -> bool:
    if isinstance(found, WorkloadAPIError) or isinstance(seen, WorkloadAPIError) or seen is None:
        return type(found) is not type(seen)
    return any(new is not old for new, old in zip(found, seen, strict=True))


def tokens(
    fetch: Callable[[], Tokens],
    held: HeldTokens,
    *,
    is_due: Callable[[], bool] = lambda: False,
    at_rest: Callable[[], None] = lambda: None,
    clock: Clock | None = None,
) -> Iterator[Tokens | WorkloadAPIError]:
    """Yield tokens now, and new ones at half of their life or when verifiers refuse the old ones; if they cannot be fetched now, wait.

    Half of their life counts from when they were fetched, whatever the caller does with them meanwhile.

    If there is no identity any more (PERMISSION_DENIED), that error is yielded; and so is an error with that code if verifiers refuse
    the old tokens and no new ones come.

    Args:
        held: the tokens that the caller has stored, by the time it asks for the next value.
        is_due: whether to yield the last value once more.
        at_rest: called now and then while there is nothing to yield.

    Raises:
        WorkloadAPIError: waiting does not help.
    """
    waiting = Waiting()
    clock = clock or SystemClock()
    is_denied = False
    with held.following():
        while True:
            try:
                found = _fetched(fetch, held)
            except WorkloadAPIError as e:
                waiting.tell(e)
                if e.code == _DENIED and (not is_denied or is_due()):
                    is_denied = True
                    yield e
                    held.hold(())
                _rest(_AGAIN)
                at_rest()
                continue
            waiting.over()
            is_denied = False
            each = list(chain(*found.values()))
            with signals_kept():
                held.hold(each)
            end = clock.monotonic() + refetch_in(each, now=clock.now()).total_seconds()
            yield found  # what is done with it may take as long as it lives
            while (left := end - clock.monotonic()) > 0:
                with (
                    signals_kept()
                ):  # one that raises while a lock is held would leave it locked for the source's threads
                    is_over = held.wait(min(left, _LOOK_UP_SECONDS))
                if is_over:
                    break
                reap_orphans()
                at_rest()
                if is_due():
                    yield found


def _fetched(fetch: Callable[[], Tokens], held: HeldTokens) -> Tokens:
    """Fetch tokens that verifiers accept.

    Raises:
        WorkloadAPIError: there are none now; PERMISSION_DENIED if the old ones must not stay either.
    """
    try:
        found = fetch()
    except WorkloadAPIError as e:
        if e.code == _DENIED or not held.are_refused():
            raise
        raise WorkloadAPIError(f"the token was revoked, and no newer one came: {e}", code=_DENIED) from e
    if any(map(held.is_refused, chain(*found.values()))):
        raise WorkloadAPIError("the token that came was revoked, or its authority has left the bundle", code=_DENIED)
    return found


def refetch_in(svids: Sequence[JWTSVID], *, now: datetime) -> timedelta:
    """How long to wait before fetching tokens again: half of their remaining life, by a clock that may be wrong."""
    waits = []
    for one in svids:
        left = one.expires_at - now
        life = left if one.issued_at is None else one.expires_at - one.issued_at
        waits.append((left if timedelta() < left <= life else life / 2) / 2)
    return max(min(waits), _SHORTEST_WAIT)


def _rest(length: timedelta) -> None:
    """Sleep for a moment; a longer wait is made of such moments, so that time counts while the machine sleeps."""
    time.sleep(length.total_seconds())
    reap_orphans()
