"""The flows of an issuer that live by time, without doors: started, stopped, put to sleep, and given a clock that is set."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509

from cognomen.daemon.troubles import Troubles
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Refused
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.budget import Allowance
from issuer.decisions.identity import IssuerIdentity
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.issue_svids import IssueSVIDs, JWTRequest, X509Request
from issuer.flows.prune import Prune
from issuer.flows.renew_issuer_svid import RenewIssuerSVID
from issuer.flows.rotate_authority import RotateAuthority
from issuer.keepers.authority_outlook import AuthorityOutlook, RotationPolicy
from issuer.keepers.budgets import MintBudgets
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.refusal_record import RefusalRecord
from issuer.keymanager.memory import MemoryKeyManager
from issuer.metrics import Metrics
from issuer.queries import Queries
from issuer.upstream.port import UpstreamAuthority
from issuer.upstream.self_signed import SelfSigned
from issuer.works.authorities import ask_in
from svid.bundle import Bundle
from svid.errors import SVIDError
from svid.jwtsvid import JWTSVID
from svid.jwtsvid import verify as verify_jwt
from svid.keys import KeyKind, generate_private_key, public_key_to_der
from svid.x509svid import verify as verify_x509
from tests.doubles.clock import FakeClock
from tests.doubles.issuancelimits import issuance_limits
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import TRUST_DOMAIN, a_node, an_entry
from tests.doubles.issuersurroundings import around
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
    upstream: UpstreamAuthority = field(default_factory=SelfSigned)
    chains: list[list[x509.Certificate]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """Every SVID that was minted."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Start the process as issuer/main does."""
        self.store = RefusingStore(self.opened)
        clock, troubles, metrics = self.clock, Troubles(self.clock), Metrics()
        self.troubles = troubles
        way = issuance(self.store, clock, self.keys, metrics=metrics, upstream=self.upstream)
        self.guard = ClockGuard(datastore=self.store, around=around(clock))
        outlook = AuthorityOutlook(
            datastore=self.store,
            around=around(clock),
            guard=self.guard,
            policy=RotationPolicy(lifetime=timedelta(days=14), spread=timedelta(minutes=10)),
            watch=EnforcementWatch(around=around(clock)),
        )
        self.rotate = RotateAuthority(
            datastore=self.store,
            issuance=way,
            keys=self.keys,
            around=around(clock, troubles=troubles, metrics=metrics),
            trust_domain=TRUST_DOMAIN,
            outlook=outlook,
        )
        await self.rotate()
        renew = RenewIssuerSVID(
            datastore=self.store,
            issuance=way,
            around=around(clock, troubles=troubles, metrics=metrics),
            trust_domain=TRUST_DOMAIN,
            ttl=_TTL,
        )
        self.identity = await renew()
        refusals = RefusalRecord(datastore=self.store, around=around(clock, metrics=metrics))
        self.prune = Prune(
            datastore=self.store,
            around=around(clock, troubles=troubles),
            guard=self.guard,
            refusals=refusals,
            uses_kept=timedelta(days=90),
        )
        allowance = Allowance(burst=1000, per_second=1)
        self._svids = IssueSVIDs(
            datastore=self.store,
            issuance=way,
            budgets=MintBudgets(entry=allowance, node=allowance, clock=clock),
            limits=issuance_limits(clock),
            refusals=refusals,
            around=around(clock, metrics=metrics),
            trust_domain=TRUST_DOMAIN,
            x509_ttl=_TTL,
            jwt_ttl=_TTL,
        )
        self._tasks = [
            asyncio.create_task(self.rotate.run()),
            asyncio.create_task(renew.run(self.identity, self._present)),
        ]
        await self.settle()

    def _present(self, identity: IssuerIdentity) -> None:
        self.identity = identity

    async def stop(self) -> None:
        """End the process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def ask(self, kind: AuthorityKind) -> None:
        """Have the next authority of that kind sign as soon as everybody knows it."""
        await self.store.write(lambda tx: ask_in(tx, kind, actor="uid:0", now=self.clock.now()))
        self.rotate.wake()

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
            await self.settle()
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
            await self.settle()

    async def check(self) -> None:
        """Check that everything works, and that nothing that is valid was lost."""
        now, rows, bundle = self.clock.now(), await self.rows(), await self.bundle()
        for kind in AuthorityKind:
            signing = [row for row in rows if row.kind is kind and row.state is AuthorityState.ACTIVE]
            assert [row.not_before <= now < row.not_after for row in signing] == [True], (kind, now, signing)
            waiting = [row for row in rows if row.kind is kind and row.state is AuthorityState.NEXT]
            assert any(row.not_before <= now < row.not_after for row in waiting), (kind, now, waiting)
        verify_x509([x509.load_der_x509_certificate(der) for der in self.identity.chain], bundle, at=now)
        await self.mint()
        await self.mint_jwt()
        for chain in self.chains:
            if chain[0].not_valid_before_utc <= now < chain[0].not_valid_after_utc:
                verify_x509(chain, bundle, at=now)
        for token in self.tokens:
            if now < JWTSVID.parse_insecure(token).expires_at:
                verify_jwt(token, lambda _: bundle, audience=_AUDIENCE, at=now)

    async def mint(self) -> None:
        """Mint an X509-SVID."""
        key = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())
        (issued,) = await self._svids.x509(a_node(), [X509Request(entry_id=self.entry_id, public_key=key)])
        assert not isinstance(issued, Refused), issued
        self.chains.append([x509.load_der_x509_certificate(der) for der in issued.signed])

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
        return await Queries(self.opened, TRUST_DOMAIN).get_bundle()

    async def audit(self) -> str:
        """The record of decisions, a row a line."""
        rows = await self.opened.read(lambda tx: tx.audit.rows(after=0, limit=100_000))
        return "\n".join(row.body.decode() for row in rows)

    async def settle(self) -> None:
        """Let everybody do what the time wants."""
        await until(lambda: self.clock.sleepers == len(self._tasks))


@asynccontextmanager
async def aging(clock: FakeClock, upstream: UpstreamAuthority | None = None) -> AsyncIterator[AgingIssuer]:
    """An issuer that has just started for the first time."""
    opened = await SQLiteDatastore.open(None)
    node = a_node()
    await opened.write(lambda tx: tx.nodes.put(node))
    metrics = Metrics()
    watch = EnforcementWatch(around=around(clock, metrics=metrics))
    entries = ChangeEntries(
        around=around(clock, metrics=metrics),
        datastore=opened,
        trust_domain=TRUST_DOMAIN,
        node_attestors=["join_token"],
        watch=watch,
    )
    (entry,) = (await entries.create([an_entry()], actor="uid:0")).entries
    issuer = AgingIssuer(clock=clock, opened=opened, entry_id=entry.id, upstream=upstream or SelfSigned())
    await issuer.start()
    yield issuer
    await issuer.stop()
    await opened.close()
