"""issuer/keepers/issuance_limits at the flow that mints: what is new is limited, what replaces passes; in memory, by a fake clock."""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

import pytest

from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import agent_and_component
from cognomen.rulebook.limits import LimitedScope
from cognomen.rulebook.tables import LimitsMode, OnBurst
from issuer.datastore.port import Datastore, Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node
from issuer.decisions.authority import Authority, replaced
from issuer.decisions.budget import Allowance
from issuer.decisions.limits import Limit, Standing
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.issue_svids import IssueSVIDs, JWTRequest, X509Request
from issuer.flows.watch_breakers import WatchBreakers
from issuer.keepers.budgets import MintBudgets
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.issuance_limits import IssuanceLimits
from issuer.keepers.refusal_record import RefusalRecord
from issuer.metrics import Metrics
from issuer.works.denials import end_in
from svid.keys import KeyKind, generate_private_key, public_key_to_der
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.issuancelimits import issuance_limits
from tests.doubles.issuances import GivenKeys, issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, Signing, a_node, an_entry, jwt_authority, x509_authority
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore

TTL = timedelta(minutes=5)
CRM, LEDGER = "/agent/concierge/crm", "/agent/concierge/ledger"
numbers = itertools.count()
OK = ""
REASON = "limit of component concierge/crm: expected at most 10 new JWT-SVIDs a minute, found more; its breaker is open, only renewals pass"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class House:
    clock: FakeClock
    store: SQLiteDatastore
    svids: IssueSVIDs
    limits: IssuanceLimits
    metrics: Metrics
    entries: dict[str, RegistrationEntry]
    nodes: dict[str, Node]
    breakers: WatchBreakers
    next: Sequence[Signing]
    suspended: list[tuple[str, str]] = field(default_factory=list)

    def limit(self, path: str = CRM, *, enforce: bool = True, on_burst: OnBurst = OnBurst.REFUSE, **most: int) -> None:
        """Load limits of one component or agent, as a new rulebook would."""
        mode = LimitsMode.ENFORCE if enforce else LimitsMode.COUNT
        rules = [LimitedScope(path=path, most=most, mode=mode, on_burst=on_burst)]
        if path.count("/") == 2:
            rules += [LimitedScope(path=one, most={}) for one in (CRM, LEDGER)]
        self.limits.load(next(numbers), rules)

    async def tokens(self, *audiences: str, path: str = CRM, node: str = "n1") -> list[str]:
        """Ask for a token for each of these audiences, in one batch: for each nothing, or why not."""
        requests = [JWTRequest(entry_id=self.entries[path].id, audiences=(one,)) for one in audiences]
        return [_told(one) for one in await self.svids.jwt(self.nodes[node], requests)]

    async def others(self, count: int, *, path: str = CRM) -> list[str]:
        """Ask for tokens for audiences that nobody asked for before."""
        return await self.tokens(*(f"a{next(numbers)}" for _ in range(count)), path=path)

    async def leaf(self, path: str = CRM, node: str = "n1") -> str:
        return (await self.leaves((path, node)))[0]

    async def leaves(self, *wanted: tuple[str, str]) -> list[str]:
        told = []
        for path, node in wanted:
            key = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())
            request = X509Request(entry_id=self.entries[path].id, public_key=key)
            told += [_told(one) for one in await self.svids.x509(self.nodes[node], [request])]
        return told

    def standing(self, limit: Limit) -> Standing:
        (found,) = [one for one in self.limits.standings() if one.limit is limit]
        return found

    async def taint(self) -> None:
        """Let other authorities sign, as after a taint or a revocation."""
        now = [
            *map(replaced, await self.store.read(lambda tx: tx.authorities.list())),
            *(one.authority for one in self.next),
        ]
        await self.store.write(partial(_put_authorities, now))

    async def revoke(self, path: str) -> None:
        """Revoke what is live of a component, as the suspension of its agent does."""
        own = SpiffeID(trust_domain=TRUST_DOMAIN, path=path)
        order = Revocation(
            target=Target(kind=RevocationKind.ISSUED_BEFORE, before=self.clock.now(), spiffe_id=own),
            reason=Reason.CESSATION_OF_OPERATION,
            comment="",
            actor="uid:0",
            at=self.clock.now(),
        )
        await self.store.write(lambda tx: end_in(tx, order, Live(spiffe_id=own)))

    async def audit(self) -> list[str]:
        rows = await self.store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))
        return [row.body.decode() for row in rows]


