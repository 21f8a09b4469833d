"""Replace the X.509 authorities whose revocation lists have grown too long, so that stock verifiers can go on reading lists.

Which step is due is decided in issuer/decisions/relief; each is one transaction of command_authorities or rotate_authority, and the rows
say how far it is: whoever starts anew goes on from there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from cognomen.daemon.errors import Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from issuer.decisions import rotation
from issuer.decisions.authority import AuthorityKind, AuthorityState
from issuer.decisions.crl import is_full
from issuer.decisions.relief import ReliefStep, Situation, next_relief, why_full
from issuer.decisions.revocation import Reason
from issuer.flows.command_authorities import CommandAuthorities, Seen
from svid.clock import Clock
from svid.keys import KeyID

__all__ = ["RelieveAuthorities"]

log = structlog.get_logger(__name__)

_ACTOR = "issuer"
_TROUBLE, _SIZE = "replacement of authorities with long lists", "size of the revocation list"
_LOOK_SECONDS = 5.0
_HAND_OUT_SECONDS = 15.0  # an attestor hands on what it minted within a second; nobody is in a hurry


@dataclass(frozen=True, slots=True, kw_only=True)
class RelieveAuthorities:
    """Takes the steps.

    Args:
        listed: tells how many certificates the list of each authority has.
    """

    command: CommandAuthorities
    listed: Callable[[], Mapping[KeyID, int]]
    clock: Clock
    troubles: Troubles
    pulse: Pulse = field(default_factory=Pulse)
    _full: set[KeyID] = field(default_factory=set)
    _replaced_at: dict[KeyID, float] = field(default_factory=dict)

    async def __call__(self) -> None:
        """Take the step that is due for each authority whose list is too long.

        Raises:
            Refused: as the commands.
        """
        # 1. Whose list is too long?
        denied = {key_id: count for key_id, count in self.listed().items() if is_full(count)}
        seen = await self.command.seen() if denied else ()
        full = [one for one in seen if one.authority.key_id in denied and one.authority.is_published]
        for key_id in self._full.difference(one.authority.key_id for one in full):
            self._forget(key_id)
        # 2. One step for each; what it waits for is told.
        for one in full:
            key_id = one.authority.key_id
            relief = next_relief(one.authority, await self._situation(one, seen, full))
            if relief.step is not None:
                await self._take(relief.step, key_id, why_full(denied[key_id]))
            self._full.add(key_id)
            next_step = relief.waits_for or "the next step"
            self.troubles.note(
                _SIZE, f"{why_full(denied[key_id])}: it is replaced; waits for {next_step}", subject=key_id
            )

    async def run(self) -> None:
        """Take each step when it is due, for ever; what fails is tried again."""
        while True:
            self.pulse.work()
            try:
                await self()
            except Refused as refused:
                log.warning("authority not replaced", reason=refused.detail, hint=refused.hint)
                self.troubles.note(_TROUBLE, refused.detail)
            else:
                self.troubles.over(_TROUBLE)
            self.pulse.rest()
            await self.clock.sleep(_LOOK_SECONDS)

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
            is_clock_trusted=await self.command.rotate.guard.is_trusted(),
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
                await self.command.rotate.ask(AuthorityKind.X509, actor=_ACTOR, why=f"{key_id}: {why}")
            case ReliefStep.TAINT:
                await self.command.taint(key_id, at_once=True, reason=Reason.SUPERSEDED, comment=why, actor=_ACTOR)
            case ReliefStep.REVOKE:
                await self.command.revoke(key_id, at_once=True, reason=Reason.SUPERSEDED, comment=why, actor=_ACTOR)

    def _forget(self, key_id: KeyID) -> None:
        self.troubles.over(_SIZE, subject=key_id)
        self._full.discard(key_id)
        self._replaced_at.pop(key_id, None)
