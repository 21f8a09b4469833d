"""Bring the authorities forward, one idempotent step after the other; a restarted issuer continues from the rows.

issuer/decisions/rotation decides which step is due, and issuer/decisions/authority what it does to a row.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from types import MappingProxyType

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import authority, profile, rotation
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.profile import CADraft, Intent
from issuer.decisions.rotation import Circumstances, Step, StepKind
from issuer.issuance import Issuance, has_key
from issuer.keepers.authority_outlook import AuthorityOutlook
from issuer.keymanager.port import KeyManager
from issuer.metrics import FAILED, OK
from issuer.recording import Recorded, record, record_again
from issuer.surroundings import Surroundings
from issuer.works.authorities import activate_in, new_key_id, retire_in
from svid.backoff import Backoff
from svid.errors import X509SVIDError
from svid.keys import KeyKind, SigningKey, public_key_to_der
from svid.spiffeid import TrustDomain
from svid.x509svid import check_signing

__all__ = ["RotateAuthority"]

log = structlog.get_logger(__name__)

_ACTOR = "issuer"
_NO_FACTS: Mapping[str, str] = MappingProxyType({})
_BACKOFF = Backoff(
    initial=timedelta(milliseconds=500), maximum=timedelta(seconds=5)
)  # in the meantime, possibly nothing can sign
_TICKS = 1000  # looks in a lifetime
_SHORTEST_TICK, _LONGEST_TICK = timedelta(milliseconds=100), timedelta(seconds=10)


class RotateAuthority:
    """Takes the steps that are due.

    Args:
        keys: makes keys; issuance destroys them, because it holds their signers.
    """

    def __init__(
        self,
        *,
        datastore: Datastore,
        issuance: Issuance,
        keys: KeyManager,
        around: Surroundings,
        outlook: AuthorityOutlook,
        trust_domain: TrustDomain,
        jwt_key: KeyKind = KeyKind.EC_P256,
    ) -> None:
        self.datastore = datastore
        self.issuance = issuance
        self.keys = keys
        self.clock = around.clock
        self.outlook = outlook
        self.trust_domain = trust_domain
        self._key_kinds = {AuthorityKind.X509: KeyKind.EC_P256, AuthorityKind.JWT: jwt_key}
        self.jitter = around.jitter
        self.troubles = around.troubles
        self.metrics = around.metrics
        self.pulse = Pulse()
        self._woken = asyncio.Event()
        self._stepping = asyncio.Lock()

    async def __call__(self) -> None:
        """Take steps until none is due.

        Raises:
            Refused: CONFLICT when the store holds another trust domain's authorities; UNAVAILABLE from store and keys.
        """
        async with self._stepping:  # one key for each row: two callers at once would each use their own
            await self._step()

    async def _step(self) -> None:
        # 1. Are they ours?
        rows = await self.datastore.read(lambda tx: tx.authorities.list())
        self._check_ours(rows)
        # 2. Take one step after the other; but first, what signs must have its key.
        at = await self.outlook.circumstances()
        while True:
            if not await self._replace_lost(rows, at):
                if (step := rotation.next_step(rows, at)) is None:
                    break
                await self._take(step, at)
            self.metrics.authority_steps.labels(OK).inc()
            rows, at = await self.datastore.read(lambda tx: tx.authorities.list()), await self.outlook.circumstances()
        # 3. Clean up what a crash between two steps has left behind.
        for key_id in await self.keys.list():
            if rotation.is_orphan(key_id, rows):
                await self.issuance.destroy(key_id)
                log.info("authority key destroyed", key=key_id)

    async def run(self) -> None:
        """Take each step when it is due, until cancelled; retry what fails."""
        tick = min(max(self.outlook.lifetime / _TICKS, _SHORTEST_TICK), _LONGEST_TICK)
        attempts = Attempts(
            log,
            self.clock,
            pulse=self.pulse,
            troubles=self.troubles,
            trouble="authority rotation",
            over="authorities brought forward again",
            failure=Failure(event="authorities not brought forward", again=_BACKOFF),
            jitter=self.jitter,
            failures=self.metrics.authority_steps.labels(FAILED),
        )
        while True:
            with attempts.trying():
                await self()
            await attempts.rest(self._woken.wait, after=tick)
            self._woken.clear()

    def wake(self) -> None:
        """Take the steps that are due now, because somebody changed the rows."""
        self._woken.set()

    def _check_ours(self, rows: Sequence[Authority]) -> None:
        for certificate in (x509.load_der_x509_certificate(row.certificate) for row in rows if row.certificate):
            try:
                check_signing(certificate, self.trust_domain)
            except X509SVIDError as e:
                raise Refused(
                    Kind.CONFLICT,
                    f"trust_domain: expected that of the authorities in the store, found {self.trust_domain}: {e}",
                    hint="each trust domain needs its own state_dir",
                ) from e

    async def _replace_lost(self, rows: Sequence[Authority], at: Circumstances) -> bool:
        """If the key of the authority that signs is gone, let the next one sign; returns whether it now does.

        We do not switch automatically to a key that nobody knows yet: if the directory of all keys is missing, no node would recognize its
        issuer any more. For JWT authorities we do, because the nodes learn of those from their issuer.

        Raises:
            Refused: UNAVAILABLE for X.509 when there is no key that the nodes know and no operator has prepared another.
        """
        for row in rows:
            if not rotation.signs(row, now=at.now) or await has_key(self.keys, row):
                continue
            mine = [one for one in rows if one.kind is row.kind]
            able = [one for one in mine if one.is_published and await has_key(self.keys, one)]
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
            return None  # somebody else was faster: look again
        if following is not None:
            activate_in(tx, following, acknowledged=at.acknowledged, actor=_ACTOR, now=at.now)
        facts = {"why": "its key is gone"}
        return self._put(tx, authority.suspected(authority.replaced(row)), Action.AUTHORITY_NOT_LET_SIGN_AGAIN, facts)

    async def _take(self, step: Step, at: Circumstances) -> None:
        match step.kind, step.authority:
            case StepKind.INTEND, _:
                row = authority.intended(
                    step.authority_kind, new_key_id(step.authority_kind), now=at.now, ttl=self.outlook.lifetime
                )
                await self._write(lambda tx: self._put(tx, row, Action.AUTHORITY_INTENDED))
            case StepKind.PREPARE, Authority() as row:
                await self._prepare(step, row, at)
            case StepKind.PUBLISH, Authority():
                await self._take_due(step, at, self._publish)
            case StepKind.ACTIVATE, Authority() as row:
                is_able = await has_key(self.keys, row)
                await self._take_due(step, at, partial(self._activate, at=at) if is_able else self._give_up)
            case StepKind.RETIRE, Authority() as row:
                if await self._take_due(step, at, self._retire):
                    await self.issuance.destroy(row.key_id)
            case _:
                raise Refused(Kind.INTERNAL, f"authority: expected a row to {step.kind}, found none")

    async def _prepare(self, step: Step, row: Authority, at: Circumstances) -> None:
        # 1. Make the key, unless an earlier attempt has.
        key = await self._key(row)
        public_key = public_key_to_der(key.public_key)
        if row.kind is AuthorityKind.JWT:
            after = authority.prepared(row, public_key=public_key)
            await self._take_due(step, at, lambda tx, _: self._put(tx, after, Action.AUTHORITY_PREPARED))
            return
        # 2. Have its certificate signed. It is recorded before that, like everything; once for each key, however often we have to ask.
        recorded = await self.datastore.write(
            lambda tx: self._record(tx, authority.prepared(row, public_key=public_key))
        )
        signed = await self.issuance.release_ca(recorded, key)
        # 3. Complete the row.
        after = authority.prepared(row, public_key=public_key, chain=_to_der(signed.chain), roots=_to_der(signed.roots))
        await self._take_due(step, at, lambda tx, _: self._put(tx, after, Action.AUTHORITY_PREPARED))

    def _record(self, tx: Transaction, row: Authority) -> Recorded[CADraft]:
        now = self.clock.now()
        serial = profile.serial_of(row.public_key, at=row.not_before)
        draft = profile.build_ca(row, trust_domain=self.trust_domain, serial=serial)
        intent = Intent(kind=CredentialKind.AUTHORITY, draft=draft)
        again = record_again(tx, intent, row, trust_domain=self.trust_domain, now=now)
        if again is not None:
            return again
        (recorded,) = record(tx, [intent], row, trust_domain=self.trust_domain, now=now, actor=_ACTOR)
        return recorded

    async def _key(self, row: Authority) -> SigningKey:
        try:
            return await self.keys.get(row.key_id)
        except Refused as refused:
            if refused.kind is not Kind.NOT_FOUND:
                raise
            return await self.keys.generate(row.key_id, self._key_kinds[row.kind])

    def _publish(self, tx: Transaction, row: Authority) -> AuditEvent:
        tx.bundles.advance()
        change = tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
        return self._put(tx, authority.published(row, change=change, now=self.clock.now()), Action.AUTHORITY_PUBLISHED)

    def _activate(self, tx: Transaction, row: Authority, *, at: Circumstances) -> AuditEvent:
        return activate_in(tx, row, acknowledged=at.acknowledged, actor=_ACTOR, now=at.now)

    def _give_up(self, tx: Transaction, row: Authority) -> AuditEvent:
        """Never let an authority sign again if its key is gone; if it signed before, what it signed stays trusted."""
        if row.state is AuthorityState.NEXT:
            return self._retire(tx, row, reason="its key is gone")
        return self._put(tx, authority.suspected(row), Action.AUTHORITY_NOT_LET_SIGN_AGAIN, {"why": "its key is gone"})

    def _retire(self, tx: Transaction, row: Authority, *, reason: str = "") -> AuditEvent:
        now = self.clock.now()
        retire_in(tx, row, now=now)
        event = AuditEvent(
            at=now,
            actor=_ACTOR,
            action=Action.AUTHORITY_RETIRED,
            subject=row.key_id,
            facts={"why": reason} if reason else {},
        )
        tx.audit.append([event])
        return event

    async def _take_due(
        self, step: Step, at: Circumstances, work: Callable[[Transaction, Authority], AuditEvent]
    ) -> bool:
        """Take a step on the row as it is now; False if it is no longer due: an operator may have changed the row meanwhile."""

        def take(tx: Transaction) -> AuditEvent | None:
            row = _still_due(tx, step, at)
            return None if row is None else work(tx, row)

        return await self._write(take)

    async def _write(self, work: Callable[[Transaction], AuditEvent | None]) -> bool:
        """Take a step in a transaction, and log it once it is committed; whether it was taken."""
        event = await self.datastore.write(work)
        if event is not None:
            log.info(event.action, key=event.subject)
        return event is not None

    def _put(self, tx: Transaction, row: Authority, action: Action, facts: Mapping[str, str] = _NO_FACTS) -> AuditEvent:
        tx.authorities.put(row)
        event = AuditEvent(at=self.clock.now(), actor=_ACTOR, action=action, subject=row.key_id, facts=facts)
        tx.audit.append([event])
        return event


def _to_der(certificates: Sequence[x509.Certificate]) -> Sequence[bytes]:
    return [one.public_bytes(Encoding.DER) for one in certificates]


def _lost(row: Authority) -> Refused:
    return Refused(
        Kind.UNAVAILABLE,
        f"{row.kind} authority: the key of {row.key_id}, which signs, is gone, and so is the key of the next one",
        hint="put the keys back from where they were moved, or run: cognomen issuer restore;"
        f" while the issuer runs, you can also run: cognomen authority prepare {row.kind};"
        " if they are lost for good: cognomen issuer forget-authorities, after which every node has to be invited again",
        key=row.key_id,
    )


def _still_due(tx: Transaction, step: Step, at: Circumstances) -> Authority | None:
    """The row of the step, if this transaction also finds that step due for it."""
    found = rotation.next_step(tx.authorities.list(), at)
    if found is None or found.authority is None or step.authority is None or found.kind is not step.kind:
        return None
    return found.authority if found.authority.key_id == step.authority.key_id else None