class Undoing(RefusingStore):
    """A store that undoes each write once it has run, and then runs it again, or not."""

    def __init__(self, store: Datastore, *, again: bool) -> None:
        super().__init__(store)
        self.again = again

    async def write(self, work: Callable[[Transaction], T], *, expendable: bool = False) -> T:
        def lost(tx: Transaction) -> T:
            work(tx)
            raise Refused(Kind.UNAVAILABLE, "not kept")

        if not self.again:
            return await super().write(lost, expendable=expendable)
        with pytest.raises(Refused, match="not kept"):
            await super().write(lost, expendable=expendable)
        return await super().write(work, expendable=expendable)


def _put_authorities(rows: Sequence[Authority], tx: Transaction) -> None:
    for row in rows:
        tx.authorities.put(row)


def _put_nodes(nodes: Sequence[Node], tx: Transaction) -> None:
    for node in nodes:
        tx.nodes.put(node)


def _told(answer: object) -> str:
    if isinstance(answer, Refused):
        assert answer.kind is Kind.EXHAUSTED
        return answer.detail
    return OK


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store, clock, metrics = await SQLiteDatastore.open(None), FakeClock(NOW), Metrics()
    own = around(clock, metrics=metrics)
    x509, jwt = await x509_authority(), jwt_authority()
    next_ones = [await x509_authority(key_id="x509-2"), jwt_authority(key_id="jwt-2")]
    await store.write(lambda tx: tx.authorities.put(x509.authority))
    await store.write(lambda tx: tx.authorities.put(jwt.authority))
    watch = EnforcementWatch(around=own)
    entries = ChangeEntries(
        around=own, datastore=store, trust_domain=TRUST_DOMAIN, node_attestors=["join_token"], watch=watch
    )
    group = an_entry("/nodes", parent="/cognomen/issuer", of="join_token:label:team:travel")
    given = [an_entry(path, parent="/nodes", of=f"unix:uid:{uid}") for uid, path in enumerate((CRM, LEDGER), start=1)]
    made = await entries.create([group, *given], actor="uid:0")
    nodes = {name: a_node(name) for name in ("n1", "n2", "n3")}
    await store.write(partial(_put_nodes, list(nodes.values())))
    plenty = Allowance(burst=100_000, per_second=1000)
    limits = issuance_limits(clock, own=own)
    suspended: list[tuple[str, str]] = []

    async def suspend(name: str, /, *, actor: str) -> None:
        suspended.append((name, f"{actor}: {getattr(actor, 'comment', '')}"))

    yield House(
        clock=clock,
        store=store,
        limits=limits,
        metrics=metrics,
        entries={one.spiffe_id.path: one for one in made.entries},
        nodes=nodes,
        suspended=suspended,
        next=next_ones,
        breakers=WatchBreakers(datastore=store, around=own, limits=limits, suspend=suspend, trust_domain=TRUST_DOMAIN),
        svids=IssueSVIDs(
            datastore=store,
            issuance=issuance(
                store, clock, GivenKeys(x509.key, jwt.key, *(one.key for one in next_ones)), metrics=metrics
            ),
            budgets=MintBudgets(entry=plenty, node=plenty, clock=clock),
            limits=limits,
            refusals=RefusalRecord(datastore=store, around=own),
            around=own,
            trust_domain=TRUST_DOMAIN,
            x509_ttl=TTL,
            jwt_ttl=TTL,
        ),
    )
    await store.close()


