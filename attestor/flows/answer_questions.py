"""Answer what the issuer asks on the feed: which programs of this node would gain or lose an identity if its entries changed.

Known are the programs with an open stream, and those that called lately (attestor/recentcallers). What they showed then counts; only if the
question needs a fact that nobody looked for is a program looked at again. Nothing of a question is kept, and whatever takes long is done
in slices, so that it delays neither a renewal nor a caller. What a change means to a program: attestor/decisions/effects.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from attestor.cache import Cache
from attestor.decisions.effects import answer_of, effect, facts_of, program_change
from attestor.issuerclient.port import AnswerDoor
from attestor.recentcallers import RecentCaller, RecentCallers, since_boot
from attestor.surroundings import Surroundings
from cognomen.daemon.pulse import Pulse
from cognomen.gate.caller import Caller, process_of, program_of
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import QuestionIs
from cognomen.protocol.questions import ANSWER_WITHIN, MOST_ENTRIES, Answer, ProgramChange
from cognomen.protocol.selector import Selector
from cognomen.protocol.uses import short_path
from cognomen.rulebook.matching import Index

__all__ = ["AnswerQuestions"]

log = structlog.get_logger(__name__)

_MOST_OPEN = 4  # questions of which parts have come, as the issuer asks at most
_SLICE = 32  # programs, or entries, before the event loop may do something else
_LOOK_SECONDS = ANSWER_WITHIN.total_seconds() / 2  # for looking at programs again: the answer has to arrive
_TICKS = os.sysconf("SC_CLK_TCK")

Item = TypeVar("Item")
Attest = Callable[[Caller, frozenset[str]], Awaitable[frozenset[Selector]]]
"""Finds what a process shows, with these facts among what is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question, ready to be answered.

    Args:
        touched: the entries that would be new, different or gone.
        needed: the facts that the new and different ones need.
        until: when no program is looked at any more, by the monotonic clock.
    """

    put: Index
    touched: Collection[EntryID]
    needed: frozenset[str]
    until: float


class AnswerQuestions:
    """The flow and its ports."""

    def __init__(self, cache: Cache, recent: RecentCallers, *, door: AnswerDoor, around: Surroundings) -> None:
        self.pulse = Pulse()
        self._cache, self._recent, self._door = cache, recent, door
        self._clock = around.clock
        self._attest: Attest | None = None
        self._parts: dict[str, list[QuestionIs]] = {}
        self._whole: list[Sequence[QuestionIs]] = []
        self._has_whole = asyncio.Event()

    def examine_with(self, attest: Attest) -> None:
        """Look at programs again in this way; until then, a program whose facts do not suffice is unknown."""
        self._attest = attest

    def take(self, questions: Iterable[QuestionIs]) -> None:
        """Take what came on the feed; a question is answered once its last part has come."""
        for part in questions:
            parts = self._parts.setdefault(part.id, [])
            parts.append(part)
            is_too_much = sum(len(one.put) + len(one.gone) for one in parts) > MOST_ENTRIES
            if is_too_much or len(self._parts) > _MOST_OPEN:
                del self._parts[part.id if is_too_much else next(iter(self._parts))]
            elif not part.more:
                self._whole = [*self._whole, self._parts.pop(part.id)][-_MOST_OPEN:]
                self._has_whole.set()

    async def run(self) -> None:
        """Answer for ever, one question after the other."""
        while True:
            self.pulse.rest()
            await self._has_whole.wait()
            parts = self._whole.pop(0)
            if not self._whole:
                self._has_whole.clear()
            self.pulse.work()
            try:
                answer = await self(parts)
                is_taken = await self._door.answer(parts[0].id, answer)
            except Refused as e:
                log.debug("question not answered", reason=e.detail)
            else:
                log.debug("question answered", programs=len(answer.programs), in_time=is_taken)

    async def __call__(self, parts: Sequence[QuestionIs]) -> Answer:
        """Find the answer.

        Raises:
            Refused: UNAVAILABLE before the first complete snapshot.
        """
        # 1. What would be new or different, and what would be touched at all.
        put = Index()
        async for entry in _in_slices([entry for part in parts for entry in part.put]):
            put.add(entry)
        asked = _Asked(
            put=put,
            touched={entry.id for entry in put.all()}.union(*(part.gone for part in parts)),
            needed=facts_of(put.all()),
            until=self._clock.monotonic() + _LOOK_SECONDS,
        )
        # 2. For each program that we know: the identities before and after.
        changes: list[ProgramChange] = []
        unknown = 0
        async for caller in _in_slices(self._known()):
            try:
                change = await self._change(caller, asked)
            except Refused:
                unknown += 1
                continue
            if change is not None:
                changes.append(change)
        return answer_of(changes, unknown=unknown)

    def _known(self) -> Sequence[RecentCaller]:
        now, facts = since_boot(), self._cache.needed_facts()
        known = {one.pid: one for one in self._recent.lately()}
        for stream in self._cache.streams:
            uid, pid = stream.who
            known[pid] = RecentCaller(pid, uid, stream.selectors, facts, now)
        return list(known.values())

    async def _change(self, caller: RecentCaller, asked: _Asked) -> ProgramChange | None:
        """What would change for a program; None: nothing, or it has ended.

        Raises:
            Refused: it cannot be looked at now.
        """
        selectors = caller.selectors
        if not asked.needed <= caller.facts:
            with _found_again(caller) as process:
                if process is None:
                    return None
                selectors = await self._look_again(process, asked)
        matched = self._cache.view(selectors).entries
        gains, loses = effect(matched, asked.put.match(selectors), asked.touched)
        if not gains and not loses:
            return None
        with _found_again(caller) as process:
            if process is None:
                return None
            executable = short_path(program_of(process.pid, process.process).executable)
        return program_change(caller.pid, caller.uid, executable, gains=gains, loses=loses)

    async def _look_again(self, process: Caller, asked: _Asked) -> frozenset[Selector]:
        left = asked.until - self._clock.monotonic()
        if self._attest is None or left <= 0:
            raise Refused(Kind.UNAVAILABLE, "program: not looked at in time")
        try:
            async with asyncio.timeout(left):
                return await self._attest(process, asked.needed)
        except TimeoutError as e:
            raise Refused(Kind.UNAVAILABLE, "program: not looked at in time") from e


@contextmanager
def _found_again(caller: RecentCaller) -> Iterator[Caller | None]:
    """The process that called; None: it has ended, or its pid means another one by now."""
    try:
        process = process_of(caller.pid)
    except Refused:
        yield None
        return
    try:
        started_at = program_of(process.pid, process.process).started / _TICKS
        yield process if 0 < started_at <= caller.seen_at and process.uid == caller.uid else None
    finally:
        process.process.close()


async def _in_slices(items: Sequence[Item]) -> AsyncIterator[Item]:
    for number, item in enumerate(items):
        if number % _SLICE == 0:
            await asyncio.sleep(0)
        yield item
