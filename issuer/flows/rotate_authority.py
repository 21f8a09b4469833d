"""Bring the authorities forward, one idempotent step after the other: a restart resumes from the rows.

Which step is due is decided in issuer/decisions/rotation, what it does to a row in authority.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import first_of
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import authority, profile, rotation
from issuer.decisions.audit import AuditEvent, CredentialKind
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.profile import CADraft, Intent
from issuer.decisions.rotation import Circumstances, Step, StepKind
from issuer.flows.guard_clock import GuardClock
from issuer.issuance import Issuance
from issuer.metrics import FAILED, OK, Metrics
from issuer.recording import Recorded, record
from svid.backoff import Backoff
from svid.clock import Clock
from svid.errors import X509SVIDError
from svid.keys import KeyID, KeyKind, SigningKey, public_key_to_der
from svid.spiffeid import TrustDomain
from svid.x509svid import check_signing

__all__ = ["RotateAuthority", "RotationPolicy"]

log = structlog.get_logger(__name__)

_ACTOR = "issuer"
_ROTATION = "authority rotation"
_BACKOFF = Backoff(initial=timedelta(milliseconds=500), maximum=timedelta(minutes=1))
_TICKS = 1000  # looks in a lifetime
_SHORTEST_TICK, _LONGEST_TICK = 0.1, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationPolicy:
    """What the operator decides.

    Args:
        spread: how long an authority stands in the bundle before it signs.
    """

    lifetime: timedelta
    spread: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateAuthority:
    """Takes the steps that are due.

    Args:
        issuance: its key manager is where keys are made and destroyed.
        acknowledged: tells the last change that every connected attestor has; None: nobody is connected.
        jitter: gives a number in [0, 1).
    """

    datastore: Datastore
    issuance: Issuance
    clock: Clock
    guard: GuardClock
    trust_domain: TrustDomain
    policy: RotationPolicy
    acknowledged: Callable[[], int | None]
    jitter: Callable[[], float]
    troubles: Troubles
    metrics: Metrics
    pulse: Pulse = field(default_factory=Pulse)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        """Take steps until none is due.

        Raises:
            Refused: CONFLICT when the store holds another trust domain's authorities; UNAVAILABLE as store and keys.
        """
        # 1. Are they ours?
        rows = await self.datastore.read(lambda tx: tx.authorities.list())
        self._check_ours(rows)
        # 2. One step after the other.
        at = await self._look()
        while (step := rotation.next_step(rows, at)) is not None:
            await self._take(step, at)
            self.metrics.authority_steps.labels(OK).inc()
            rows, at = await self.datastore.read(lambda tx: tx.authorities.list()), await self._look()
        # 3. What a crash between two steps has left behind.
        for key_id in await self.issuance.keys.list():
            if rotation.is_orphan(key_id, rows):
                await self.issuance.destroy(key_id)
                log.info("authority key destroyed", key=key_id)

    async def run(self) -> None:
        """Take each step when it is due, for ever; what fails is tried again."""
        tick = min(max(self.policy.lifetime.total_seconds() / _TICKS, _SHORTEST_TICK), _LONGEST_TICK)
        delays = _BACKOFF.delays(self.jitter)
        while True:
            self.pulse.work()
            try:
                await self()
            except Refused as refused:
                delay = next(delays).total_seconds()
                log.warning(
                    "authorities not brought forward", reason=refused.detail, hint=refused.hint, delay_seconds=delay
                )
                self.troubles.note(_ROTATION, refused.detail)
                self.metrics.authority_steps.labels(FAILED).inc()
                self.pulse.rest()
                await self.clock.sleep(delay)
                continue
            self.troubles.over(_ROTATION)
            delays = _BACKOFF.delays(self.jitter)
            self.pulse.rest()
            await first_of(self._woken.wait(), self.clock.sleep(tick))
            self._woken.clear()

    async def ask(self, kind: AuthorityKind, *, actor: str) -> None:
        """Have the next authority of this kind sign as soon as everybody knows it, because an operator wants it.

        Raises:
            Refused: UNAVAILABLE while none is published.
        """
        now = self.clock.now()

        def work(tx: Transaction) -> None:
            following = [a for a in tx.authorities.list() if a.kind is kind and a.state is AuthorityState.NEXT]
            if not following:
                raise Refused(Kind.UNAVAILABLE, f"{kind} authority: none is published to follow yet")
            tx.authorities.put(authority.asked(following[0], now=now))
            event = AuditEvent(at=now, actor=actor, action="authority rotation asked", subject=following[0].key_id)
            tx.audit.append([event])

        await self.datastore.write(work)
        self._woken.set()

    async def rows(self) -> Sequence[tuple[Authority, str]]:
        """All authorities, oldest first, and what the next and the old ones wait for."""
        rows = await self.datastore.read(lambda tx: tx.authorities.list())
        at = await self._look()
        return [(a, rotation.why_not_yet(a, rows, at)) for a in rows]

    async def _look(self) -> Circumstances:
        trusted = await self.guard.is_trusted()
        return Circumstances(
            now=self.clock.now(),
            spread=self.policy.spread,
            acknowledged=self.acknowledged(),
            is_clock_trusted=trusted,
        )

    def _check_ours(self, rows: Sequence[Authority]) -> None:
        for certificate in (x509.load_der_x509_certificate(row.certificate) for row in rows if row.certificate):
            try:
                check_signing(certificate, self.trust_domain)
            except X509SVIDError as e:
                raise Refused(
                    Kind.CONFLICT,
                    f"trust_domain: expected the one of the authorities in the store, found {self.trust_domain}: {e}",
                    hint="each trust domain needs a state_dir of its own",
                ) from e

    async def _take(self, step: Step, at: Circumstances) -> None:
        match step.kind, step.authority:
            case StepKind.INTEND, _:
                key_id = KeyID(f"{step.authority_kind}-{secrets.token_hex(8)}")
                row = authority.intended(step.authority_kind, key_id, now=at.now, ttl=self.policy.lifetime)
                await self._write(lambda tx: self._put(tx, row, "authority intended"))
            case StepKind.PREPARE, Authority() as row:
                await self._prepare(row)
            case StepKind.PUBLISH, Authority():
                await self._write(lambda tx: self._publish(tx, step, at))
            case StepKind.ACTIVATE, Authority() as row:
                if await self._has_key(row):
                    await self._write(lambda tx: self._activate(tx, step, at))
                else:
                    await self._write(lambda tx: self._give_up(tx, row))
            case StepKind.RETIRE, Authority() as row:
                await self._write(lambda tx: self._retire(tx, row))
                await self.issuance.destroy(row.key_id)
            case _:
                raise Refused(Kind.INTERNAL, f"authority: expected a row to {step.kind}, found none")

    async def _prepare(self, row: Authority) -> None:
        # 1. The key, which a former attempt may have made.
        key = await self._key(row.key_id)
        public_key = public_key_to_der(key.public_key)
        if row.kind is AuthorityKind.JWT:
            after = authority.prepared(row, public_key=public_key)
            await self._write(lambda tx: self._put(tx, after, "authority prepared"))
            return
        # 2. Its certificate: on record before it is signed, like everything.
        recorded = await self.datastore.write(
            lambda tx: self._record(tx, authority.prepared(row, public_key=public_key))
        )
        signed = await self.issuance.release_ca(recorded, key)
        # 3. The row, complete.
        after = authority.prepared(row, public_key=public_key, certificate=signed.chain[0].public_bytes(Encoding.DER))
        await self._write(lambda tx: self._put(tx, after, "authority prepared"))

    def _record(self, tx: Transaction, row: Authority) -> Recorded[CADraft]:
        now = self.clock.now()
        (serial,) = profile.serials(secrets.token_bytes(profile.SERIAL_BYTES), at=now)
        draft = profile.build_ca(row, trust_domain=self.trust_domain, serial=serial)
        intent = Intent(kind=CredentialKind.AUTHORITY, draft=draft)
        (recorded,) = record(tx, [intent], row, trust_domain=self.trust_domain, now=now, actor=_ACTOR)
        return recorded

    async def _key(self, key_id: KeyID) -> SigningKey:
        try:
            return await self.issuance.keys.get(key_id)
        except Refused as refused:
            if refused.kind is not Kind.NOT_FOUND:
                raise
            return await self.issuance.keys.generate(key_id, KeyKind.EC_P256)

    async def _has_key(self, row: Authority) -> bool:
        """Whether the key is there that the bundle speaks of: one that is gone is not let sign."""
        try:
            key = await self.issuance.keys.get(row.key_id)
        except Refused as refused:
            if refused.kind is not Kind.NOT_FOUND:
                raise
            return False
        return public_key_to_der(key.public_key) == row.public_key

    def _publish(self, tx: Transaction, step: Step, at: Circumstances) -> AuditEvent | None:
        if (row := _still_due(tx, step, at)) is None:
            return None
        tx.bundles.advance()
        change = tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
        return self._put(tx, authority.published(row, change=change, now=at.now), "authority published")

    def _activate(self, tx: Transaction, step: Step, at: Circumstances) -> AuditEvent | None:
        if (row := _still_due(tx, step, at)) is None:
            return None
        for before in tx.authorities.list():
            if before.kind is row.kind and before.state is AuthorityState.ACTIVE:
                tx.authorities.put(authority.replaced(before))
        tx.changes.append([Change(kind=ChangeKind.AUTHORITY)])
        known = at.acknowledged is None or at.acknowledged >= row.published_change
        told = "every connected attestor" if known else "not every connected attestor"
        return self._put(tx, authority.activated(row, now=at.now), "authority activated", {"acknowledged by": told})

    def _give_up(self, tx: Transaction, row: Authority) -> AuditEvent:
        """Never let sign one whose key is gone; if it signed before, what it signed stays trusted."""
        if row.state is AuthorityState.NEXT:
            return self._retire(tx, row, reason="its key is gone")
        return self._put(tx, authority.suspected(row), "authority not let sign again", {"why": "its key is gone"})

    def _retire(self, tx: Transaction, row: Authority, *, reason: str = "") -> AuditEvent:
        if row.state is not AuthorityState.INTENDED:
            tx.bundles.advance()
            tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
        tx.crls.delete(row.key_id)
        return self._put(tx, authority.retired(row), "authority retired", {"why": reason} if reason else {})

    async def _write(self, work: Callable[[Transaction], AuditEvent | None]) -> None:
        """Take a step in a transaction; the log tells of it once it is committed."""
        event = await self.datastore.write(work)
        if event is not None:
            log.info(event.action, key=event.subject)

    def _put(self, tx: Transaction, row: Authority, action: str, facts: dict[str, str] | None = None) -> AuditEvent:
        tx.authorities.put(row)
        event = AuditEvent(at=self.clock.now(), actor=_ACTOR, action=action, subject=row.key_id, facts=facts or {})
        tx.audit.append([event])
        return event


def _still_due(tx: Transaction, step: Step, at: Circumstances) -> Authority | None:
    """The row of the step, if it is what this transaction finds due, too."""
    found = rotation.next_step(tx.authorities.list(), at)
    return found.authority if found is not None and found.kind is step.kind else None
