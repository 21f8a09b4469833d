"""X509-SVIDs for all entries: minted when an entry comes, again at half-life, in batches.

What is due when: attestor/decisions/renewal. Whether an answer is good: attestor/decisions/minted.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from attestor.cache import Cache, HeldX509
from attestor.decisions.minted import is_vouched_for, take_x509
from attestor.decisions.renewal import due_now, renew_at, retry_at
from attestor.issuerclient.port import IssuerClient, MintedX509, X509Request
from attestor.metrics import FAILED, OK, Metrics
from cognomen.daemon.errors import Refused
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import first_of
from svid.backoff import Backoff
from svid.clock import Clock
from svid.entry import EntryID, RegistrationEntry
from svid.errors import SVIDError, X509SVIDError
from svid.keys import KeyKind, PrivateKey, generate_private_key, public_key_to_der

__all__ = ["RenewSVIDs"]

log = structlog.get_logger(__name__)

_RENEWAL = "x509-svid renewal"
_BATCH = 250  # what others may have to wait for
_SLICE = 16  # answers that are checked before the loop may do something else
_BACKOFF = Backoff(initial=timedelta(milliseconds=200), maximum=timedelta(seconds=1))
_ENTRY_BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(minutes=1))
_LONGEST_REST = timedelta(seconds=60)  # how late a jump of the wall clock may be noticed
_SHORTEST_REST = timedelta(milliseconds=200)  # renewals that fall due within it share a call


@dataclass(slots=True)
class _Plan:
    """When an entry's next SVID is due; `entry` as it was when that was decided."""

    entry: RegistrationEntry
    due: datetime
    delays: Iterator[timedelta] | None = None