def refused(answers: Sequence[str]) -> int:
    return sum(one != OK for one in answers)


async def test_a_burst_is_refused_with_the_reason_and_another_component_goes_on(house: House) -> None:
    house.limit(jwt_per_minute=10)
    answers = await house.others(15)
    assert answers[:10] == [OK] * 10
    assert set(answers[10:]) == {REASON}
    assert await house.others(30, path=LEDGER) == [OK] * 30
    house.clock.advance(29)  # the rate would let 4 pass by now
    assert refused(await house.others(1)) == 1


async def test_a_steady_rate_just_below_the_limit_is_never_refused(house: House) -> None:
    house.limit(jwt_per_minute=10)
    for _ in range(200):
        assert await house.others(1) == [OK]
        house.clock.advance(6.05)
    assert house.standing(Limit.JWT_PER_MINUTE).over == 0


async def test_a_breaker_half_opens_and_closes_if_what_comes_is_within_the_limit(house: House) -> None:
    house.limit(jwt_per_minute=10)
    await house.others(11)
    house.clock.advance(30)
    for _ in range(5):
        assert await house.others(1) == [OK]
        house.clock.advance(6.05)
    assert house.standing(Limit.JWT_PER_MINUTE).breaker == "closed"
    assert refused(await house.others(5)) == 0


async def test_a_breaker_that_half_opened_opens_for_longer_if_too_much_comes(house: House) -> None:
    house.limit(jwt_per_minute=10)
    await house.others(11)
    house.clock.advance(30)
    assert [one == OK for one in await house.others(3)] == [True, False, False]  # a tenth of the limit
    house.clock.advance(59)
    assert refused(await house.others(1)) == 1
    house.clock.advance(1)
    assert house.standing(Limit.JWT_PER_MINUTE).breaker == "half-open"
    assert await house.others(1) == [OK]


async def test_an_agents_limit_is_that_of_all_its_components_together(house: House) -> None:
    house.limit("/agent/concierge", jwt_per_minute=10)
    assert refused(await house.others(6)) == 0
    answers = await house.others(6, path=LEDGER)
    assert refused(answers) == 2
    assert answers[-1].startswith("limit of agent concierge: expected at most 10 new JWT-SVIDs a minute")
    assert refused(await house.others(1)) == 1


async def test_counting_never_refuses_and_says_what_would_have_been(house: House) -> None:
    house.limit(enforce=False, on_burst=OnBurst.SUSPEND, jwt_per_minute=10, audiences_per_hour=3, live_svids=5, nodes=1)
    assert refused(await house.others(50)) == 0
    assert await house.leaves((CRM, "n1"), (CRM, "n2"), (CRM, "n3")) == [OK] * 3
    over = {one.limit: one.over for one in house.limits.standings()}
    assert all(over.values()), over
    assert house.standing(Limit.JWT_PER_MINUTE).breaker == "open"
    assert house.metrics.registry.get_sample_value(
        "cognomen_issuer_over_limits_total", {"limit": "jwt_per_minute", "mode": "count"}
    )
    await house.breakers()
    assert house.suspended == []
    assert '"mode":"count"' in (await house.audit())[-1]


async def test_what_replaces_a_certificate_passes_while_the_breaker_is_open(house: House) -> None:
    house.limit(x509_per_minute=1)
    assert await house.leaf(CRM, "n1") == OK
    assert await house.leaf(CRM, "n2") != OK
    for _ in range(20):
        assert await house.leaf(CRM, "n1") == OK
    house.clock.advance(timedelta(hours=3))  # it ended: the node, or the issuer, was away
    assert await house.leaf(CRM, "n2") == OK
    assert await house.leaf(CRM, "n3") != OK
    assert await house.leaf(CRM, "n1") == OK


