"""The `unix` workload attestor: the uid, gid, names, groups and executable of a caller, in SPIRE's spelling.

Decided here: which facts are believed. What the executable is: `executable`. What a caller gets for its facts: cognomen/rulebook/matching.
Within one uid, path and digest distinguish programs by convention only: the boundary is the uid.
"""

import grp
import pwd
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from attestor.workloadattestor.executable import MAX_BYTES, Executables
from attestor.workloadattestor.threads import DaemonThreads, StartThread, Threads
from cognomen.daemon.plugins import NoSettings, Plugin
from cognomen.gate.accounts import AccountID
from cognomen.gate.caller import Caller, effective_uid
from cognomen.gate.shares import Share, Shelf
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector, SelectorError
from svid.clock import Clock

__all__ = ["PLUGIN", "UnixAttestor"]

_NAMES_SECONDS = 60.0
_NAMES = 1024


class UnixAttestor:
    """Vouches for what the kernel says about a caller.

    Args:
        clock: names of uids and gids are believed for a minute.
        max_executable_bytes: no digest of a larger executable is taken.
        start: how to start a thread for work that may block; None: as a daemon does.
    """

    def __init__(
        self, clock: Clock, *, max_executable_bytes: int = MAX_BYTES, start: StartThread | None = None
    ) -> None:
        start = start or DaemonThreads()
        self._users = _Names(
            lambda uid: pwd.getpwuid(uid).pw_name,
            Threads(Share.USER_NAMES, "user name", clock, start=start),
            Share.KNOWN_USERS,
            clock,
        )
        self._groups = _Names(
            lambda gid: grp.getgrgid(gid).gr_name,
            Threads(Share.GROUP_NAMES, "group names", clock, start=start),
            Share.KNOWN_GROUPS,
            clock,
        )
        self._executables = Executables(clock, max_bytes=max_executable_bytes, start=start)

    @property
    def name(self) -> str:
        """The type of its selectors."""
        return "unix"

    async def attest(self, caller: Caller, *, needed: Collection[str]) -> frozenset[Selector]:
        """Look at the caller now: uid and gid always, the rest if any entry needs it.

        Raises:
            Refused: UNAUTHENTICATED when the process that connected has ended or runs under another uid; UNAVAILABLE when an earlier
                look for that uid still waits.
        """
        _check_uid(caller)
        facts = [("uid", str(caller.uid)), ("gid", str(caller.gid))]
        if "unix:supplementary_gid" in needed:
            facts += [("supplementary_gid", str(gid)) for gid in caller.groups]
        if "unix:user" in needed:
            facts += [("user", name) for name in (await self._users.of([caller.uid], caller.account)).values()]
        if "unix:group" in needed:
            facts += [("group", name) for name in (await self._groups.of([caller.gid], caller.account)).values()]
        if "unix:supplementary_group" in needed:
            names = await self._groups.of(caller.groups, caller.account)
            facts += [("supplementary_group", name) for name in names.values()]
        path, digest = "unix:path" in needed, "unix:sha256" in needed
        if path or digest:
            facts += await self._executables.look(caller, path=path, digest=digest)
        if not caller.is_alive():  # checked last, so what was seen belongs to this process
            raise _gone(caller)
        return frozenset(_selectors(facts))

    async def unseen(self, caller: Caller, *, needed: Collection[str]) -> Sequence[str]:
        """Say why the path or the digest of its executable is not among the facts, if an entry needs them.

        Raises:
            Refused: as attest.
        """
        return await self._executables.unseen(caller, path="unix:path" in needed, digest="unix:sha256" in needed)


class _Names:
    """Names of numbers, looked up in a thread (a directory service may not answer) and remembered for a minute."""

    def __init__(self, look_up: Callable[[int], str], threads: Threads, share: Share, clock: Clock) -> None:
        self._look_up = look_up
        self._threads = threads
        self._clock = clock
        self._known: Shelf[int, tuple[float, str | None]] = Shelf(share, _NAMES)

    async def of(self, numbers: Collection[int], whose: AccountID) -> Mapping[int, str]:
        """The names of those that have one, for a caller of that account."""
        names = self._remembered(numbers)

        def known() -> Mapping[int, str | None] | None:
            names.update(self._remembered(numbers))
            return names if len(names) == len(numbers) else None

        def look() -> Mapping[int, str | None]:
            return self._find([number for number in numbers if number not in names])

        found = await self._threads.run(whose, look, known=known, keep=partial(self._remember, whose))
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

    def _remember(self, whose: AccountID, found: Mapping[int, str | None]) -> None:
        until = self._clock.monotonic() + _NAMES_SECONDS
        for number, name in found.items():
            self._known.put(whose, number, (until, name))


def _check_uid(caller: Caller) -> None:
    """Refuse a caller that runs under another uid than it connected with: the rest of /proc would describe that one."""
    try:
        now = effective_uid(caller.pid)
    except OSError as err:
        raise _gone(caller) from err
    if now != caller.uid:
        raise Refused(
            Kind.UNAUTHENTICATED,
            f"caller: it connected as uid {caller.uid} but now runs as uid {now}",
            pid=caller.pid,
        )


def _gone(caller: Caller) -> Refused:
    return Refused(
        Kind.UNAUTHENTICATED,
        "caller: the process that connected has ended",
        pid=caller.pid,
        uid=caller.uid,
    )


def _selectors(facts: Iterable[tuple[str, str]]) -> Iterator[Selector]:
    for key, value in facts:
        try:
            yield Selector("unix", f"{key}:{value}")
        except SelectorError:  # a name or path that no selector can hold matches no entry
            continue


PLUGIN: Plugin[NoSettings, Clock, UnixAttestor] = Plugin(NoSettings, lambda _settings, clock: UnixAttestor(clock))
