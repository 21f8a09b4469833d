"""Wait until a revocation is enforced everywhere, and put on record what came of it.

Everywhere: at everybody who is connected, with no node away on which something of what it ended is accepted still.

Who enforces it: watch_enforcement. Under which signature the record stands: write_checkpoints.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.waiting import first_of
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import NodeState
from issuer.decisions.audit import AuditEvent
from issuer.decisions.revocation import Revocation
from issuer.flows.watch_enforcement import HowFar, Silent, WatchEnforcement
from issuer.queries import all_nodes_in
from svid.clock import Clock

__all__ = ["AwaitEnforcement", "Enforced"]

_LONGEST = timedelta(days=1)
_MOST_NAMED = 20
_LOOK_SECONDS = 1.0  # for nodes that are away: all rows are read, so not at each move of a thousand others


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """How a revocation stands.

    Args:
        away: how many nodes have a valid SVID, are not connected, and have not heard of it before they left; 0 where all of it is over.
        ends_at: until when what it ended can live where nobody heard of it; None: all of it is over.
        slowest: one of the last that were waited for; None: nobody was.
        after: how long after the revocation that was; None: nobody asked to wait.
    """

    revocation: Revocation
    how_far: HowFar
    away: int
    ends_at: datetime | None
    slowest: Silent | None = None
    after: timedelta | None = None

    @property
    def is_everywhere(self) -> bool:
        """Whether nobody is left who may accept what it ended."""
        return self.how_far.is_everywhere and not self.away


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitEnforcement:
    """Waits, or only looks."""

    datastore: Datastore
    clock: Clock
    watch: WatchEnforcement

    async def look(self, number: int) -> Enforced:
        """How it stands now.

        Raises:
            Refused: NOT_FOUND
        """
        return await self._look(await self.datastore.read(lambda tx: _get(tx, number)))

    async def __call__(self, number: int, *, longest: timedelta, actor: str) -> Enforced:
        """Return once it is enforced everywhere, or after that time.

        Nodes that are away are waited for as well: just after a start of the issuer, all of them are.

        Raises:
            Refused: NOT_FOUND; INVALID for a time that is too long.
        """
        if longest > _LONGEST:
            raise Refused(Kind.INVALID, f"longest: expected at most {_LONGEST}, found {longest}")
        # 1. Until everybody has it.
        revocation = await self.datastore.read(lambda tx: _get(tx, number))
        seen = await self._wait(revocation, longest)
        # 2. What came of it, with the rest of the record.
        how_far = seen.how_far
        event = AuditEvent(
            at=self.clock.now(),
            actor=actor,
            action="revocation enforced",
            subject=str(number),
            reason="" if seen.is_everywhere else _short_of(seen),
            facts={
                "everywhere": "yes" if seen.is_everywhere else "no",
                "attestors": f"{how_far.attestors_enforcing} of {how_far.attestors}",
                "points": f"{how_far.points_enforcing} of {how_far.points}",
                "after_milliseconds": str((seen.after or timedelta()) // timedelta(milliseconds=1)),
                "away": str(seen.away),
                "silent": _named(how_far.silent[:_MOST_NAMED]),
            },
        )
        await self.datastore.write(lambda tx: tx.audit.append([event]))
        return seen

    async def _look(self, revocation: Revocation) -> Enforced:
        away, ends_at = await self._beyond(revocation)
        how_far = self.watch.how_far(revocation.change)
        return Enforced(revocation=revocation, how_far=how_far, away=away, ends_at=ends_at)

    async def _beyond(self, revocation: Revocation) -> tuple[int, datetime | None]:
        """How many nodes that may act have not heard of it and are not connected, and until when what it ended can live there."""
        now, connected = self.clock.now(), frozenset(self.watch.standing)

        def work(tx: Transaction) -> tuple[int, datetime | None]:
            ends_at = tx.denials.last_end(revocation.number)
            if ends_at is None:
                return 0, None
            away = sum(
                node.state is NodeState.ACTIVE and node.svid_not_after > now and node.acknowledged < revocation.change
                for node in all_nodes_in(tx)
                if node.id not in connected
            )
            return away, ends_at

        return await self.datastore.read(work)

    async def _wait(self, revocation: Revocation, longest: timedelta) -> Enforced:
        end, slowest = self.clock.monotonic() + longest.total_seconds(), None
        while True:
            turn = self.watch.turn
            how_far = self.watch.how_far(revocation.change)
            slowest = how_far.silent[0] if how_far.silent else slowest
            left = end - self.clock.monotonic()
            if left > 0 and not how_far.is_everywhere:
                await first_of(self.watch.moved(turn), self.clock.sleep(left))
                continue
            after = max(self.clock.now() - revocation.at, timedelta())
            seen = await self._look(revocation)
            if left <= 0 or seen.is_everywhere:
                return replace(seen, slowest=slowest, after=after)
            await self.clock.sleep(min(left, _LOOK_SECONDS))


def _get(tx: Transaction, number: int) -> Revocation:
    found = tx.revocations.get(number)
    if found is None:
        raise Refused(Kind.NOT_FOUND, f"number: no revocation has the number {number}", hint="cognomen revoke list")
    return found


def _short_of(seen: Enforced) -> str:
    how_far = seen.how_far
    attestors = f"{how_far.attestors_enforcing} of {how_far.attestors} attestors"
    points = f"{how_far.points_enforcing} of {how_far.points} enforcement points"
    return f"not everywhere: {attestors}, {points}; nodes away: {seen.away}"


def _named(silent: Iterable[Silent]) -> str:
    return ", ".join(
        one.node_id if one.point is None else f"{one.node_id} uid {one.point.uid} pid {one.point.pid} {one.point.name}"
        for one in silent
    )
