"""Know the state of the authorities, and what their next steps depend on.

issuer/decisions/rotation decides which step is due; issuer/flows/rotate_authority takes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from issuer.datastore.ledgerport import Use
from issuer.datastore.port import Datastore
from issuer.decisions import exports, rotation
from issuer.decisions.authority import Authority
from issuer.decisions.rotation import Circumstances
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.surroundings import Surroundings

__all__ = ["AuthorityOutlook", "RotationPolicy", "Seen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationPolicy:
    """What the operator decides about rotation.

    Args:
        spread: how long an authority is in the bundle before it signs.
    """

    lifetime: timedelta
    spread: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An authority and its situation.

    Args:
        waits_for: why a step that is due is not taken; empty: no step is due, or nothing is in its way.
        use: how much of what it signed is in use.
        attestors: how many are connected; acknowledged: how many of them know its present state: that it is next, or tainted.
    """

    authority: Authority
    waits_for: str
    use: Use
    attestors: int
    acknowledged: int


class AuthorityOutlook:
    """Looks at the authorities' rows and their circumstances."""

    def __init__(
        self,
        *,
        datastore: Datastore,
        around: Surroundings,
        guard: ClockGuard,
        policy: RotationPolicy,
        watch: EnforcementWatch,
    ) -> None:
        self._policy = policy
        self._datastore = datastore
        self._clock = around.clock
        self.guard = guard
        self._watch = watch

    @property
    def lifetime(self) -> timedelta:
        """How long a new authority will be valid."""
        return self._policy.lifetime

    async def rows(self) -> Sequence[tuple[Authority, str]]:
        """All authorities, oldest first, and what the next and the old ones wait for. This writes nothing."""
        rows = await self._datastore.read(lambda tx: tx.authorities.list())
        at = self._circumstances(is_clock_trusted=await self.guard.look())
        return [(row, rotation.why_not_yet(row, rows, at)) for row in rows]

    async def circumstances(self) -> Circumstances:
        """What a step may depend on now. This records a new verdict on the clock."""
        return self._circumstances(is_clock_trusted=await self.guard.is_trusted())

    async def seen(self) -> Sequence[Seen]:
        """All authorities, oldest first, and how much of what they signed is in use. This writes nothing."""
        rows, now = await self.rows(), self._clock.now()
        tainted = [row.key_id for row, _ in rows if row.tainted_at and row.last_not_after and row.last_not_after > now]
        uses = await self._datastore.read(lambda tx: tx.ledger.uses(tainted=tainted, now=now))
        return [self._seen(row, waits_for, uses.get(row.key_id, Use())) for row, waits_for in rows]

    async def exports(self) -> Sequence[exports.ExportStanding]:
        """What was exported, by name, and how it compares with the bundle. This writes nothing."""
        known, rows = await self._datastore.read(lambda tx: (tx.exports.list(), tx.authorities.list()))
        now = self._clock.now()
        return [exports.standing(one, rows, spread=self._policy.spread, now=now) for one in known]

    def acknowledged(self) -> int | None:
        """The last change that every connected attestor has; None: nobody is connected."""
        return self._watch.slowest()

    def _seen(self, row: Authority, waits_for: str, use: Use) -> Seen:
        change = row.tainted_change or row.published_change
        standing = self._watch.standing.values()
        acknowledged = sum(one.acknowledged >= change for one in standing)
        return Seen(authority=row, waits_for=waits_for, use=use, attestors=len(standing), acknowledged=acknowledged)

    def _circumstances(self, *, is_clock_trusted: bool) -> Circumstances:
        return Circumstances(
            now=self._clock.now(),
            spread=self._policy.spread,
            acknowledged=self.acknowledged(),
            is_clock_trusted=is_clock_trusted,
        )