async def test_a_certificate_that_ended_before_the_return_window_is_no_longer_replaced(house: House) -> None:
    house.limit(x509_per_minute=1)
    assert await house.leaf(CRM, "n1") == OK
    house.clock.advance(timedelta(days=5) + TTL)
    assert await house.leaf(CRM, "n2") == OK
    assert await house.leaf(CRM, "n1") != OK


async def test_what_replaces_a_token_passes_once_in_each_half_of_its_life(house: House) -> None:
    house.limit(jwt_per_minute=2)
    assert await house.tokens("https://crm.example.org") == [OK]
    await house.others(2)  # the breaker is open
    assert refused(await house.others(1)) == 1
    assert await house.tokens("https://crm.example.org") == [OK], "an attestor that restarted has lost it"
    for _ in range(4):
        assert refused(await house.tokens("https://crm.example.org")) == 1
        house.clock.advance(TTL / 2)
        await house.others(5)
        assert await house.tokens("https://crm.example.org") == [OK]


async def test_a_taint_is_answered_while_the_breakers_are_open(house: House) -> None:
    house.limit(x509_per_minute=3, jwt_per_minute=3, live_svids=7, nodes=3)
    held = [(CRM, name) for name in house.nodes]
    assert await house.leaves(*held) == [OK] * 3
    assert await house.tokens("a", "b", "c") == [OK] * 3
    assert refused(await house.others(1)) == 1
    await house.taint()
    assert await house.leaves(*held) == [OK] * 3
    assert await house.tokens("a", "b", "c") == [OK] * 3
    assert refused(await house.others(1)) == 1
    assert (await house.leaf(LEDGER), house.standing(Limit.NODES).used) == (OK, 3)


async def test_live_svids_and_nodes_count_what_is_valid_and_a_replacement_not_twice(house: House) -> None:
    house.limit(live_svids=4, nodes=2)
    for _ in range(3):
        assert await house.leaves((CRM, "n1"), (CRM, "n2")) == [OK] * 2
    assert "expected at most 2 nodes at once" in await house.leaf(CRM, "n3")
    answers = await house.others(3)
    assert [one == OK for one in answers] == [True, True, False]
    assert "expected at most 4 live SVIDs at once" in answers[2]
    assert (house.standing(Limit.LIVE_SVIDS).used, house.standing(Limit.NODES).used) == (4, 2)
    house.clock.advance(TTL + timedelta(seconds=11))
    assert (house.standing(Limit.LIVE_SVIDS).used, house.standing(Limit.NODES).used) == (0, 0)
    assert await house.leaf(CRM, "n3") == OK
    assert await house.others(2) == [OK] * 2


async def test_a_limit_that_is_no_rate_trips_no_breaker(house: House) -> None:
    house.limit(audiences_per_hour=2, jwt_per_minute=100)
    answers = await house.tokens("a", "b", "c", "a", "b")
    assert [one == OK for one in answers] == [True, True, False, True, True]
    assert (
        answers[2] == "limit of component concierge/crm: expected at most 2 audiences of JWT-SVIDs an hour, found more"
    )
    house.clock.advance(timedelta(minutes=61))
    assert await house.tokens("c", "d") == [OK, OK]


async def test_after_a_restart_of_the_issuer_what_nodes_hold_can_still_be_replaced(house: House) -> None:
    assert await house.leaf(CRM, "n1") == OK
    assert await house.tokens("a") == [OK]
    house.limit(x509_per_minute=1, jwt_per_minute=1)  # counters begin at nothing, as after a restart
    assert await house.leaf(CRM, "n2") == OK
    assert await house.leaf(CRM, "n3") != OK
    assert refused(await house.others(2)) == 1
    assert await house.leaf(CRM, "n1") == OK
    assert await house.tokens("a") == [OK]
    assert house.standing(Limit.JWT_PER_MINUTE).breaker == "open"


