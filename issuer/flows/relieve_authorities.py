"""Replace the X.509 authorities whose revocation lists have grown too long, so that stock verifiers can still read the lists.

issuer/decisions/relief decides which step is due. Each step is one transaction of command_authorities. The rows say how far
the replacement is, so a restarted issuer continues from there.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from issuer.decisions import rotation
from issuer.decisions.authority import AuthorityKind, AuthorityState
from issuer.decisions.crl import is_full
from issuer.decisions.relief import ReliefStep, Situation, next_relief, why_full
from issuer.decisions.revocation import Reason
from issuer.keepers.authority_outlook import AuthorityOutlook, Seen
from issuer.keepers.clock_guard import ClockGuard
from issuer.surroundings import Surroundings
from svid.keys import KeyID

__all__ = ["AuthorityCommands", "RelieveAuthorities"]

log = structlog.get_logger(__name__)

_ACTOR = "issuer"
_SIZE = "size of the revocation list"
_EVERY = timedelta(seconds=5)
_HAND_OUT_SECONDS = 15.0  # an attestor passes on what was minted within a second; there is no hurry


class AuthorityCommands(Protocol):
    """What this flow uses of the operators' commands for authorities (flows/command_authorities)."""

    async def hand_over(self, kind: AuthorityKind, *, why: str, actor: str) -> None:
        """Have the next one sign as soon as every connected attestor knows it."""

    async def taint(self, key_id: str, *, at_once: bool, reason: Reason, comment: str, actor: str) -> object:
        """Stop it from signing, and have all that it signed replaced."""

    async def revoke(self, key_id: str, *, at_once: bool, reason: Reason, comment: str, actor: str) -> object:
        """Take it out of the bundle and destroy its key."""


class RelieveAuthorities:
    """Takes the steps.

    Args:
        listed: returns how many certificates are on the list of each authority.
    """

    def __init__(
        self,
        *,
        commands: AuthorityCommands,
        outlook: AuthorityOutlook,
        listed: Callable[[], Mapping[KeyID, int]],
        around: Surroundings,
        guard: ClockGuard,
    ) -> None:
        self.commands = commands
        self.outlook = outlook
        self.listed = listed
        self.clock = around.clock
        self.guard = guard
        self.troubles = around.troubles
        self.pulse = Pulse()
        self._full = set[KeyID]()
        self._replaced_at: dict[KeyID, float] = {}

    async def __call__(self) -> None:
        """Take the step that is due for each authority whose list is too long.

        Raises:
            Refused: as the commands do.
        """
        # 1. Find the authorities whose list is too long.
        denied = {key_id: count for key_id, count in self.listed().items() if is_full(count)}
        seen = await self.outlook.seen() if denied else ()
        full = [one for one in seen if one.authority.key_id in denied and one.authority.is_published]
        for key_id in self._full.difference(one.authority.key_id for one in full):
            self._forget(key_id)
        # 2. Take one step for each, and report what it waits for.
        for one in full:
            key_id = one.authority.key_id
            relief = next_relief(one.authority, await self._situation(one, seen, full))
            if relief.step is not None:
                await self._take(relief.step, key_id, why_full(denied[key_id]))
            self._full.add(key_id)
            next_step = relief.waits_for or "the next step"
            self.troubles.note_lasting(
                _SIZE, f"{why_full(denied[key_id])}: being replaced, waiting for {next_step}", subject=key_id
            )

    async def run(self) -> None:
        """Take each step when it is due, until cancelled; retry what fails."""
        attempts = Attempts(
            log,
            self.clock,
            pulse=self.pulse,
            troubles=self.troubles,
            trouble="replacement of authorities with long lists",
            over="authorities replaced again",
            failure=Failure(event="authority not replaced", again=_EVERY),
        )
        while True:
            with attempts.trying():
                await self()
            await attempts.rest(after=_EVERY)

    async def _situation(self, one: Seen, seen: Sequence[Seen], full: Sequence[Seen]) -> Situation:
        now = self.clock.now()
        rows = {each.authority.key_id: each for each in seen}
        following = rotation.successor((each.authority for each in seen), AuthorityKind.X509, now=now)
        is_known = one.acknowledged == one.attestors > 0
        return Situation(
            now=now,
            following=following,
            following_waits_for="" if following is None else rows[following.key_id].waits_for,
            leaving=sum(each.authority.state is not AuthorityState.ACTIVE for each in full if each is not one),
            is_known=is_known,
            unreplaced=one.use.unreplaced,
            is_handed_out=self._is_handed_out(one, is_replaced=is_known and not one.use.unreplaced),
            is_clock_trusted=await self.guard.is_trusted(),
        )

    def _is_handed_out(self, one: Seen, *, is_replaced: bool) -> bool:
        key_id, now = one.authority.key_id, self.clock.monotonic()
        if one.authority.tainted_at is None or not is_replaced:
            self._replaced_at.pop(key_id, None)
            return False
        return now - self._replaced_at.setdefault(key_id, now) >= _HAND_OUT_SECONDS

    async def _take(self, step: ReliefStep, key_id: KeyID, why: str) -> None:
        log.warning("authority replaced", step=step.value, key=key_id, reason=why)
        match step:
            case ReliefStep.HAND_OVER:
                await self.commands.hand_over(AuthorityKind.X509, actor=_ACTOR, why=f"{key_id}: {why}")
            case ReliefStep.TAINT:
                await self.commands.taint(key_id, at_once=True, reason=Reason.SUPERSEDED, comment=why, actor=_ACTOR)
            case ReliefStep.REVOKE:
                await self.commands.revoke(key_id, at_once=True, reason=Reason.SUPERSEDED, comment=why, actor=_ACTOR)

    def _forget(self, key_id: KeyID) -> None:
        self.troubles.over(_SIZE, subject=key_id)
        self._full.discard(key_id)
        self._replaced_at.pop(key_id, None)
