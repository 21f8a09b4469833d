"""Wait until a revocation is enforced by everybody who is connected, and put on record what came of it.

Who enforces it: watch_enforcement. Under which signature the record stands: write_checkpoints.
"""

from collections.abc import Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """How a revocation stands.

    Args:
        away: how many nodes have a valid SVID, are not connected, and have not heard of it before they left.
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
        revocation = await self.datastore.read(lambda tx: _get(tx, number))
        away, ends_at = await self._beyond(revocation)
        how_far = self.watch.how_far(revocation.change)
        return Enforced(revocation=revocation, how_far=how_far, away=away, ends_at=ends_at)

    async def __call__(self, number: int, *, longest: timedelta, actor: str) -> Enforced:
        """Return once everybody who is connected enforces it, or after that time.

        Raises:
            Refused: NOT_FOUND; INVALID for a time that is too long.
        """
        if longest > _LONGEST:
            raise Refused(Kind.INVALID, f"longest: expected at most {_LONGEST}, found {longest}")
        # 1. Until everybody has it.
        revocation = await self.datastore.read(lambda tx: _get(tx, number))
        how_far, slowest = await self._wait(revocation.change, longest)
        after = max(self.clock.now() - revocation.at, timedelta())
        away, ends_at = await self._beyond(revocation)
        # 2. What came of it, with the rest of the record.
        event = AuditEvent(
            at=self.clock.now(),
            actor=actor,
            action="revocation enforced",
            subject=str(number),
            reason="" if how_far.is_everywhere else _short_of(how_far),
            facts={
                "everywhere": "yes" if how_far.is_everywhere else "no",
                "attestors": f"{how_far.attestors_enforcing} of {how_far.attestors}",
                "points": f"{how_far.points_enforcing} of {how_far.points}",
                "after_milliseconds": str(after // timedelta(milliseconds=1)),
                "away": str(away),
                "silent": _named(how_far.silent[:_MOST_NAMED]),
            },
        )
        await self.datastore.write(lambda tx: tx.audit.append([event]))
        return Enforced(
            revocation=revocation, how_far=how_far, away=away, ends_at=ends_at, slowest=slowest, after=after
        )

    async def _beyond(self, revocation: Revocation) -> tuple[int, datetime | None]:
        """How many nodes that may act have not heard of it and are not connected, and until when what it ended can live there."""
        now, connected = self.clock.now(), frozenset(self.watch.standing)

        def work(tx: Transaction) -> tuple[int, datetime | None]:
            away = sum(
                node.state is NodeState.ACTIVE and node.svid_not_after > now and node.acknowledged < revocation.change
                for node in all_nodes_in(tx)
                if node.id not in connected
            )
            return away, tx.denials.last_end(revocation.number)

        return await self.datastore.read(work)

    async def _wait(self, change: int, longest: timedelta) -> tuple[HowFar, Silent | None]:
        end, slowest = self.clock.monotonic() + longest.total_seconds(), None
        while True:
            turn = self.watch.turn
            how_far = self.watch.how_far(change)
            slowest = how_far.silent[0] if how_far.silent else slowest
            left = end - self.clock.monotonic()
            if how_far.is_everywhere or left <= 0:
                return how_far, slowest
            await first_of(self.watch.moved(turn), self.clock.sleep(left))


def _get(tx: Transaction, number: int) -> Revocation:
    found = tx.revocations.get(number)
    if found is None:
        raise Refused(Kind.NOT_FOUND, f"number: no revocation has the number {number}", hint="cognomen revoke list")
    return found


def _short_of(how_far: HowFar) -> str:
    attestors = f"{how_far.attestors_enforcing} of {how_far.attestors} attestors"
    return f"not everywhere: {attestors} and {how_far.points_enforcing} of {how_far.points} enforcement points"


def _named(silent: Iterable[Silent]) -> str:
    return ", ".join(
        one.node_id if one.point is None else f"{one.node_id} uid {one.point.uid} pid {one.point.pid} {one.point.name}"
        for one in silent
    )
