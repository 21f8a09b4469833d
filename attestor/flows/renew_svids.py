"""Mint X509-SVIDs for all entries, in batches.

Each is minted when its entry arrives, and again at half-life, when it is denied, when its authority is tainted, and when the entry changes
what is signed (attestor/decisions/sync). What is due when: attestor/decisions/renewal. Whether an answer is good:
attestor/decisions/minted. Which clock counts for what: attestor/decisions/clocks.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

import structlog

from attestor.cache import Cache, HeldX509
from attestor.decisions.clocks import MOST_APART, Reading, apart, is_valid
from attestor.decisions.minted import authority_of_x509, is_vouched_for, take_x509
from attestor.decisions.renewal import due_now, next_limit, renew_in, retry_in
from attestor.decisions.sync import needs_svid
from attestor.issuerclient.port import IssuerClient, MintedX509, X509Request
from attestor.metrics import FAILED, OK
from attestor.surroundings import Surroundings
from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from svid.backoff import Backoff
from svid.errors import SVIDError, X509SVIDError
from svid.keys import KeyKind, PrivateKey, generate_private_key, public_key_to_der
from svid.x509svid import X509SVID

__all__ = ["RenewSVIDs"]

log = structlog.get_logger(__name__)

_RENEWAL = "x509-svid renewal"
_BATCH = 250  # other mints may have to wait for one batch
_SLICE = 16  # answers to check before the event loop may do something else
_BACKOFF = Backoff(initial=timedelta(milliseconds=200), maximum=timedelta(seconds=1))
_REFUSED_BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=10))  # until the node is known again
_NOT_THIS_NODE = frozenset({Kind.UNAUTHENTICATED, Kind.DENIED})
_ENTRY_BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=30))
_LONGEST_REST = timedelta(seconds=10)  # how late a jump of a wall clock may be noticed
_SHORTEST_REST = timedelta(milliseconds=200)  # renewals that fall due within it share a call
_TAINTED_AGAIN = timedelta(seconds=1)  # when a mint already under way returned another SVID of a tainted authority
_A_DAY = timedelta(days=1)
_A_JUMP = timedelta(seconds=1)  # against the monotonic clock, from one look to the next


@dataclass(slots=True)
class _Plan:
    """When an entry's next SVID is due; `entry` is as it was when that was decided.

    Args:
        due: by the monotonic clock.
        delays: the next delays, while its mint fails.
        issuer: the offset of the issuer's clock (_Offsets) when the current SVID was minted.
    """

    entry: RegistrationEntry
    due: float
    delays: Iterator[timedelta] | None = None
    issuer: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Offsets:
    """What the two wall clocks showed when the monotonic clock showed zero; it changes when one of them is set."""

    own: datetime
    issuer: datetime

    @classmethod
    def of(cls, at: Reading) -> Self:
        since = timedelta(seconds=at.monotonic)
        return cls(at.own - since, at.issuer - since)


class RenewSVIDs:
    """The flow and its ports; it makes the keys, which live only in the cache."""

    def __init__(self, cache: Cache, *, client: IssuerClient, around: Surroundings) -> None:
        self.pulse = Pulse()
        self._clock, self._jitter = around.clock, around.jitter
        self._troubles, self._metrics = around.troubles, around.metrics
        self._cache = cache
        self._client = client
        self._plans: dict[EntryID, _Plan] = {}
        self._bundle, self._tainted = cache.bundle, cache.tainted
        self._offsets = _Offsets.of(self._clock.read())
        self._limit = _BATCH
        self._attempts = Attempts(
            log,
            around.clock,
            pulse=self.pulse,
            troubles=around.troubles,
            trouble=_RENEWAL,
            over="SVIDs minted again",
            failure=_failure,
            jitter=around.jitter,
        )

    async def run(self) -> None:
        """Mint what is due, forever."""
        while True:
            # 1. Find what we have and what is due.
            self.pulse.work()
            self._cache.changed.clear()
            at = self._clock.read()
            lasting = self._cache.expire(at)
            self._plan(at)
            batch = self._due(at.monotonic)
            # 2. If nothing is due, wait for a change or for the next due time.
            if not batch:
                self._attempts.unneeded()
                await self._rest(at.monotonic, lasting)
                continue
            # 3. Mint; the cache wakes the streams that wait for it.
            with self._attempts.trying(entries=len(batch)):
                await self._mint(batch)
            failed = len(batch) if self._attempts.is_failing else 0
            self._limit = next_limit(self._limit, most=_BATCH, failed=failed)
            self._metrics.renewals.labels("x509", FAILED).inc(failed)
            await self._attempts.rest()

    def due(self) -> Mapping[EntryID, datetime]:
        """When each entry's SVID is renewed next."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        return {entry_id: now + timedelta(seconds=plan.due - monotonic) for entry_id, plan in self._plans.items()}

    def _plan(self, at: Reading) -> None:
        held = self._cache.svids
        entries = {entry_id: entry for entry_id, entry in self._cache.entries.items() if not entry.observe}
        for entry_id, entry in entries.items():
            plan = self._plans.get(entry_id)
            if plan is None or plan.entry is not entry:
                if plan is not None and entry_id in held and not needs_svid(plan.entry, entry):
                    plan.entry = entry
                else:
                    self._plans[entry_id] = _Plan(entry, at.monotonic)
        for entry_id in self._plans.keys() - entries.keys():
            del self._plans[entry_id]
            self._troubles.over(_RENEWAL, subject=_named(entry_id))
        for entry_id in self._cache.take_denied() & self._plans.keys():
            self._plans[entry_id].due = at.monotonic
        offsets, before = _Offsets.of(at), self._offsets
        self._offsets = offsets
        if max(abs(offsets.own - before.own), abs(offsets.issuer - before.issuer)) > _A_JUMP:
            self._plan_after_jump(at)
        if self._cache.bundle is not self._bundle:
            self._bundle = self._cache.bundle
            self._plan_by_bundle(at)
        if self._cache.tainted != self._tainted:
            self._tainted = self._cache.tainted
            self._plan_by_taint(at)

    def _plan_after_jump(self, at: Reading) -> None:
        """After a clock was set, mint again what neither clock finds valid now, and retry what was postponed."""
        held = self._cache.svids
        self._cache.drop([one for one, it in held.items() if not is_valid(it.svid.not_before, it.svid.not_after, at)])
        for entry_id, plan in self._plans.items():
            if plan.delays is not None or entry_id not in held:
                plan.due = at.monotonic

    def _plan_by_bundle(self, at: Reading) -> None:
        """Renew now what the bundle no longer vouches for: an authority may have left it early."""
        for entry_id, held in self._cache.svids.items():
            now = at.issuer if held.svid.not_before <= at.issuer < held.svid.not_after else at.own
            if not is_vouched_for(held.svid, self._bundle, at=now):
                self._plans[entry_id].due = at.monotonic

    def _plan_by_taint(self, at: Reading) -> None:
        """Replace now what a tainted authority signed; it stays in service until then."""
        for entry_id, held in self._cache.svids.items():
            if authority_of_x509(held.svid) in self._tainted:
                self._plans[entry_id].due = at.monotonic

    def _due(self, now: float) -> Sequence[RegistrationEntry]:
        due = {entry_id: plan.due for entry_id, plan in self._plans.items() if plan.due <= now}
        wanted = self._cache.wanted() if len(due) > 1 else ()
        return [self._plans[entry_id].entry for entry_id in due_now(due, wanted=wanted, now=now, limit=self._limit)]

    async def _rest(self, now: float, lasting: timedelta) -> None:
        next_due = min((plan.due for plan in self._plans.values()), default=now + _LONGEST_REST.total_seconds())
        rest = max(min(_LONGEST_REST, timedelta(seconds=next_due - now), lasting), _SHORTEST_REST)
        await self._attempts.rest(self._cache.changed.wait, after=rest)

    async def _mint(self, batch: Sequence[RegistrationEntry]) -> None:
        keys = [generate_private_key(KeyKind.EC_P256) for _ in batch]
        requests = [
            X509Request(entry_id=entry.id, public_key=public_key_to_der(key.public_key()))
            for entry, key in zip(batch, keys, strict=True)
        ]
        asked_at = self._clock.monotonic()
        minted = await self._client.mint_x509(requests)
        if (first := next((answer for answer in minted if isinstance(answer, MintedX509)), None)) is not None:
            self._clock.hear(first.issued_at, asked_at=asked_at)
        answers = zip(batch, keys, minted, strict=True)
        held = []
        for number, (entry, key, answer) in enumerate(answers, start=1):
            if (one := self._take(entry, key, answer)) is not None:
                held.append(one)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        self._metrics.renewals.labels("x509", OK).inc(len(held))
        self._metrics.renewals.labels("x509", FAILED).inc(len(batch) - len(held))
        self._cache.hold(held)  # all at once: a caller with many identities gets one update

    def _take(self, entry: RegistrationEntry, key: PrivateKey, answer: MintedX509 | Refused) -> HeldX509 | None:
        if isinstance(answer, Refused):
            self._postpone(entry, answer.detail)
            return None
        at = self._clock.read()
        try:
            svid = take_x509(answer.chain, key, bundle=self._cache.bundle, at=at.issuer)
            if svid.spiffe_id != entry.spiffe_id:
                raise X509SVIDError(f"SPIFFE ID: expected {entry.spiffe_id}, found {svid.spiffe_id}")
            if svid.serial in self._cache.denials:
                raise X509SVIDError("svid: it is already revoked")
        except SVIDError as e:
            self._postpone(entry, str(e))
            return None
        if self._is_worse(entry, svid, at):
            # When a clock is corrected, this is retried at once. Until then it is enough to retry before the current SVID expires.
            self._postpone(entry, f"svid: expected one that is valid now: {apart(at)}", delay=_A_DAY)
            return None
        self._troubles.over(_RENEWAL, subject=_named(entry.id))
        wait = renew_in(svid.not_after - answer.issued_at, left=svid.not_after - at.own, jitter=self._jitter())
        if authority_of_x509(svid) in self._cache.tainted:
            wait = min(wait, _TAINTED_AGAIN)
        self._plans[entry.id] = _Plan(entry, at.monotonic + wait.total_seconds(), issuer=_Offsets.of(at).issuer)
        log.debug("SVID minted", spiffe_id=str(svid.spiffe_id), entry_id=entry.id, serial=f"{svid.serial:x}")
        return HeldX509(entry=entry, svid=replace(svid, hint=entry.hint), issued_at=answer.issued_at)

    def _is_worse(self, entry: RegistrationEntry, svid: X509SVID, at: Reading) -> bool:
        """Whether an issuer whose clock was set forward would replace a good SVID with this one."""
        held, issuer = self._cache.svids.get(entry.id), self._plans[entry.id].issuer
        was_set = issuer is not None and _Offsets.of(at).issuer - issuer > MOST_APART
        return held is not None and was_set and at.own < svid.not_before and at.own < held.svid.not_after

    def _postpone(self, entry: RegistrationEntry, reason: str, *, delay: timedelta | None = None) -> None:
        """Retry this entry later without affecting the others; its current SVID stays in service while it is valid.

        Args:
            delay: None: the next of the growing delays.
        """
        plan = self._plans[entry.id]
        plan.delays = plan.delays or _ENTRY_BACKOFF.delays(self._jitter)
        held = self._cache.svids.get(entry.id)
        left = None if held is None else held.svid.not_after - self._clock.now()
        wait = retry_in(delay or next(plan.delays), left=left).total_seconds()
        plan.due = self._clock.monotonic() + wait
        self._troubles.note(_RENEWAL, reason, subject=_named(entry.id))
        log.warning(
            "SVID not minted",
            entry_id=entry.id,
            spiffe_id=str(entry.spiffe_id),
            reason=reason,
            delay_seconds=round(wait, 3),
        )


def _named(entry_id: EntryID) -> str:
    return f"entry {entry_id}"


def _failure(refused: Refused) -> Failure:
    again = _REFUSED_BACKOFF if refused.kind in _NOT_THIS_NODE else _BACKOFF
    return Failure(event="SVIDs not minted", again=again)