class RenewSVIDs:
    """The flow and its ports; keys are made here and live only in the cache.

    Args:
        jitter: gives a number in [0, 1).
    """

    def __init__(
        self,
        cache: Cache,
        *,
        client: IssuerClient,
        clock: Clock,
        jitter: Callable[[], float],
        troubles: Troubles | None = None,
        metrics: Metrics,
    ) -> None:
        self._troubles = troubles or Troubles(clock)
        self._metrics = metrics
        self._cache = cache
        self._client = client
        self._clock = clock
        self._jitter = jitter
        self._plans: dict[EntryID, _Plan] = {}
        self._bundle = cache.bundle

    async def run(self) -> None:
        """Mint what is due, for ever."""
        delays = _BACKOFF.delays(self._jitter)
        while True:
            # 1. What do we have, and what is due?
            self._cache.changed.clear()
            now = self._clock.now()
            expiry = self._cache.expire(now)
            self._plan(now)
            batch = self._due(now)
            # 2. Nothing: wait for a change, or for the next one's time.
            if not batch:
                await self._rest(now, expiry)
                continue
            # 3. Mint; whoever waits for it is woken by the cache.
            try:
                await self._mint(batch)
            except Refused as e:
                delay = next(delays).total_seconds()
                log.warning(
                    "SVIDs not minted", reason=e.detail, hint=e.hint, entries=len(batch), delay_seconds=round(delay, 3)
                )
                self._troubles.note(_RENEWAL, e.detail)
                self._metrics.renewals.labels("x509", FAILED).inc(len(batch))
                await self._clock.sleep(delay)
            else:
                self._troubles.over(_RENEWAL)
                delays = _BACKOFF.delays(self._jitter)

    def due(self) -> Mapping[EntryID, datetime]:
        """When each entry's SVID is renewed next."""
        return {entry_id: plan.due for entry_id, plan in self._plans.items()}

    def _plan(self, now: datetime) -> None:
        entries = self._cache.entries
        for entry_id, entry in entries.items():
            plan = self._plans.get(entry_id)
            if plan is None or plan.entry is not entry:
                self._plans[entry_id] = _Plan(entry, now)
        for entry_id in self._plans.keys() - entries.keys():
            del self._plans[entry_id]
            self._troubles.over(_RENEWAL, subject=_named(entry_id))
        if self._cache.bundle is not self._bundle:
            self._bundle = self._cache.bundle
            self._plan_anew(now)

    def _plan_anew(self, now: datetime) -> None:
        """Renew now what the bundle does not vouch for any more: an authority may have left it before its time."""
        for entry_id, held in self._cache.svids.items():
            if not is_vouched_for(held.svid, self._bundle, at=now):
                self._plans[entry_id].due = now

    def _due(self, now: datetime) -> Sequence[RegistrationEntry]:
        due = {entry_id: plan.due for entry_id, plan in self._plans.items() if plan.due <= now}
        wanted = self._cache.wanted() if len(due) > 1 else ()
        return [self._plans[entry_id].entry for entry_id in due_now(due, wanted=wanted, now=now, limit=_BATCH)]

    async def _rest(self, now: datetime, expiry: datetime) -> None:
        next_due = min((plan.due for plan in self._plans.values()), default=expiry)
        rest = max(min(now + _LONGEST_REST, next_due, expiry) - now, _SHORTEST_REST)
        await first_of(self._cache.changed.wait(), self._clock.sleep(rest.total_seconds()))

    async def _mint(self, batch: Sequence[RegistrationEntry]) -> None:
        keys = [generate_private_key(KeyKind.EC_P256) for _ in batch]
        requests = [
            X509Request(entry_id=entry.id, public_key=public_key_to_der(key.public_key()))
            for entry, key in zip(batch, keys, strict=True)
        ]
        answers = zip(batch, keys, await self._client.mint_x509(requests), strict=True)
        held = []
        for number, (entry, key, answer) in enumerate(answers, start=1):
            if (one := self._take(entry, key, answer)) is not None:
                held.append(one)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        self._metrics.renewals.labels("x509", OK).inc(len(held))
        self._metrics.renewals.labels("x509", FAILED).inc(len(batch) - len(held))
        self._cache.hold(held)  # at once: whoever has many identities is told once

    def _take(self, entry: RegistrationEntry, key: PrivateKey, answer: MintedX509 | Refused) -> HeldX509 | None:
        if isinstance(answer, Refused):
            self._postpone(entry, answer.detail)
            return None
        try:
            svid = take_x509(answer.chain, key, bundle=self._cache.bundle, at=self._clock.now())
            if svid.spiffe_id != entry.spiffe_id:
                raise X509SVIDError(f"SPIFFE ID: expected {entry.spiffe_id}, found {svid.spiffe_id}")
        except SVIDError as e:
            self._postpone(entry, str(e))
            return None
        self._troubles.over(_RENEWAL, subject=_named(entry.id))
        self._plans[entry.id] = _Plan(entry, renew_at(answer.issued_at, svid.not_after, self._jitter()))
        log.debug("SVID minted", spiffe_id=str(svid.spiffe_id), entry_id=entry.id, serial=f"{svid.serial:x}")
        return HeldX509(entry=entry, svid=replace(svid, hint=entry.hint), issued_at=answer.issued_at)

    def _postpone(self, entry: RegistrationEntry, reason: str) -> None:
        """Try this entry again later, the others unharmed; what is held for it stays in service while it is valid."""
        plan = self._plans[entry.id]
        plan.delays = plan.delays or _ENTRY_BACKOFF.delays(self._jitter)
        held = self._cache.svids.get(entry.id)
        now = self._clock.now()
        plan.due = retry_at(now, next(plan.delays), not_after=None if held is None else held.svid.not_after)
        self._troubles.note(_RENEWAL, reason, subject=_named(entry.id))
        log.warning(
            "SVID not minted",
            entry_id=entry.id,
            spiffe_id=str(entry.spiffe_id),
            reason=reason,
            delay_seconds=round((plan.due - now).total_seconds(), 3),
        )


def _named(entry_id: EntryID) -> str:
    return f"entry {entry_id}"
