"""The `unix` workload attestor: uid, gid, names, groups, and the executable of a caller, spelt as SPIRE spells them.

Decided here: which facts are believed. What the executable is: `executable`. What the facts entitle to: attestor/decisions/match.
Within one uid, path and digest tell programs apart by convention only: the boundary is the uid.
"""

import grp
import pwd
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from attestor.workloadattestor.executable import MAX_BYTES, Executables
from attestor.workloadattestor.threads import DaemonThreads, StartThread, Threads
from cognomen.daemon.caller import Caller, effective_uid
from cognomen.daemon.errors import Kind, Refused
from svid.clock import Clock
from svid.errors import SelectorError
from svid.selector import Selector

__all__ = ["UnixAttestor"]

_NAMES_SECONDS = 60.0
_NAMES = 1024


class UnixAttestor:
    """Vouches for what the kernel says about a caller.

    Args:
        clock: names of uids and gids are believed for a minute.
        max_executable_bytes: no digest of a larger executable is taken.
        start: how a thread is started for what may wait; None: as a daemon does.
    """

    def __init__(
        self, clock: Clock, *, max_executable_bytes: int = MAX_BYTES, start: StartThread | None = None
    ) -> None:
        start = start or DaemonThreads()
        self._users = _Names(lambda uid: pwd.getpwuid(uid).pw_name, Threads("user name", clock, start=start), clock)
        self._groups = _Names(lambda gid: grp.getgrgid(gid).gr_name, Threads("group names", clock, start=start), clock)
        self._executables = Executables(clock, max_bytes=max_executable_bytes, start=start)

    @property
    def name(self) -> str:
        """The type of its selectors."""
        return "unix"

    async def attest(self, caller: Caller, *, needed: Collection[str]) -> frozenset[Selector]:
        """Look at the caller now: uid and gid always, the rest where any entry needs it.

        Raises:
            Refused: UNAUTHENTICATED, when the process that connected has ended or runs under another uid; UNAVAILABLE, when an earlier
                look for that uid still waits.
        """
        _check_uid(caller)
        facts = [("uid", str(caller.uid)), ("gid", str(caller.gid))]
        if "unix:supplementary_gid" in needed:
            facts += [("supplementary_gid", str(gid)) for gid in caller.groups]
        if "unix:user" in needed:
            facts += [("user", name) for name in (await self._users.of([caller.uid], caller.uid)).values()]
        if "unix:group" in needed:
            facts += [("group", name) for name in (await self._groups.of([caller.gid], caller.uid)).values()]
        if "unix:supplementary_group" in needed:
            names = await self._groups.of(caller.groups, caller.uid)
            facts += [("supplementary_group", name) for name in names.values()]
        path, digest = "unix:path" in needed, "unix:sha256" in needed
        if path or digest:
            facts += await self._executables.look(caller, path=path, digest=digest)
        if not caller.is_alive():  # after the looks: so what was seen is this process's
            raise _gone(caller)
        return frozenset(_selectors(facts))


class _Names:
    """Names of numbers, looked up in a thread (a directory service may answer, or not) and remembered for a minute."""

    def __init__(self, look_up: Callable[[int], str], threads: Threads, clock: Clock) -> None:
        self._look_up = look_up
        self._threads = threads
        self._clock = clock
        self._known: OrderedDict[int, tuple[float, str | None]] = OrderedDict()

    async def of(self, numbers: Collection[int], uid: int) -> Mapping[int, str]:
        """The names of those that have one, for a caller of that uid."""
        names = self._remembered(numbers)

        def known() -> Mapping[int, str | None] | None:
            names.update(self._remembered(numbers))
            return names if len(names) == len(numbers) else None

        def look() -> Mapping[int, str | None]:
            return self._find([number for number in numbers if number not in names])

        found = await self._threads.run(uid, look, known=known, keep=self._remember)
        return {number: name for number, name in {**names, **found}.items() if name is not None}

    def _remembered(self, numbers: Collection[int]) -> dict[int, str | None]:
        now = self._clock.monotonic()
        return {number: known[1] for number in numbers if (known := self._known.get(number)) and known[0] > now}

    def _find(self, numbers: Collection[int]) -> Mapping[int, str | None]:
        found: dict[int, str | None] = {}
        for number in numbers:
            try:
                found[number] = self._look_up(number)
            except KeyError:
                found[number] = None
        return found

    def _remember(self, found: Mapping[int, str | None]) -> None:
        until = self._clock.monotonic() + _NAMES_SECONDS
        for number, name in found.items():
            self._known[number] = (until, name)
            self._known.move_to_end(number)
        while len(self._known) > _NAMES:
            self._known.popitem(last=False)


def _check_uid(caller: Caller) -> None:
    """Refuse a caller that runs under another uid than it connected with: the rest of /proc would speak of that one."""
    try:
        now = effective_uid(caller.pid)
    except OSError as err:
        raise _gone(caller) from err
    if now != caller.uid:
        raise Refused(
            Kind.UNAUTHENTICATED,
            f"caller: expected uid {caller.uid}, as which it connected, found {now}",
            pid=caller.pid,
        )


def _gone(caller: Caller) -> Refused:
    return Refused(
        Kind.UNAUTHENTICATED,
        "caller: expected the process that connected, found that it has ended",
        pid=caller.pid,
        uid=caller.uid,
    )


def _selectors(facts: Iterable[tuple[str, str]]) -> Iterator[Selector]:
    for key, value in facts:
        try:
            yield Selector("unix", f"{key}:{value}")
        except SelectorError:  # a name or path that no selector can hold matches no entry
            continue