async def test_a_component_that_began_anew_replaces_what_it_had(house: House) -> None:
    house.limit(x509_per_minute=2)
    assert await house.leaf(CRM, "n1") == OK
    # Its agent was suspended and resumed: another entry, the same SPIFFE ID.
    other = an_entry(CRM, parent="/nodes", of="unix:uid:77", entry_id="77" * 16)
    house.entries[CRM] = other
    await house.store.write(lambda tx: tx.entries.insert([other]))
    assert await house.leaf(CRM, "n2") == OK
    assert await house.leaf(CRM, "n3") != OK
    assert await house.leaf(CRM, "n1") == OK


async def test_after_a_suspension_each_revoked_token_is_replaced_once_and_no_longer_counts(house: House) -> None:
    house.limit(live_svids=4, jwt_per_minute=100)
    assert await house.leaf(CRM, "n1") == OK
    assert await house.tokens("a", "b", "b") == [OK] * 3
    house.clock.advance(TTL / 4)  # the repetition of b was free, the next one is in the second half of its life
    assert [one == OK for one in await house.tokens("b", "c")] == [False, False]
    await house.revoke(CRM)
    other = an_entry(CRM, parent="/nodes", of="unix:uid:77", entry_id="77" * 16)
    house.entries[CRM] = other
    await house.store.write(lambda tx: tx.entries.insert([other]))
    # What it had is replaced in any order; what is new has the room that is left.
    assert await house.leaf(CRM, "n1") == OK
    assert await house.tokens("b", "a") == [OK] * 2
    assert house.standing(Limit.LIVE_SVIDS).used == 3
    assert [one == OK for one in await house.tokens("c", "d")] == [True, False]
    assert house.standing(Limit.LIVE_SVIDS).used == 4


async def test_a_revoked_token_is_replaced_although_a_breaker_is_open_and_nothing_else_is(house: House) -> None:
    house.limit(jwt_per_minute=3)
    assert await house.tokens("a", "a", "b") == [OK] * 3
    assert refused(await house.others(3)) == 2
    await house.revoke(CRM)
    assert await house.tokens("a", "b") == [OK] * 2
    assert house.standing(Limit.JWT_PER_MINUTE).breaker == "open"
    assert refused(await house.tokens("a", "b", "new")) == 3, "each revoked one is replaced once"


async def test_what_is_revoked_on_one_node_leaves_room_on_another(house: House) -> None:
    house.limit(nodes=1, live_svids=1)
    assert await house.leaf(CRM, "n1") == OK
    assert await house.leaf(CRM, "n2") != OK
    await house.revoke(CRM)
    assert await house.leaf(CRM, "n2") == OK
    assert house.standing(Limit.NODES).used == 1


async def test_who_is_not_entitled_uses_up_nothing(house: House) -> None:
    house.limit(jwt_per_minute=10)
    stranger = a_node("n9", of="join_token:label:team:other")
    await house.store.write(lambda tx: tx.nodes.put(stranger))
    requests = [JWTRequest(entry_id=house.entries[CRM].id, audiences=(f"a{one}",)) for one in range(100)]
    answers = await house.svids.jwt(stranger, requests)
    assert {one.kind for one in answers if isinstance(one, Refused)} == {Kind.DENIED}
    assert refused(await house.others(10)) == 0


async def test_what_could_not_be_recorded_uses_up_nothing(house: House) -> None:
    house.limit(jwt_per_minute=10, live_svids=12, audiences_per_hour=10, x509_per_minute=1, nodes=1)
    losing = replace(house, svids=replace(house.svids, datastore=Undoing(house.store, again=False)))
    for _ in range(3):
        with pytest.raises(Refused, match="not kept"):
            await losing.others(8)
        with pytest.raises(Refused, match="not kept"):
            await losing.leaf(CRM, "n1")
    assert refused(await house.others(10)) == 0
    assert await house.leaves((CRM, "n2")) == [OK]


async def test_a_work_that_runs_again_counts_once(house: House) -> None:
    house.limit(jwt_per_minute=10, live_svids=10, audiences_per_hour=10)
    twice = replace(house, svids=replace(house.svids, datastore=Undoing(house.store, again=True)))
    answers = await twice.others(12)
    assert refused(answers) == 2
    assert [one.used for one in house.limits.standings()] == [10, 10, 10]
    assert house.standing(Limit.JWT_PER_MINUTE).over == 2


