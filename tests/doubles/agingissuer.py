"""The flows of an issuer that live by time, without doors: started, stopped, put to sleep, and given a clock that is set."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509

from cognomen.daemon.errors import Refused
from cognomen.daemon.troubles import Troubles
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.budget import Allowance
from issuer.flows.audit_refusals import AuditRefusals
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.guard_clock import GuardClock
from issuer.flows.issue_svids import IssueSVIDs, JWTRequest, X509Request
from issuer.flows.keep_budgets import MintBudgets
from issuer.flows.prune import Prune
from issuer.flows.renew_issuer_svid import IssuerIdentity, RenewIssuerSVID
from issuer.flows.rotate_authority import RotateAuthority, RotationPolicy
from issuer.flows.watch_enforcement import WatchEnforcement
from issuer.keymanager.memory import MemoryKeyManager
from issuer.metrics import Metrics
from issuer.queries import get_bundle
from svid.bundle import Bundle
from svid.entry import EntryID
from svid.errors import SVIDError
from svid.jwtsvid import JWTSVID
from svid.jwtsvid import verify as verify_jwt
from svid.keys import KeyKind, generate_private_key, public_key_to_der
from svid.x509svid import verify as verify_x509
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import TRUST_DOMAIN, a_node, an_entry
from tests.doubles.refusingstore import RefusingStore
from tests.doubles.until import until

__all__ = ["AgingIssuer", "aging"]

_AUDIENCE = "db"
_TTL = timedelta(hours=1)


@dataclass(kw_only=True)
class AgingIssuer:
    """An issuer whose process comes and goes, on a store and keys that stay."""

    clock: FakeClock
    opened: SQLiteDatastore
    entry_id: EntryID
    keys: MemoryKeyManager = field(default_factory=MemoryKeyManager)
    leaves: list[x509.Certificate] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """Every SVID that was minted."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Start the process as issuer/main does."""
        self.store = RefusingStore(self.opened)
        clock, troubles, metrics = self.clock, Troubles(self.clock), Metrics()
        self.troubles = troubles
        way = issuance(self.store, clock, self.keys, metrics=metrics)
        self.guard = GuardClock(datastore=self.store, clock=clock)
        self.rotate = RotateAuthority(
            datastore=self.store,
            issuance=way,
            clock=clock,
            guard=self.guard,
            trust_domain=TRUST_DOMAIN,
            policy=RotationPolicy(lifetime=timedelta(days=14), spread=timedelta(minutes=10)),
            acknowledged=lambda: None,
            jitter=lambda: 0.5,
            troubles=troubles,
            metrics=metrics,
        )
        await self.rotate()
        renew = RenewIssuerSVID(
            datastore=self.store,
            issuance=way,
            clock=clock,
            trust_domain=TRUST_DOMAIN,
            ttl=_TTL,
            jitter=lambda: 0.5,
            troubles=troubles,
            metrics=metrics,
        )
        self.identity = await renew()
        refusals = AuditRefusals(datastore=self.store, clock=clock, metrics=metrics)
        self.prune = Prune(datastore=self.store, clock=clock, guard=self.guard, troubles=troubles, refusals=refusals)
        allowance = Allowance(burst=1000, per_second=1)
        self._svids = IssueSVIDs(
            datastore=self.store,
            issuance=way,
            budgets=MintBudgets(entry=allowance, node=allowance, clock=clock),
            refusals=refusals,
            clock=clock,
            trust_domain=TRUST_DOMAIN,
            x509_ttl=_TTL,
            jwt_ttl=_TTL,
            metrics=metrics,
        )
        self._tasks = [
            asyncio.create_task(self.rotate.run()),
            asyncio.create_task(renew.run(self.identity, self._present)),
        ]
        await self._settle()

    def _present(self, identity: IssuerIdentity) -> None:
        self.identity = identity

    async def stop(self) -> None:
        """End the process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def restart_after(self, away: timedelta, *, step: timedelta = timedelta()) -> None:
        """Be off for that long, with a clock that is off by `step` afterwards."""
        await self.stop()
        self.clock.advance(away)
        self.clock.jump(step)
        await self.start()

    async def go_on(self, seconds: float) -> None:
        """Let time pass, a look of everybody at a time."""
        while seconds > 0:
            self.clock.advance(min(seconds, 10))
            await self._settle()
            seconds -= 10

    async def comes_back(self, *, within: int = 20) -> None:
        """Wait until everything works, so many seconds at most.

        Raises:
            AssertionError: what does not work then.
        """
        for left in reversed(range(within + 1)):
            try:
                await self.check()
            except (AssertionError, Refused, SVIDError):
                if not left:
                    raise
            else:
                return
            self.clock.advance(1)
            await self._settle()

    async def check(self) -> None:
        """Check that everything works, and that nothing that is valid was lost."""
        now, rows, bundle = self.clock.now(), await self.rows(), await self.bundle()
        for kind in AuthorityKind:
            signing = [row for row in rows if row.kind is kind and row.state is AuthorityState.ACTIVE]
            assert [row.not_before <= now < row.not_after for row in signing] == [True], (kind, now, signing)
            waiting = [row for row in rows if row.kind is kind and row.state is AuthorityState.NEXT]
            assert any(row.not_before <= now < row.not_after for row in waiting), (kind, now, waiting)
        verify_x509([x509.load_der_x509_certificate(self.identity.chain[0])], bundle, at=now)
        await self.mint()
        await self.mint_jwt()
        for leaf in self.leaves:
            if leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
                verify_x509([leaf], bundle, at=now)
        for token in self.tokens:
            if now < JWTSVID.parse_insecure(token).expires_at:
                verify_jwt(token, lambda _: bundle, audience=_AUDIENCE, at=now)

    async def mint(self) -> None:
        """Mint an X509-SVID."""
        key = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())
        (issued,) = await self._svids.x509(a_node(), [X509Request(entry_id=self.entry_id, public_key=key)])
        assert not isinstance(issued, Refused), issued
        self.leaves.append(x509.load_der_x509_certificate(issued.signed))

    async def mint_jwt(self) -> None:
        """Mint a JWT-SVID."""
        (issued,) = await self._svids.jwt(a_node(), [JWTRequest(entry_id=self.entry_id, audiences=(_AUDIENCE,))])
        assert not isinstance(issued, Refused), issued
        self.tokens.append(issued.signed)

    async def rows(self) -> list[Authority]:
        """All authorities."""
        return list(await self.opened.read(lambda tx: tx.authorities.list()))

    async def bundle(self) -> Bundle:
        """Our own bundle."""
        return await get_bundle(self.opened, TRUST_DOMAIN)

    async def audit(self) -> str:
        """The record of decisions, a row a line."""
        rows = await self.opened.read(lambda tx: tx.audit.rows(after=0, limit=100_000))
        return "\n".join(row.body.decode() for row in rows)

    async def _settle(self) -> None:
        await until(lambda: self.clock.sleepers == len(self._tasks))


@asynccontextmanager
async def aging(clock: FakeClock) -> AsyncIterator[AgingIssuer]:
    """An issuer that has just started for the first time."""
    opened = await SQLiteDatastore.open(None)
    node = a_node()
    await opened.write(lambda tx: tx.nodes.put(node))
    metrics = Metrics()
    watch = WatchEnforcement(clock=clock, metrics=metrics)
    entries = ChangeEntries(metrics=metrics, datastore=opened, clock=clock, trust_domain=TRUST_DOMAIN, watch=watch)
    (entry,) = (await entries.create([an_entry()], actor="uid:0")).entries
    issuer = AgingIssuer(clock=clock, opened=opened, entry_id=entry.id)
    await issuer.start()
    yield issuer
    await issuer.stop()
    await opened.close()
