"""Wait until a revocation is enforced everywhere, and record the outcome.

"Everywhere" means that every connected attestor and enforcement point enforces it, and that no node that is away may still accept
a credential that it ended.

enforcement_watch knows who enforces it. write_checkpoints signs the record.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cognomen.daemon.waiting import first_of
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.admission import NodeState
from issuer.decisions.audit import AuditEvent
from issuer.decisions.revocation import Revocation
from issuer.keepers.enforcement_watch import EnforcementWatch, HowFar, Silent
from issuer.surroundings import Surroundings
from issuer.works.reads import all_nodes_in

__all__ = ["AwaitEnforcement", "Enforced"]

_LONGEST = timedelta(days=1)
_MOST_NAMED = 20
_LOOK_SECONDS = 1.0  # for nodes that are away: a look reads all rows, so not each time one of a thousand others moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """How far the enforcement of a revocation is.

    Args:
        away: how many nodes have a valid SVID, are not connected, and did not hear of it before they left; 0 if all that it ended has
            expired.
        ends_at: how long what it ended can stay valid where it is unknown; None: all of it has expired.
        slowest: one of the last that we waited for; None: we waited for nobody.
        after: the time from the revocation to the end of the wait; None: nobody asked to wait.
    """

    revocation: Revocation
    how_far: HowFar
    away: int
    ends_at: datetime | None
    slowest: Silent | None = None
    after: timedelta | None = None

    @property
    def is_everywhere(self) -> bool:
        """Whether nobody may accept any more what it ended."""
        return self.how_far.is_everywhere and not self.away


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitEnforcement:
    """Waits for the enforcement, or looks at it once."""

    datastore: Datastore
    around: Surroundings
    watch: EnforcementWatch

    async def look(self, number: int) -> Enforced:
        """Return how far the enforcement is now.

        Raises:
            Refused: NOT_FOUND
        """
        return await self._look(await self.datastore.read(lambda tx: _get(tx, number)))

    async def __call__(self, number: int, *, longest: timedelta, actor: str) -> Enforced:
        """Return once it is enforced everywhere, or when the time is up.

        This waits for nodes that are away as well. Just after the issuer starts, all of them are away.

        Raises:
            Refused: NOT_FOUND; INVALID if the time is too long.
        """
        if longest > _LONGEST:
            raise Refused(Kind.INVALID, f"longest: expected at most {_LONGEST}, found {longest}")
        # 1. Wait until everybody has it.
        revocation = await self.datastore.read(lambda tx: _get(tx, number))
        seen = await self._wait(revocation, longest)
        # 2. Record the outcome.
        how_far = seen.how_far
        event = AuditEvent(
            at=self.around.clock.now(),
            actor=actor,
            action=Action.REVOCATION_ENFORCED,
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
        """How many active nodes have not heard of it and are not connected, and how long what it ended can stay valid there."""
        now, connected = self.around.clock.now(), frozenset(self.watch.standing)

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
        end, slowest = self.around.clock.monotonic() + longest.total_seconds(), None
        while True:
            turn = self.watch.turn
            how_far = self.watch.how_far(revocation.change)
            slowest = how_far.silent[0] if how_far.silent else slowest
            left = end - self.around.clock.monotonic()
            if left > 0 and not how_far.is_everywhere:
                await first_of(self.watch.moved(turn), self.around.clock.sleep(left))
                continue
            after = max(self.around.clock.now() - revocation.at, timedelta())
            seen = await self._look(revocation)
            if left <= 0 or seen.is_everywhere:
                return replace(seen, slowest=slowest, after=after)
            await self.around.clock.sleep(min(left, _LOOK_SECONDS))


def _get(tx: Transaction, number: int) -> Revocation:
    found = tx.revocations.get(number)
    if found is None:
        raise Refused(
            Kind.NOT_FOUND, f"number: no revocation has the number {number}", hint="list them: cognomen revoke list"
        )
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