async def test_tripping_half_opening_and_closing_are_on_record_and_counted(house: House) -> None:
    house.limit(jwt_per_minute=10)
    await house.others(11)
    await house.breakers()
    house.clock.advance(60)
    await house.breakers()
    rows = [row for row in await house.audit() if '"action":"breaker ' in row]
    assert [row.partition('"action":"')[2].partition('"')[0] for row in rows] == [
        "breaker tripped",
        "breaker half-opened",
        "breaker closed",
    ]
    assert '"at":"2026-01-01T12:00:30+00:00"' in rows[1], "when it happened, not when somebody looked"
    assert '"subject":"spiffe://example.org/agent/concierge/crm"' in rows[0]
    assert '"facts":{"limit":"jwt_per_minute","mode":"enforce","most":"10"}' in rows[0]
    value = house.metrics.registry.get_sample_value(
        "cognomen_issuer_breaker_steps_total", {"action": "breaker tripped", "mode": "enforce"}
    )
    assert value == 1


async def test_a_burst_suspends_the_agent_where_the_rulebook_says_so(house: House) -> None:
    house.limit(jwt_per_minute=10, on_burst=OnBurst.SUSPEND)
    await house.others(10)
    await house.breakers()
    assert house.suspended == []
    await house.others(30)
    await house.breakers()
    assert house.suspended == [("concierge", "issuer: component concierge/crm exceeded jwt_per_minute = 10")]


async def test_a_changed_limit_closes_the_breaker_and_an_unchanged_one_does_not(house: House) -> None:
    house.limit(jwt_per_minute=10)
    await house.others(11)
    house.limit(jwt_per_minute=10)
    assert refused(await house.others(1)) == 1
    house.limit(jwt_per_minute=20)
    assert refused(await house.others(1)) == 0
    assert house.standing(Limit.JWT_PER_MINUTE).over == 0


async def test_limits_of_an_earlier_rulebook_do_not_come_back(house: House) -> None:
    house.limits.load(1_000_001, [])
    house.limits.load(1_000_000, [LimitedScope(path=CRM, most={"jwt_per_minute": 1}, mode=LimitsMode.ENFORCE)])
    assert refused(await house.others(5)) == 0


async def test_what_is_refused_is_on_record_with_its_component_as_what_is_issued_is(house: House) -> None:
    house.limit(live_svids=1)
    assert await house.tokens("a", "b") == [
        OK,
        "limit of component concierge/crm: expected at most 1 live SVIDs at once, found more",
    ]
    issued, denied = [json.loads(row) for row in await house.audit()][-2:]
    assert (issued["action"], denied["action"]) == ("jwt issued", "jwt minted")
    for key in ("subject", "entry_revision", "actor"):
        assert issued[key] == denied[key]
    assert issued["facts"]["entry"] == denied["facts"]["entry"]
    assert agent_and_component(SpiffeID.parse(denied["subject"])) == ("concierge", "crm")


async def test_refusals_of_two_agents_that_are_alike_have_a_row_each(house: House) -> None:
    other = an_entry("/agent/paying/crm", entry_id="e7", parent="/nodes", of="unix:uid:7")
    others = [replace(other, revision=1), house.entries[CRM]]
    await house.store.write(lambda tx: tx.entries.insert(others[:1]))
    requests = [JWTRequest(entry_id=one.id, audiences=("",)) for one in others]
    assert all(isinstance(one, Refused) for one in await house.svids.jwt(house.nodes["n1"], requests))
    rows = [json.loads(row) for row in await house.audit()][-2:]
    assert [row["subject"] for row in rows] == [str(one.spiffe_id) for one in others]
    assert {row["facts"]["items"] for row in rows} == {"1"}
