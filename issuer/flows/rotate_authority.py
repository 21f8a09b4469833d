"""Bring the authorities forward, one idempotent step after the other: a restart resumes from the rows.

Which step is due is decided in issuer/decisions/rotation, what it does to a row in authority.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

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
from issuer.issuance import Issuance, has_key
from issuer.metrics import FAILED, OK, Metrics
from issuer.recording import Recorded, record
from svid.backoff import Backoff
from svid.clock import Clock
from svid.errors import X509SVIDError
from svid.keys import KeyID, KeyKind, SigningKey, public_key_to_der
from svid.spiffeid import TrustDomain
from svid.x509svid import check_signing

__all__ = ["RotateAuthority", "RotationPolicy", "activate_in", "new_key_id", "retire_in"]

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
    _stepping: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self) -> None:
        """Take steps until none is due.

        Raises:
            Refused: CONFLICT when the store holds another trust domain's authorities; UNAVAILABLE as store and keys.
        """
        async with self._stepping:  # one key for each row: two that make it would each take their own for it
            await self._step()

    async def _step(self) -> None:
        # 1. Are they ours?
        rows = await self.datastore.read(lambda tx: tx.authorities.list())
        self._check_ours(rows)
        # 2. One step after the other; first of all, what signs must have its key.
        at = await self._look()
        while True:
            if not await self._replace_lost(rows, at):
                if (step := rotation.next_step(rows, at)) is None:
                    break
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

    async def ask(self, kind: AuthorityKind, *, actor: str, why: str = "") -> None:
        """Have the next authority of this kind sign as soon as everybody knows it, because somebody wants it.

        Args:
            why: for the record, where no operator says it.

        Raises:
            Refused: UNAVAILABLE while none is published.
        """
        now = self.clock.now()

        def work(tx: Transaction) -> None:
            following = rotation.successor(tx.authorities.list(), kind, now=now)
            if following is None:
                raise Refused(Kind.UNAVAILABLE, f"{kind} authority: none is published to follow yet")
            facts = {"why": why} if why else {}
            self._put(tx, authority.asked(following, now=now), "authority rotation asked", facts, actor=actor)

        await self.datastore.write(work)
        self.wake()

    def wake(self) -> None:
        """Look for what is due now: somebody changed the rows."""
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

    async def _replace_lost(self, rows: Sequence[Authority], at: Circumstances) -> bool:
        """Let the next one sign where the key of the one that does is gone; whether it does from now on.

        A key that nobody knows yet is no way out by itself: with the directory of all keys missing, no node would know its issuer again.
        Of JWT authorities it is one, for the nodes learn of those from their issuer.

        Raises:
            Refused: UNAVAILABLE for X.509 when no key is there that the nodes know, nor an operator has one more prepared.
        """
        for row in rows:
            if not rotation.signs(row, now=at.now) or await has_key(self.issuance.keys, row):
                continue
            mine = [one for one in rows if one.kind is row.kind]
            able = [one for one in mine if one.is_published and await has_key(self.issuance.keys, one)]
            following = rotation.successor(able, row.kind, now=at.now)
            if following is not None or row.kind is AuthorityKind.JWT:
                await self._write(partial(self._let_go, row=row, following=following, at=at))
                return True
            if not any(one.state is AuthorityState.INTENDED for one in mine):
                raise _lost(row)
        return False

    def _let_go(
        self, tx: Transaction, *, row: Authority, following: Authority | None, at: Circumstances
    ) -> AuditEvent | None:
        states = {one.key_id: one.state for one in tx.authorities.list()}
        if any(one is not None and states[one.key_id] is not one.state for one in (row, following)):
            return None  # somebody was faster: look again
        if following is not None:
            activate_in(tx, following, acknowledged=at.acknowledged, actor=_ACTOR, now=at.now)
        facts = {"why": "its key is gone"}
        return self._put(tx, authority.suspected(authority.replaced(row)), "authority not let sign again", facts)

    async def _take(self, step: Step, at: Circumstances) -> None:
        match step.kind, step.authority:
            case StepKind.INTEND, _:
                row = authority.intended(
                    step.authority_kind, new_key_id(step.authority_kind), now=at.now, ttl=self.policy.lifetime
                )
                await self._write(lambda tx: self._put(tx, row, "authority intended"))
            case StepKind.PREPARE, Authority() as row:
                await self._prepare(row)
            case StepKind.PUBLISH, Authority():
                await self._write(lambda tx: self._publish(tx, step, at))
            case StepKind.ACTIVATE, Authority() as row:
                if await has_key(self.issuance.keys, row):
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

    def _publish(self, tx: Transaction, step: Step, at: Circumstances) -> AuditEvent | None:
        if (row := _still_due(tx, step, at)) is None:
            return None
        tx.bundles.advance()
        change = tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
        return self._put(tx, authority.published(row, change=change, now=at.now), "authority published")

    def _activate(self, tx: Transaction, step: Step, at: Circumstances) -> AuditEvent | None:
        if (row := _still_due(tx, step, at)) is None:
            return None
        return activate_in(tx, row, acknowledged=at.acknowledged, actor=_ACTOR, now=at.now)

    def _give_up(self, tx: Transaction, row: Authority) -> AuditEvent:
        """Never let sign one whose key is gone; if it signed before, what it signed stays trusted."""
        if row.state is AuthorityState.NEXT:
            return self._retire(tx, row, reason="its key is gone")
        return self._put(tx, authority.suspected(row), "authority not let sign again", {"why": "its key is gone"})

    def _retire(self, tx: Transaction, row: Authority, *, reason: str = "") -> AuditEvent:
        now = self.clock.now()
        retire_in(tx, row, now=now)
        event = AuditEvent(
            at=now,
            actor=_ACTOR,
            action="authority retired",
            subject=row.key_id,
            facts={"why": reason} if reason else {},
        )
        tx.audit.append([event])
        return event

    async def _write(self, work: Callable[[Transaction], AuditEvent | None]) -> None:
        """Take a step in a transaction; the log tells of it once it is committed."""
        event = await self.datastore.write(work)
        if event is not None:
            log.info(event.action, key=event.subject)

    def _put(
        self, tx: Transaction, row: Authority, action: str, facts: dict[str, str] | None = None, *, actor: str = _ACTOR
    ) -> AuditEvent:
        tx.authorities.put(row)
        event = AuditEvent(at=self.clock.now(), actor=actor, action=action, subject=row.key_id, facts=facts or {})
        tx.audit.append([event])
        return event


def new_key_id(kind: AuthorityKind) -> KeyID:
    """A name that no key has yet."""
    return KeyID(f"{kind}-{secrets.token_hex(8)}")


def activate_in(tx: Transaction, row: Authority, *, acknowledged: int | None, actor: str, now: datetime) -> AuditEvent:
    """Let an authority sign in the place of the one that does, with the change and the row of the audit.

    Args:
        acknowledged: the last change that every connected attestor has; None: nobody is connected.
    """
    for after in rotation.activation(tx.authorities.list(), row, now=now):
        tx.authorities.put(after)
    tx.changes.append([Change(kind=ChangeKind.AUTHORITY)])
    known = acknowledged is None or acknowledged >= row.published_change
    told = "every connected attestor" if known else "not every connected attestor"
    event = AuditEvent(
        at=now, actor=actor, action="authority activated", subject=row.key_id, facts={"acknowledged by": told}
    )
    tx.audit.append([event])
    return event


def retire_in(tx: Transaction, row: Authority, *, now: datetime) -> None:
    """Take an authority out of the bundle for good, with the change; who does it puts it on record, and destroys the key."""
    if row.is_published:
        tx.bundles.advance()
        tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
    tx.crls.delete(row.key_id)
    tx.authorities.put(authority.retired(row, now=now))


def _lost(row: Authority) -> Refused:
    return Refused(
        Kind.UNAVAILABLE,
        f"{row.kind} authority: the key of {row.key_id}, which signs, is gone, and so is that of the next one",
        hint="put the keys back, from where they were moved or by: cognomen issuer restore;"
        f" while the issuer runs, also: cognomen authority prepare {row.kind};"
        " where they are lost for good: cognomen issuer forget-authorities, and every node has to be invited again",
        key=row.key_id,
    )


def _still_due(tx: Transaction, step: Step, at: Circumstances) -> Authority | None:
    """The row of the step, if it is what this transaction finds due, too."""
    found = rotation.next_step(tx.authorities.list(), at)
    return found.authority if found is not None and found.kind is step.kind else None
