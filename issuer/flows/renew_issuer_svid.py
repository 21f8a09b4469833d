"""Issue the issuer's own X509-SVID, which its doors present, and tell when the next one is due.

Who presents it, and how: issuer/api/doors.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from cognomen.daemon.errors import Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import first_of, until
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import profile
from issuer.decisions.audit import CredentialKind
from issuer.decisions.authority import AuthorityKind, active
from issuer.decisions.profile import Intent, Validity, X509Draft
from issuer.decisions.timekeeping import renew_at
from issuer.issuance import Issuance
from issuer.metrics import FAILED, OK, Metrics
from issuer.queries import bundle_in
from issuer.recording import Recorded, record
from svid.backoff import Backoff
from svid.bundle import Bundle
from svid.clock import Clock
from svid.keys import KeyID, KeyKind, PrivateKey, generate_private_key, public_key_to_der
from svid.spiffeid import TrustDomain

__all__ = ["IssuerIdentity", "RenewIssuerSVID"]

log = structlog.get_logger(__name__)

_RENEWAL = "issuer svid renewal"
_BACKOFF = Backoff(initial=timedelta(milliseconds=500), maximum=timedelta(seconds=30))
_URGENT_SECONDS = 1.0  # the longest wait while what the doors present is not valid: nobody can reach us meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerIdentity:
    """The issuer's X509-SVID (DER, leaf first), who signed it, and the bundle that its node door trusts."""

    chain: tuple[bytes, ...]
    private_key: PrivateKey = field(repr=False)
    bundle: Bundle
    authority_id: KeyID
    issued_at: datetime
    not_before: datetime
    not_after: datetime

    def is_valid(self, now: datetime) -> bool:
        """Whether somebody whose clock is ours takes it."""
        return self.not_before <= now < self.not_after


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewIssuerSVID:
    """Issues the issuer's own SVID; its key never leaves this process's memory."""

    datastore: Datastore
    issuance: Issuance
    clock: Clock
    trust_domain: TrustDomain
    ttl: timedelta
    jitter: Callable[[], float]
    troubles: Troubles
    metrics: Metrics
    pulse: Pulse = field(default_factory=Pulse)

    async def __call__(self) -> IssuerIdentity:
        """Issue one, for a new key."""
        # 1. A key.
        key = generate_private_key(KeyKind.EC_P256)
        # 2. On record.
        recorded, validity, bundle = await self.datastore.write(lambda tx: self._record(tx, key))
        # 3. Signed.
        (der,) = await self.issuance.release_x509([recorded])
        self.metrics.svid_renewals.labels(OK).inc()
        return IssuerIdentity(
            chain=(der,),
            private_key=key,
            bundle=bundle,
            authority_id=recorded.authority.key_id,
            issued_at=validity.issued_at,
            not_before=validity.not_before,
            not_after=validity.not_after,
        )

    async def run(self, identity: IssuerIdentity, present: Callable[[IssuerIdentity], None]) -> None:
        """Keep it renewed at half-life, and at once when the clock was set; and its bundle as the log has it; until cancelled.

        What fails is tried again.
        """
        delays = _BACKOFF.delays(self.jitter)
        while True:
            try:
                identity = await self._newer(identity)
            except Refused as refused:
                delay = next(delays).total_seconds()
                if not identity.is_valid(self.clock.now()):
                    delay = min(delay, _URGENT_SECONDS)
                log.warning(
                    "issuer SVID not renewed",
                    reason=refused.detail,
                    hint=refused.hint,
                    not_after=identity.not_after.isoformat(),
                    delay_seconds=round(delay, 3),
                )
                self.troubles.note(_RENEWAL, refused.detail)
                self.metrics.svid_renewals.labels(FAILED).inc()
                self.pulse.rest()
                await self.clock.sleep(delay)
                continue
            self.troubles.over(_RENEWAL)
            delays = _BACKOFF.delays(self.jitter)
            present(identity)

    async def _newer(self, identity: IssuerIdentity) -> IssuerIdentity:
        """Wait for another bundle, for another authority that signs, or for the moment when the next SVID is due."""

        def due() -> datetime:
            return renew_at(identity.issued_at, identity.not_after, now=self.clock.now())

        self.pulse.work()
        while due() > self.clock.now():
            bundle, signing, head = await self.datastore.read(self._authorities)
            if signing != identity.authority_id:
                break
            if bundle.sequence != identity.bundle.sequence:
                return replace(identity, bundle=bundle)
            self.pulse.rest()
            await first_of(until(due, self.clock), self.datastore.wait_for_change(head))
            self.pulse.work()
        return await self()

    def _authorities(self, tx: Transaction) -> tuple[Bundle, KeyID, int]:
        signing = active(tx.authorities.list(), AuthorityKind.X509, now=self.clock.now())
        return bundle_in(tx, self.trust_domain), signing.key_id, tx.changes.head().number

    def _record(self, tx: Transaction, key: PrivateKey) -> tuple[Recorded[X509Draft], Validity, Bundle]:
        now = self.clock.now()
        authority = active(tx.authorities.list(), AuthorityKind.X509, now=now)
        validity = profile.validity(now, self.ttl, authority)
        (serial,) = profile.serials(secrets.token_bytes(profile.SERIAL_BYTES), at=now)
        public_key = public_key_to_der(key.public_key())
        draft = profile.build_issuer_x509(self.trust_domain, public_key, serial=serial, validity=validity)
        intent = Intent(kind=CredentialKind.ISSUER, draft=draft)
        (recorded,) = record(tx, [intent], authority, trust_domain=self.trust_domain, now=now, actor="issuer")
        return recorded, validity, bundle_in(tx, self.trust_domain)
