"""Which processes were given SVIDs, until the issuer has been told: one row for each entry and connection.

Those that an entry which only observes would have given SVIDs have rows of their own, and one for each audience that it would refuse.

Decided here: what is noted on the way to a workload, and what becomes of it if there is too much. Which program a process runs, and when
the issuer is told: flows/report_uses. The rows belong to one event loop; no method awaits.

On that way a known row gets a new time, and a new one a place; nothing is asked of the kernel. If there is no room, the account that keeps
most loses its oldest row. What the issuer has not been told of it is counted together with another row of the same entry and uid: one
without a pid and, if both run different programs, without a program.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import NamedTuple, TypeAlias

from attestor.decisions.clocks import Reading
from attestor.nodeclock import NodeClock
from cognomen.gate.accounts import UNNAMED, AccountID
from cognomen.gate.caller import Caller, ProcessHandle, Program
from cognomen.gate.shares import Share, Shelf
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.uses import (
    MOST_AUDIENCES,
    MOST_REPORTED,
    MOST_UNREPORTED,
    OTHER_AUDIENCES,
    EntryUse,
    ReportedUses,
    short_path,
)

__all__ = ["Batch", "Row", "Uses"]

_MOST_ROWS = 4096
_MOST_BATCH_BYTES = 256 * 1024  # half of what the issuer's door accepts
_MOST_COMPARED = 64  # rows, to find one with the same program
_FIELDS_BYTES = 144  # at most, of a use without its texts
_UNKNOWN = Program(started=0, executable="")

_Key: TypeAlias = tuple[EntryID, object, str | None]
_Group: TypeAlias = tuple[EntryID, int, int, str | None]


class _State(NamedTuple):
    """What changes with each use."""

    last: float
    x509: bool
    jwt: bool
    processes: int
    times: int


@dataclass(slots=True, eq=False)
class Row:
    """Uses of an entry by one connection or, if there is no process, by several that are counted together.

    It keeps nothing else of the caller: that may be large.

    Args:
        first, last: by the monotonic clock.
        pid: 0: several processes.
        process: the handle of the connection's; None: several processes.
        program: None: nobody has looked yet.
        observed: None: the SVIDs were given; empty: they would have been; otherwise: the audience for which one would have been refused.
        times: how often.
        told: what the issuer has been told; None: nothing.
    """

    entry: RegistrationEntry
    uid: int
    gid: int
    account: AccountID
    first: float
    last: float
    pid: int = 0
    process: ProcessHandle | None = None
    program: Program | None = None
    processes: int = 1
    x509: bool = False
    jwt: bool = False
    observed: str | None = None
    times: int = 0
    told: _State | None = None

    @property
    def group(self) -> _Group:
        """What it has in common with those that it may be counted with."""
        return self.entry.id, self.uid, self.gid, self.observed

    @property
    def key(self) -> _Key:
        """Its own connection, or the program that several have."""
        who = (self.uid, self.gid, self.executable) if self.process is None else self.process
        return self.entry.id, who, self.observed

    @property
    def state(self) -> _State:
        """What changes with each use."""
        return _State(self.last, self.x509, self.jwt, self.processes, self.times)

    @property
    def untold_times(self) -> int:
        """How often since the issuer was last told."""
        return self.times if self.told is None else self.times - self.told.times

    @property
    def is_over(self) -> bool:
        """Whether its connection has ended; one for several connections is used anew each time."""
        return self.process is None or self.process.fileno() < 0

    @property
    def executable(self) -> str:
        """The path of the program; empty: unknown."""
        return "" if self.program is None else self.program.executable


class Batch(NamedTuple):
    """What one report says, and the rows that it tells of, as they were."""

    uses: Sequence[EntryUse]
    rows: Sequence[tuple[Row, _State]]


class Uses:
    """The uses that the issuer may not have been told of.

    Attributes:
        is_new: set when somebody should look at the programs of new rows, which clears it.
        is_fresh: set when there is a new row; whoever reports clears it.
        lost: how many rows were lost because there was no room, even counted together.
    """

    def __init__(self, clock: NodeClock) -> None:
        self.is_new, self.is_fresh = asyncio.Event(), asyncio.Event()
        self.lost = 0
        self._clock = clock
        self._since = self._until = clock.monotonic()  # the issuer has stored every use between them
        self._kept: Shelf[_Key, Row] = Shelf(Share.USES, _MOST_ROWS)
        self._unseen: dict[_Key, Row] = {}
        self._groups: dict[_Group, dict[_Key, Row]] = {}
        self._audiences: dict[EntryID, set[str]] = {}  # those that are told apart

    def note(
        self, caller: Caller, entries: Collection[RegistrationEntry], *, x509: bool = False, jwt: bool = False
    ) -> None:
        """Note that a caller was given SVIDs of these entries now."""
        self._note(caller, entries, None, x509=x509, jwt=jwt)

    def note_observed(
        self, caller: Caller, entries: Collection[RegistrationEntry], *, x509: bool = False, jwt: bool = False
    ) -> None:
        """Note that a caller would have been given SVIDs of these entries now, which only observe."""
        self._note(caller, entries, "", x509=x509, jwt=jwt)

    def note_refused(self, caller: Caller, entry: RegistrationEntry, audience: str) -> None:
        """Note that a caller would have been refused a JWT-SVID of this entry, which only observes, for this audience."""
        known = self._audiences.setdefault(entry.id, set())
        told = short_path(audience)
        if told not in known:
            if len(known) < MOST_AUDIENCES:
                known.add(told)
            else:
                told = OTHER_AUDIENCES
        self._note(caller, [entry], told, jwt=True)

    def _note(
        self,
        caller: Caller,
        entries: Collection[RegistrationEntry],
        observed: str | None,
        *,
        x509: bool = False,
        jwt: bool = False,
    ) -> None:
        now = self._clock.monotonic()
        for entry in entries:
            row = self._kept.get((entry.id, caller.process, observed))
            if row is None:
                row = self._begin(caller, entry, now, observed)
            row.last = now
            row.times += 1
            row.x509 |= x509
            row.jwt |= jwt

    def unseen(self, most: int) -> Sequence[Row]:
        """Up to that many of the rows whose programs nobody has looked at, oldest first; from now on they count as seen."""
        keys = list(self._unseen)[:most]
        if len(keys) == len(self._unseen):
            self.is_new.clear()
        return [self._unseen.pop(key) for key in keys]

    def batches(self) -> Iterator[Batch]:
        """What the issuer has not been told, in reports of at most MOST_REPORTED rows; a row that changes meanwhile stays untold.

        Nothing more is to come for what the issuer knows and whose connection has ended, or that was counted together: it is forgotten.
        """
        at = self._clock.read()
        untold = []
        for row in list(self._kept.values()):
            if row.told != row.state:
                untold.append(row)
            elif row.is_over:
                self._drop(row)
        uses: list[EntryUse] = []
        rows: list[tuple[Row, _State]] = []
        size = 0
        for row in untold:
            if row.process is not None and row.program is None:
                continue  # somebody is about to look
            use = _use(row, at)
            size += (own := _size(use))
            if uses and (size > _MOST_BATCH_BYTES or len(uses) == MOST_REPORTED):
                yield Batch(uses, rows)
                uses, rows, size = [], [], own
            uses.append(use)
            rows.append((row, row.state))
        if uses:
            yield Batch(uses, rows)

    @property
    def untold(self) -> int:
        """How many rows the issuer has not been told of as they are now."""
        return sum(row.told != row.state for row in self._kept.values())

    def mark(self) -> float:
        """The moment, by the monotonic clock, up to which `batches` would now report everything: what nobody has looked at waits."""
        return min((row.first for row in self._unseen.values()), default=self._clock.monotonic())

    def told_until(self, mark: float) -> None:
        """The issuer has stored everything up to that mark."""
        self._until = mark

    def reported(self) -> ReportedUses | None:
        """The time of which the issuer has stored every use; None: it has to learn that there is a gap."""
        now = self._clock.monotonic()
        if self._since > self._until:
            return None
        return ReportedUses(since=timedelta(seconds=now - self._since), until=timedelta(seconds=now - self._until))

    def tell_again(self) -> None:
        """The issuer came back from a backup, and may know nothing of what it was told."""
        for row in self._kept.values():
            row.told = None

    def told(self, batch: Batch) -> None:
        """The issuer has stored a report."""
        for row, state in batch.rows:
            row.told = state

    def _begin(self, caller: Caller, entry: RegistrationEntry, now: float, observed: str | None) -> Row:
        row = Row(
            entry=entry,
            uid=caller.uid,
            gid=caller.gid,
            account=caller.account,
            first=now,
            last=now,
            pid=caller.pid,
            process=caller.process,
            observed=observed,
        )
        self._unseen[row.key] = row
        self.is_new.set()
        self.is_fresh.set()
        self._keep(row)
        return row

    def _keep(self, row: Row) -> None:
        self._groups.setdefault(row.group, {})[row.key] = row
        dropped = self._kept.put(row.account, row.key, row)
        if dropped is not None:
            self._left(dropped)
            if dropped.told != dropped.state:
                self._count_with_others(dropped)

    def _drop(self, row: Row) -> None:
        self._kept.drop(row.key)
        self._left(row)

    def _left(self, row: Row) -> None:
        self._unseen.pop(row.key, None)
        group = self._groups[row.group]
        del group[row.key]
        if not group:
            del self._groups[row.group]

    def _count_with_others(self, row: Row) -> None:
        """Count a row that had to go together with another one of the same entry and uid, with the same program if there is one."""
        others = [*islice(self._groups.get(row.group, {}).values(), _MOST_COMPARED)]
        alike = [other for other in others if row.executable and other.executable == row.executable]
        for executable, partners in ((row.executable, alike), ("", others)):
            wide = _wide(row, executable)
            known = self._kept.get(wide.key)
            if known is not None:
                _merge(known, row)
                return
            if partners:  # it makes room for the row that counts both
                self._drop(partners[0])
                if partners[0].told != partners[0].state:
                    _merge(wide, partners[0])
                self._keep(wide)
                return
        if row.observed is not None:
            return  # nobody concludes anything from what is missing there
        self.lost += 1
        # Only a time that begins so much later shows the issuer that this is a gap, and not a short restart.
        self._since = self._clock.monotonic() + 2 * MOST_UNREPORTED.total_seconds()


def _wide(row: Row, executable: str) -> Row:
    """A row that counts this one, and can count others with that program; empty: with any."""
    return Row(
        entry=row.entry,
        uid=row.uid,
        gid=row.gid,
        account=row.account,
        first=row.first,
        last=row.last,
        program=Program(started=0, executable=executable),
        processes=row.processes,
        x509=row.x509,
        jwt=row.jwt,
        observed=row.observed,
        times=row.untold_times,
    )


def _merge(into: Row, row: Row) -> None:
    into.first, into.last = min(into.first, row.first), max(into.last, row.last)
    into.processes += row.processes
    into.times += row.untold_times
    into.x509 |= row.x509
    into.jwt |= row.jwt


def _use(row: Row, at: Reading) -> EntryUse:
    program = row.program or _UNKNOWN
    return EntryUse(
        entry_id=row.entry.id,
        uid=row.uid,
        account=row.uid if row.account == UNNAMED else row.account,
        gid=row.gid,
        pid=row.pid,
        started=program.started,
        executable=short_path(program.executable or _named(row)),
        processes=row.processes,
        first_at=at.issuer - timedelta(seconds=at.monotonic - row.first),
        last_at=at.issuer - timedelta(seconds=at.monotonic - row.last),
        x509=row.x509,
        jwt=row.jwt,
        is_observed=row.observed is not None,
        times=1 if row.observed is None else row.untold_times,
        refused_audience=row.observed or "",
    )


def _size(use: EntryUse) -> int:
    """How many bytes of a message it takes, at most."""
    return _FIELDS_BYTES + len(use.executable.encode()) + len(use.refused_audience.encode())


def _named(row: Row) -> str:
    """The path that the entry demands, which every process that matches it has; empty: it demands none."""
    paths = (one.value.partition("path:") for one in row.entry.selectors if one.type == "unix")
    return next((path for kind, found, path in paths if found and not kind), "")
