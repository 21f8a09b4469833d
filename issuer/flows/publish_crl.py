"""Keep a certificate revocation list for each X.509 authority of the bundle, for verifiers that cannot learn of denials otherwise.

This flow follows the change log and signs a list when it differs from the denials. So a revocation does not wait for the list, and the
next look repairs what a crash between the two left behind. issuer/decisions/crl decides when a list is due and what it says; ADR-0015
says why.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.retrylines import RetryLines
from cognomen.protocol.errors import Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.authority import Authority
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.crl import DeniedCertificate, SignedCRL, due_at, is_due, listed_authorities, next_draft
from issuer.issuance import Issuance
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.metrics import FAILED, OK
from issuer.recording import record_crl
from issuer.surroundings import Surroundings
from svid.backoff import Backoff
from svid.keys import KeyID

__all__ = ["PublishCRLs"]

log = structlog.get_logger(__name__)

_SIGNING = "revocation list"
_NOT_SIGNED, _AGAIN = "crl not signed", "crls signed again"
_BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=10))
_LOOK_EVERY = timedelta(
    seconds=30
)  # for what the log does not show: entries whose certificates have expired, a clock that was set
_AGAIN_SECONDS = 1.0  # after the store could not be read
_PAGE = 1000
_NEWS = frozenset({ChangeKind.DENIAL, ChangeKind.BUNDLE})


class PublishCRLs:
    """Signs the lists that are due.

    Attributes:
        listed: how many certificates are on the list of each authority, or should be by now.
    """

    def __init__(
        self, *, datastore: Datastore, issuance: Issuance, around: Surroundings, watch: EnforcementWatch
    ) -> None:
        self.datastore = datastore
        self.issuance = issuance
        self.clock = around.clock
        self.jitter = around.jitter
        self.watch = watch
        self.troubles = around.troubles
        self.metrics = around.metrics
        self.pulse = Pulse()
        self.listed: dict[KeyID, int] = {}
        self._failing = set[KeyID]()
        self._seen = 0  # the last change that was read
        self._lines = RetryLines(_AGAIN)  # for single authorities
        self._attempts = Attempts(
            log,
            self.clock,
            pulse=self.pulse,
            troubles=self.troubles,
            trouble=_SIGNING,
            over=_AGAIN,
            failure=Failure(event=_NOT_SIGNED, again=_BACKOFF),
            jitter=self.jitter,
            failures=self.metrics.crls_signed.labels(FAILED),
            is_woken_early=True,
        )

    async def __call__(self) -> bool:
        """Sign what is due; returns whether every authority has the list that it should have.

        Raises:
            Refused: UNAVAILABLE, from the store. An authority that cannot sign is reported, and does not hold up the others.
        """
        # 1. Which authorities need a list?
        now = self.clock.now()
        self._seen, authorities = await self.datastore.read(
            lambda tx: (tx.changes.head().number, listed_authorities(tx.authorities.list(), now=now))
        )
        # 2. Sign one after the other. What comes in the meantime is in the next list.
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
        # 3. An authority that has left the bundle needs no list.
        for key_id in {*self._failing, *self.listed}.difference(one.key_id for one in authorities):
            self._recover(key_id)
            self.listed.pop(key_id, None)
        self.metrics.crl_bytes.set(largest)
        # 4. All lists together now hold what was revoked before the first look.
        if all_well:
            self.watch.listed(self._seen)
        return all_well

    async def attempt(self) -> bool:
        """Sign what is due; returns whether all is as it should be. Reports a failure."""
        try:
            all_well = await self()
        except Refused as refused:
            self._attempts.failed(refused, authority="")
            return False
        self._attempts.well()
        if all_well:
            self._attempts.begin_anew()
            self._lines.over(log.info)
        else:  # reported, for each authority
            self._attempts.put_off(_BACKOFF)
        return all_well

    async def run(self) -> None:
        """Sign each list when it is due, until cancelled; retry what fails."""
        while True:
            self.pulse.work()
            await self.attempt()
            await self._attempts.rest(self._news, after=_LOOK_EVERY)

    async def _news(self) -> None:
        """Return once the log has new denials or different authorities; the rows that said so may have been pruned."""
        while True:
            try:
                await self.datastore.wait_for_change(self._seen)
                changes = await self.datastore.read(lambda tx: tx.changes.after(self._seen, limit=_PAGE))
            except Refused:  # the next look reports it, and should not come at once
                return await self.clock.sleep(_AGAIN_SECONDS)
            is_whole = bool(changes) and changes[0].number == self._seen + 1
            if not is_whole or any(change.kind in _NEWS for change in changes):
                return None
            self._seen = changes[-1].number

    async def _bring_forward(self, authority: Authority) -> SignedCRL | None:
        """Sign the list of an authority if it is due; returns its newest list."""
        # 1. Is it due?
        last, denied, due = await self.datastore.read(lambda tx: self._look(tx, authority))
        self.listed[authority.key_id] = len(denied)
        if not due:
            return last
        await self.issuance.load(authority)
        # 2. Wait until the second in which the last list began is over. What comes in the meantime is in this one.
        now = self.clock.now()
        if (rest := (due_at(last, now=now) - now).total_seconds()) > 0:
            await self.clock.sleep(rest)
            last, denied, _ = await self.datastore.read(lambda tx: self._look(tx, authority))
            self.listed[authority.key_id] = len(denied)
        # 3. Record it and use up its number; then sign it.
        now = self.clock.now()
        draft = next_draft(authority, last, denied, now=now)
        recorded = await self.datastore.write(lambda tx: record_crl(tx, draft, authority, now=now))
        der = await self.issuance.release_crl(recorded)
        # 4. Store it, and tell those who follow the log.
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
        """The list of an authority, the content of the next one, and whether it is due."""
        last, denied = tx.crls.get(authority.key_id), tx.denials.of_authority(authority.key_id)
        return last, denied, is_due(last, denied, now=self.clock.now())

    def _recover(self, key_id: KeyID) -> None:
        self.troubles.over(_SIGNING, subject=key_id)
        self._failing.discard(key_id)

    def _tell(self, key_id: KeyID, refused: Refused) -> None:
        self._lines.failed(
            log.warning,
            _NOT_SIGNED,
            self.clock.monotonic(),
            reason=refused.detail,
            of=key_id,
            authority=key_id,
            hint=refused.hint,
        )
        self.troubles.note(_SIGNING, refused.detail, subject=key_id)
        self.metrics.crls_signed.labels(FAILED).inc()


def _store(tx: Transaction, signed: SignedCRL) -> None:
    tx.crls.put(signed)
    tx.changes.append([Change(kind=ChangeKind.CRL, subject=signed.authority_id)])
