"""Issue the issuer's own X509-SVID and renew it in time.

issuer/api/doors presents it.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.waiting import first_of, until
from cognomen.protocol.errors import Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import profile
from issuer.decisions.authority import AuthorityKind, active
from issuer.decisions.identity import IssuerIdentity
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.profile import Intent, Validity, X509Draft
from issuer.decisions.timekeeping import renew_at, retry_in
from issuer.issuance import Issuance
from issuer.metrics import FAILED, OK
from issuer.recording import Recorded, record
from issuer.surroundings import Surroundings
from issuer.works.reads import bundle_in
from svid.backoff import Backoff
from svid.bundle import Bundle
from svid.keys import KeyID, KeyKind, PrivateKey, generate_private_key, public_key_to_der
from svid.spiffeid import TrustDomain

__all__ = ["RenewIssuerSVID"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(
    initial=timedelta(milliseconds=500), maximum=timedelta(seconds=5)
)  # also how late we notice a set clock


class RenewIssuerSVID:
    """Issues the issuer's own SVID, whose key never leaves the memory of this process."""

    def __init__(
        self,
        *,
        datastore: Datastore,
        issuance: Issuance,
        around: Surroundings,
        trust_domain: TrustDomain,
        ttl: timedelta,
    ) -> None:
        self.datastore = datastore
        self.issuance = issuance
        self.clock = around.clock
        self.trust_domain = trust_domain
        self.ttl = ttl
        self.jitter = around.jitter
        self.troubles = around.troubles
        self.metrics = around.metrics
        self.pulse = Pulse()

    async def __call__(self) -> IssuerIdentity:
        """Issue an SVID for a new key."""
        # 1. Make a key.
        key = generate_private_key(KeyKind.EC_P256)
        # 2. Record the SVID.
        recorded, validity, bundle = await self.datastore.write(lambda tx: self._record(tx, key))
        # 3. Sign it.
        (chain,) = await self.issuance.release_x509([recorded])
        self.metrics.svid_renewals.labels(OK).inc()
        return IssuerIdentity(
            chain=chain,
            private_key=key,
            bundle=bundle,
            authority_id=recorded.authority.key_id,
            issued_at=validity.issued_at,
            not_before=validity.not_before,
            not_after=validity.not_after,
        )

    async def run(self, identity: IssuerIdentity, present: Callable[[IssuerIdentity], None]) -> None:
        """Renew it at half-life, or at once if the clock was set, and keep its bundle up to date with the log; until cancelled.

        A failed renewal is tried again.
        """

        def failure(_: Refused) -> Failure:
            now = self.clock.now()
            left = identity.not_after - now if identity.is_valid(now) else timedelta()
            at_most = retry_in(_BACKOFF.maximum, left=left)
            return Failure(event="issuer SVID not renewed", again=_BACKOFF, at_most=at_most)

        attempts = Attempts(
            log,
            self.clock,
            pulse=self.pulse,
            troubles=self.troubles,
            trouble="issuer svid renewal",
            over="issuer SVID renewed again",
            failure=failure,
            jitter=self.jitter,
            failures=self.metrics.svid_renewals.labels(FAILED),
        )
        while True:
            with attempts.trying(not_after=identity.not_after.isoformat()):
                identity = await self._newer(identity, attempts)
                present(identity)
            await attempts.rest()

    async def _newer(self, identity: IssuerIdentity, attempts: Attempts) -> IssuerIdentity:
        """Wait for a new bundle, for a different signing authority, or until the next SVID is due."""

        def due() -> datetime:
            return renew_at(identity.issued_at, identity.not_after, now=self.clock.now())

        while due() > self.clock.now():
            bundle, signing, head = await self.datastore.read(self._authorities)
            if signing != identity.authority_id:
                break
            if bundle.sequence != identity.bundle.sequence:
                return replace(identity, bundle=bundle)
            attempts.unneeded()  # nothing is due: a corrected clock may have fixed it
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
