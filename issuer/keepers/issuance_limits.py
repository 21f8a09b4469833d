"""Keep the limits on issuance of the rulebook in force, and refuse what is over them; in memory.

`limited_scope` has what each component and agent used. ADR-0032 says what counts. The limits are judged inside the transaction that
mints, in the thread of the store, and looked at from the event loop: a lock guards them. A work of the store may run again, so a claim
undoes what it took.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from threading import Lock
from typing import Protocol, TypeVar

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Refused
from cognomen.protocol.names import NodeID
from cognomen.rulebook.limits import LimitedScope
from cognomen.rulebook.tables import LimitsMode
from issuer.decisions.limits import Asked, BreakerStep, Held, Limit, LiveSVIDs, Standing, over_limits, refusal
from issuer.decisions.profile import Draft, Intent, JWTDraft, X509Draft
from issuer.keepers.limited_scope import Component, Scope, Undo
from issuer.surroundings import Surroundings
from svid.keys import KeyID
from svid.spiffeid import SpiffeID

__all__ = ["Claim", "IssuanceLimits"]

_MOST_STEPS = 1000  # that wait for the record
_MOST_TOKENS = 1000  # of an entry on a node that are learnt from the ledger

DraftT = TypeVar("DraftT", X509Draft, JWTDraft)


class _Ledger(Protocol):
    def held(self, entry_id: EntryID, node_id: NodeID, *, since: datetime, now: datetime, most: int) -> Held:
        """What the node holds of the entry."""

    def live(self, spiffe_id: SpiffeID, *, now: datetime) -> LiveSVIDs:
        """What is valid and not revoked for this SPIFFE ID and those below it."""

    def last_revocation(self) -> int:
        """The number of the last revocation."""

    def is_revoked(self, serial: str) -> bool:
        """Whether this credential was revoked."""


class IssuanceLimits:
    """The limits in force, and what was used of them.

    Args:
        breaker_open: how long a breaker stays open at first.
        grace: for how long after its end an X509-SVID can be replaced.

    Attributes:
        stepped: set when a breaker did something.
    """

    def __init__(self, *, around: Surroundings, breaker_open: timedelta, grace: timedelta) -> None:
        self._clock, self._metrics = around.clock, around.metrics
        self._first, self._grace = breaker_open.total_seconds(), grace
        self.stepped = asyncio.Event()
        self._lock = Lock()
        self._revision = 0
        self._components: dict[str, Component] = {}
        self._scopes: dict[str, Scope] = {}
        self._steps: deque[BreakerStep] = deque(maxlen=_MOST_STEPS)

    def load(self, revision: int, limits: Iterable[LimitedScope]) -> None:
        """Use the limits of that rulebook from now on, unless a later one is known; where they did not change, counters stay."""
        with self._lock:
            if revision < self._revision:
                return
            self._revision = revision
            rules = {one.path: one for one in limits}
            scopes: dict[str, Scope] = {}
            for path, rule in rules.items():
                if not rule.most:
                    continue
                scopes[path] = self._scopes.get(path) or Scope(rule, first=self._first)
                if scopes[path].rule != rule:
                    scopes[path].set_rule(rule)
            self._scopes = scopes
            components: dict[str, Component] = {}
            for path, rule in rules.items():
                agent = f"/agent/{rule.agent}"
                if path != agent:
                    component = self._components.get(path) or Component(path, grace=self._grace.total_seconds())
                    component.scopes = tuple(scopes[one] for one in (path, agent) if one in scopes)
                    components[path] = component
            self._components = components

    def claim(self, node_id: NodeID) -> "Claim":
        """Begin to judge a batch."""
        return Claim(self, node_id)

    def take_steps(self) -> Sequence[BreakerStep]:
        """What breakers did since the last call, also by time alone."""
        now, at = self._clock.monotonic(), self._clock.now()
        with self._lock:
            for scope in self._scopes.values():
                if scope.next_step() <= now:
                    self._steps.extend(scope.advance(now, at))
            steps = list(self._steps)
            self._steps.clear()
        return steps

    def next_step_in(self) -> timedelta | None:
        """When the next breaker changes by time alone; None: none does."""
        with self._lock:
            found = min((one.next_step() for one in self._scopes.values()), default=math.inf)
        return timedelta(seconds=max(0.0, found - self._clock.monotonic())) if math.isfinite(found) else None

    def over_limits(self) -> Sequence[Standing]:
        """The limits that refused something, or would have, or whose breaker is not closed."""
        with self._lock:
            chosen = [one for _, one in sorted(self._scopes.items()) if one.is_worth_a_look]
        return over_limits(self._standings(chosen))

    def standings(self, agent: str = "") -> Sequence[Standing]:
        """How the limits stand, by path; of one agent, or of all."""
        with self._lock:
            chosen = [one for path, one in sorted(self._scopes.items()) if not agent or one.rule.agent == agent]
        return self._standings(chosen)

    def _standings(self, chosen: Sequence[Scope]) -> Sequence[Standing]:
        now, at = self._clock.monotonic(), self._clock.now()
        with self._lock:
            for scope in chosen:
                self._steps.extend(scope.advance(now, at))
            return [standing for scope in chosen for standing in scope.standings(now, at)]

    def judge(
        self, claim: "Claim", ledger: _Ledger, outcomes: Sequence[Intent[DraftT] | Refused], authority_id: KeyID
    ) -> Sequence[Intent[DraftT] | Refused]:
        """Refuse of a batch what is over the limits. What has none costs one lookup."""
        known = self._components
        if not known:
            return outcomes
        judged: list[Intent[DraftT] | Refused] = []
        with self._lock:
            self._recount(ledger, outcomes)
            for one in outcomes:
                entry = None if isinstance(one, Refused) else one.entry
                component = None if entry is None else known.get(entry.spiffe_id.path)
                if isinstance(one, Refused) or entry is None or component is None:
                    judged.append(one)
                else:
                    asked = self._asked(claim.node_id, one, authority_id)
                    judged.append(self._judged(claim, component, entry, asked, ledger) or one)
        return judged

    def _recount(self, ledger: _Ledger, outcomes: Sequence[Intent[DraftT] | Refused]) -> None:
        """Count again what is live, where that may matter for this batch and something was revoked since."""
        more: Counter[str] = Counter()
        ids: dict[str, SpiffeID] = {}
        for one in outcomes:
            if isinstance(one, Refused) or one.entry is None:
                continue
            spiffe_id = one.entry.spiffe_id
            component = self._components.get(spiffe_id.path)
            for scope in () if component is None else component.scopes:
                more[scope.rule.path] += 1
                ids[scope.rule.path] = SpiffeID(trust_domain=spiffe_id.trust_domain, path=scope.rule.path)
        if not more:
            return
        revocation, at = ledger.last_revocation(), self._clock.now()
        for path, count in more.items():
            if self._scopes[path].must_recount(count, revocation, at.timestamp()):
                self._scopes[path].recount(ledger.live(ids[path], now=at), revocation)

    def _asked(self, node_id: NodeID, intent: Intent[DraftT], authority_id: KeyID) -> Asked:
        return Asked(
            kind=intent.kind,
            node_id=node_id,
            audiences=_audiences(intent.draft),
            authority_id=authority_id,
            not_after=intent.draft.not_after.timestamp(),
            now=self._clock.now().timestamp(),
            monotonic=self._clock.monotonic(),
            serial=_jti(intent.draft),
        )

    def _judged(
        self, claim: "Claim", component: Component, entry: RegistrationEntry, asked: Asked, ledger: _Ledger
    ) -> Refused | None:
        at = self._clock.now()
        # 1. What does the node hold?
        if not component.knows(entry.id, asked.node_id):
            held = ledger.held(entry.id, asked.node_id, since=at - self._grace, now=at, most=_MOST_TOKENS)
            component.learn(entry.id, asked.node_id, held, now=asked.now)
        replaced = component.replaced(entry.id, asked, ledger.is_revoked)
        # 2. What is new must be within all limits; a renewal passes.
        if replaced is None:
            for scope in component.scopes:
                self._steps.extend(scope.advance(asked.monotonic, at))
                for limit in scope.exceeded(asked):
                    claim.over.append((scope, limit))
                    if (trip := scope.trip(limit, asked.monotonic, at)) is not None:
                        claim.steps.append(trip[0])
                        claim.undos.append(trip[1])
                    if scope.rule.mode is LimitsMode.ENFORCE:
                        return refusal(scope.rule, limit)
            for scope in component.scopes:
                claim.undos.extend(scope.take(asked))
        # 3. Note it.
        claim.undos.extend(component.note(entry.id, asked, replaced=replaced))
        return None

    def undo(self, claim: "Claim") -> None:
        """Undo what a claim took: nothing of it is recorded."""
        with self._lock:
            while claim.undos:
                claim.undos.pop()()
            claim.over.clear()
            claim.steps.clear()

    def settle(self, claim: "Claim") -> None:
        """Keep what a claim took, and count what it was refused, or would have been."""
        at = self._clock.now()
        with self._lock:
            claim.undos.clear()
            counts = Counter((limit, scope.rule.mode) for scope, limit in claim.over)
            for scope, limit in claim.over:
                scope.count_over(limit, at)
            claim.over.clear()
            self._steps.extend(claim.steps)
            claim.steps.clear()
        for (limit, mode), count in counts.items():
            self._metrics.over_limits.labels(limit, mode).inc(count)
        if self._steps:
            self.stepped.set()


def _jti(draft: Draft) -> str:
    return draft.jti if isinstance(draft, JWTDraft) else ""


def _audiences(draft: Draft) -> tuple[str, ...]:
    return draft.audiences if isinstance(draft, JWTDraft) else ()


class Claim:
    """One batch, while it is judged.

    Attributes:
        undos: how to undo what it took.
        over: the limits that it exceeded.
        steps: the breakers that it tripped.
    """

    def __init__(self, limits: IssuanceLimits, node_id: NodeID) -> None:
        self.node_id = node_id
        self.undos: list[Undo] = []
        self.over: list[tuple[Scope, Limit]] = []
        self.steps: list[BreakerStep] = []
        self._limits = limits

    def judge(
        self, ledger: _Ledger, outcomes: Sequence[Intent[DraftT] | Refused], authority_id: KeyID
    ) -> Sequence[Intent[DraftT] | Refused]:
        """Refuse what is over the limits, inside the transaction; if the work runs again, its first run does not count."""
        self.undo()
        return self._limits.judge(self, ledger, outcomes, authority_id)

    def undo(self) -> None:
        """Nothing of it was recorded."""
        if self.undos or self.over:
            self._limits.undo(self)

    def settle(self) -> None:
        """All of it is recorded."""
        if self.undos or self.over:
            self._limits.settle(self)
