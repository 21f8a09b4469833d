"""Keep a certificate revocation list for each X.509 authority of the bundle, for verifiers that are told of denials in no other way.

It follows the change log and signs where a list does not hold what the denials say, so that whoever revokes does not wait for it, and a
crash between the two is healed by the next look. When a list is due, and what it says: issuer/decisions/crl; why it is so: ADR-0015.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from cognomen.daemon.errors import Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import first_of
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.authority import Authority
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.crl import DeniedCertificate, SignedCRL, due_at, is_due, listed_authorities, next_draft
from issuer.flows.watch_enforcement import WatchEnforcement
from issuer.issuance import Issuance
from issuer.metrics import FAILED, OK, Metrics
from issuer.recording import record_crl
from svid.backoff import Backoff
from svid.clock import Clock
from svid.keys import KeyID

__all__ = ["PublishCRLs"]

log = structlog.get_logger(__name__)

_SIGNING = "revocation list"
_BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(minutes=1))
_LOOK_SECONDS = 60.0  # for what the log does not tell: entries whose certificates have ended
_AGAIN_SECONDS = 1.0  # after a store that could not be read
_PAGE = 1000
_NEWS = frozenset({ChangeKind.DENIAL, ChangeKind.BUNDLE})


@dataclass(slots=True, kw_only=True)
class PublishCRLs:
    """Signs the lists that are due.

    Args:
        jitter: gives a number in [0, 1).
        listed: how many certificates the list of each authority has, or should have by now.
    """

    datastore: Datastore
    issuance: Issuance
    clock: Clock
    jitter: Callable[[], float]
    watch: WatchEnforcement
    troubles: Troubles
    metrics: Metrics
    pulse: Pulse = field(default_factory=Pulse)
    listed: dict[KeyID, int] = field(default_factory=dict)
    _failing: set[KeyID] = field(default_factory=set)
    _seen: int = 0  # the change up to which the log was read

    async def __call__(self) -> bool:
        """Sign what is due; whether every authority has the list that it should.

        Raises:
            Refused: UNAVAILABLE, as the store. An authority that cannot sign is told of, and keeps none of the others back.
        """
        # 1. Which authorities need a list?
        now = self.clock.now()
        self._seen, authorities = await self.datastore.read(
            lambda tx: (tx.changes.head().number, listed_authorities(tx.authorities.list(), now=now))
        )
        # 2. One after the other: what comes meanwhile is in the next list.
        largest, all_well = 0, True
        for authority in authorities:
            try:
                newest = await self._bring_forward(authority)
            except Refused as refused:
                all_well = False
                self._tell(authority.key_id, refused)
                self._failing.add(authority.key_id)
                continue
            largest = max(largest, 0 if newest is None else len(newest.der))
            self._recover(authority.key_id)
        # 3. What has left the bundle needs none.
        for key_id in {*self._failing, *self.listed}.difference(one.key_id for one in authorities):
            self._recover(key_id)
            self.listed.pop(key_id, None)
        self.metrics.crl_bytes.set(largest)
        # 4. Whoever reads all of them knows what was revoked before the first look.
        if all_well:
            self.watch.listed(self._seen)
        return all_well

    async def attempt(self) -> bool:
        """Sign what is due; whether all is as it should. A failure is told."""
        try:
            all_well = await self()
        except Refused as refused:
            self._tell("", refused)
            return False
        self.troubles.over(_SIGNING)
        return all_well

    async def run(self) -> None:
        """Sign each list when it is due, for ever; what fails is tried again."""
        delays = _BACKOFF.delays(self.jitter)
        while True:
            self.pulse.work()
            if await self.attempt():
                delays, delay = _BACKOFF.delays(self.jitter), _LOOK_SECONDS
            else:
                delay = next(delays).total_seconds()
            self.pulse.rest()
            await first_of(self._news(), self.clock.sleep(delay))

    async def _news(self) -> None:
        """Return once the log tells of denials or of other authorities; it may have forgotten that it did."""
        while True:
            try:
                await self.datastore.wait_for_change(self._seen)
                changes = await self.datastore.read(lambda tx: tx.changes.after(self._seen, limit=_PAGE))
            except Refused:  # the next look tells, which is not to come at once
                return await self.clock.sleep(_AGAIN_SECONDS)
            is_whole = bool(changes) and changes[0].number == self._seen + 1
            if not is_whole or any(change.kind in _NEWS for change in changes):
                return None
            self._seen = changes[-1].number

    async def _bring_forward(self, authority: Authority) -> SignedCRL | None:
        """Sign the list of an authority if that is due; its newest list."""
        # 1. Is it due?
        last, denied, due = await self.datastore.read(lambda tx: self._look(tx, authority))
        self.listed[authority.key_id] = len(denied)
        if not due:
            return last
        await self.issuance.load(authority)
        # 2. Not before the second is over in which the last one began: what comes meanwhile is in this one.
        now = self.clock.now()
        if (rest := (due_at(last, now=now) - now).total_seconds()) > 0:
            await self.clock.sleep(rest)
            last, denied, _ = await self.datastore.read(lambda tx: self._look(tx, authority))
            self.listed[authority.key_id] = len(denied)
        # 3. On record, its number given away; then signed.
        now = self.clock.now()
        draft = next_draft(authority, last, denied, now=now)
        recorded = await self.datastore.write(lambda tx: record_crl(tx, draft, authority, now=now))
        der = await self.issuance.release_crl(recorded)
        # 4. Stored, and told to whoever follows the log.
        signed = SignedCRL(authority_id=authority.key_id, number=draft.number, this_update=draft.this_update, der=der)
        await self.datastore.write(lambda tx: _store(tx, signed))
        self.metrics.crls_signed.labels(OK).inc()
        log.info(
            "crl signed",
            authority=authority.key_id,
            number=draft.number,
            certificates=len(draft.denied),
            bytes=len(der),
        )
        return signed

    def _look(
        self, tx: Transaction, authority: Authority
    ) -> tuple[SignedCRL | None, Sequence[DeniedCertificate], bool]:
        """The list of an authority, what the next one says, and whether that is due."""
        last, denied = tx.crls.get(authority.key_id), tx.denials.of_authority(authority.key_id)
        return last, denied, is_due(last, denied, now=self.clock.now())

    def _recover(self, key_id: KeyID) -> None:
        self.troubles.over(_SIGNING, subject=key_id)
        self._failing.discard(key_id)

    def _tell(self, key_id: str, refused: Refused) -> None:
        log.warning("crl not signed", authority=key_id, reason=refused.detail, hint=refused.hint)
        self.troubles.note(_SIGNING, refused.detail, subject=key_id)
        self.metrics.crls_signed.labels(FAILED).inc()


def _store(tx: Transaction, signed: SignedCRL) -> None:
    tx.crls.put(signed)
    tx.changes.append([Change(kind=ChangeKind.CRL, subject=signed.authority_id)])
