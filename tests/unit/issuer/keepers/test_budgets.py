"""Budgets: what an entry and a node may have minted, and that one who spends his takes nothing from the others."""

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.audiences import MAX_SUM_BYTES
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.possession import Purpose
from issuer.api.node import NodeService
from issuer.config import IssuerConfig
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node
from issuer.decisions.authority import AuthorityKind
from issuer.decisions.budget import Allowance, charge, mint_cost
from issuer.decisions.filters import LedgerFilter
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.issue_svids import IssueSVIDs, JWTRequest, X509Request
from issuer.flows.record_uses import REPORTS, RecordUses
from issuer.flows.renew_node import RenewNode
from issuer.keepers.budgets import Budgets, MintBudgets
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.node_sightings import NodeSightings
from issuer.keepers.node_svids import NodeSVIDs
from issuer.keepers.refusal_record import RefusalRecord
from issuer.metrics import Metrics
from svid.keys import KeyKind, generate_private_key, public_key_to_der
from tests.doubles.clock import FakeClock
from tests.doubles.issuancelimits import issuance_limits
from tests.doubles.issuances import GivenKeys, issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry, jwt_authority, x509_authority
from tests.doubles.issuersurroundings import around
from tests.doubles.possession import possession

HOUR = timedelta(hours=1)
numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Wish:
    """An item of a batch."""

    entry_id: EntryID
    cost: float = 1


@dataclass(frozen=True, kw_only=True)
class House:
    """The two mints, and renewals of nodes, with small budgets: 10 of an entry, 15 of a node, one a second."""

    clock: FakeClock
    store: SQLiteDatastore
    svids: IssueSVIDs
    renew: RenewNode
    entries: Sequence[EntryID]
    node: Node

    async def tokens(self, *wanted: tuple[EntryID, int]) -> list[str]:
        """Ask for that many tokens of these entries in one batch: for each nothing, or the kind of refusal."""
        requests = [
            JWTRequest(entry_id=entry_id, audiences=(f"a{next(numbers)}"[:5],))
            for entry_id, count in wanted
            for _ in range(count)
        ]
        return [
            answer.kind if isinstance(answer, Refused) else "" for answer in await self.svids.jwt(self.node, requests)
        ]

    async def leaves(self, entry_id: EntryID, count: int) -> list[str]:
        keys = [public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key()) for _ in range(count)]
        requests = [X509Request(entry_id=entry_id, public_key=key) for key in keys]
        return [
            answer.kind if isinstance(answer, Refused) else "" for answer in await self.svids.x509(self.node, requests)
        ]

    async def ledger(self) -> int:
        return len(await self.store.read(lambda tx: tx.ledger.find(LedgerFilter(), before=0, limit=10_000)))

    async def audit(self) -> list[str]:
        return [row.body.decode() for row in await self.store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store, clock, metrics = await SQLiteDatastore.open(None), FakeClock(NOW), Metrics()
    refusals = RefusalRecord(datastore=store, around=around(clock, metrics=metrics))
    x509, jwt = await x509_authority(), jwt_authority()
    await store.write(lambda tx: tx.authorities.put(x509.authority))
    await store.write(lambda tx: tx.authorities.put(jwt.authority))
    watch = EnforcementWatch(around=around(clock, metrics=metrics))
    entries = ChangeEntries(
        around=around(clock, metrics=metrics),
        datastore=store,
        trust_domain=TRUST_DOMAIN,
        node_attestors=["join_token"],
        watch=watch,
    )
    made = await entries.create([an_entry("/a"), an_entry("/b", of="unix:uid:2")], actor="uid:0")
    node = a_node()
    await store.write(lambda tx: tx.nodes.put(node))
    budgets = MintBudgets(entry=Allowance(burst=10, per_second=1), node=Allowance(burst=15, per_second=1), clock=clock)
    way = issuance(store, clock, GivenKeys(x509.key, jwt.key), metrics=metrics)
    svids = IssueSVIDs(
        datastore=store,
        issuance=way,
        budgets=budgets,
        limits=issuance_limits(clock),
        refusals=refusals,
        around=around(clock, metrics=metrics),
        trust_domain=TRUST_DOMAIN,
        x509_ttl=HOUR,
        jwt_ttl=HOUR,
    )
    node_svids = NodeSVIDs(issuance=way, around=around(clock), trust_domain=TRUST_DOMAIN, ttl=HOUR)
    yield House(
        clock=clock,
        store=store,
        svids=svids,
        renew=RenewNode(datastore=store, node_svids=node_svids, refusals=refusals),
        entries=[entry.id for entry in made.entries],
        node=node,
    )
    await store.close()


async def test_an_entry_that_spent_its_budget_is_refused_by_item_and_the_others_go_on(house: House) -> None:
    first, second = house.entries
    answers = await house.tokens((first, 12), (second, 3))
    assert answers == [""] * 9 + ["EXHAUSTED"] * 3 + [""] * 3


async def test_what_is_over_the_budget_leaves_no_row_of_the_ledger_and_one_of_the_audit(house: House) -> None:
    first, _ = house.entries
    await house.tokens((first, 9))
    rows, ledger = await house.audit(), await house.ledger()
    for _ in range(50):
        assert await house.tokens((first, 20)) == ["EXHAUSTED"] * 20
    assert await house.ledger() == ledger
    (row,) = (await house.audit())[len(rows) :]
    assert "budget: expected at most 1 SVID a second for this entry" in row
    assert '"items":"20"' in row
    assert f'"entry":"{first}"' in row
    assert '"subject":"spiffe://example.org/a"' in row


async def test_a_refusal_of_the_node_names_the_first_entry_that_was_refused(house: House) -> None:
    first, second = house.entries
    await house.tokens((first, 9))
    await house.tokens((second, 9))
    row = (await house.audit())[-1]
    assert "budget: expected at most 1 SVID a second for this node" in row
    assert f'"entry":"{second}"' in row
    assert '"subject":"spiffe://example.org/b"' in row


async def test_the_row_of_an_entry_that_is_not_the_nodes_has_what_the_node_called_it_alone(house: House) -> None:
    await house.tokens((EntryID("unknown"), 1))
    assert '"subject":"unknown"' in (await house.audit())[-1]


async def test_a_budget_fills_again_with_time(house: House) -> None:
    first, _ = house.entries
    await house.tokens((first, 10))
    house.clock.advance(3)
    assert (await house.tokens((first, 5))).count("") in {2, 3}


async def test_the_entries_of_a_node_share_its_budget(house: House) -> None:
    first, second = house.entries
    await house.tokens((first, 9))
    answers = await house.tokens((second, 9))
    assert 4 <= answers.count("") <= 6
    house.clock.advance(60)
    assert "EXHAUSTED" not in await house.tokens((second, 5))


async def test_what_the_node_is_refused_is_not_charged_to_the_entry(house: House) -> None:
    first, second = house.entries
    await house.tokens((first, 9))
    for _ in range(20):
        await house.tokens((second, 9))
    house.clock.advance(5)
    assert (await house.tokens((second, 5))).count("") >= 4


async def test_tokens_take_nothing_from_the_renewal_of_certificates(house: House) -> None:
    first, second = house.entries
    await house.tokens((first, 20), (second, 20))
    assert await house.leaves(first, 5) == [""] * 5


async def test_certificates_have_a_budget_too(house: House) -> None:
    answers = await house.leaves(house.entries[0], 12)
    assert (answers.count(""), answers.count("EXHAUSTED")) == (10, 2)


async def test_a_node_that_renews_without_an_end_is_refused(house: House) -> None:
    key = generate_private_key(KeyKind.EC_P256)

    async def renew() -> Kind | None:
        try:
            signature = possession(key, Purpose.RENEWAL, house.node.current_serial.encode())
            await house.renew(house.node, public_key_to_der(key.public_key()), signature)
        except Refused as refused:
            return refused.kind
        return None

    assert [await renew() for _ in range(301)] == [None] * 300 + [Kind.EXHAUSTED]
    house.clock.advance(1)
    assert await renew() is None


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("entry_svids_per_second", 0, "entry_svids_per_second: expected 1 to 1000000000, found 0"),
        ("node_svids_per_second", 2**31, "node_svids_per_second: expected 1 to 1000000000, found 2147483648"),
        ("entry_svids_burst", 9, "entry_svids_burst: expected 10 to 1000000000, found 9"),
        ("node_svids_burst", -1, "node_svids_burst: expected 10 to 1000000000, found -1"),
    ],
)
def test_budgets_that_cannot_be_are_refused_by_their_key(key: str, value: int, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        IssuerConfig(trust_domain=TRUST_DOMAIN, **{key: value})  # type: ignore[arg-type]  # a key of the test


def test_long_audiences_cost_what_they_take() -> None:
    assert mint_cost(["db"]) == pytest.approx(1, abs=0.01)
    assert mint_cost(["a" * (MAX_SUM_BYTES // 16)] * 16) == 5


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0.5, 5)), max_size=100),
    st.floats(5, 50),
    st.floats(0.5, 50),
)
def test_never_more_than_the_burst_and_what_came_back_since(
    steps: list[tuple[float, float]], burst: float, per_second: float
) -> None:
    allowance = Allowance(burst=burst, per_second=per_second)
    now, full_at, taken = 1e6, 0.0, 0.0
    for rest, cost in steps:
        now += rest
        after = charge(full_at, cost, allowance, now=now)
        if after is not None:
            full_at, taken = after, taken + cost
        assert taken <= burst + (now - 1e6) * per_second + 0.1


@given(st.integers(1, 300))
def test_a_full_budget_holds_its_burst(burst: int) -> None:
    clock = FakeClock()
    budgets = Budgets(Allowance(burst=burst, per_second=20), clock)
    assert sum(budgets.take("one") for _ in range(burst + 10)) == burst
    clock.advance(burst / 20)
    assert sum(budgets.take("one") for _ in range(burst + 10)) == burst


def test_budgets_that_are_full_again_are_not_kept() -> None:
    clock = FakeClock()
    budgets = Budgets(Allowance(burst=10, per_second=20), clock)
    for number in range(100_000):
        budgets.take(str(number))
        clock.advance(0.001)
    assert budgets.kept <= 10_001


async def test_an_entry_id_longer_than_any_of_ours_is_refused_and_no_budget_of_it_is_kept(house: House) -> None:
    for entry_id in (EntryID("x" * 256), EntryID("x" * 4_000_000)):
        assert await house.tokens((entry_id, 1)) == ["INVALID"]
        assert await house.leaves(entry_id, 1) == ["INVALID"]
    assert await house.tokens((EntryID("x" * 255), 1)) == ["DENIED"]


class Unread(list[object]):
    """Items that nobody may touch."""

    def __len__(self) -> int:
        return 2_000_000

    def __iter__(self) -> Iterator[object]:
        raise AssertionError("read before they were counted")


@dataclass(frozen=True)
class Flood:
    """A request with too many items."""

    items: Unread


async def test_items_are_counted_before_an_object_is_made_of_any(house: House) -> None:
    deferred = DeferredWrites(around=around(house.clock), datastore=house.store)
    watch = EnforcementWatch(around=around(house.clock))
    feed = FeedAttestors(
        datastore=house.store, deferred=deferred, watch=watch, around=around(house.clock), trust_domain=TRUST_DOMAIN
    )
    uses = RecordUses(
        datastore=house.store,
        budgets=Budgets(REPORTS, house.clock),
        sightings=NodeSightings(deferred=deferred, around=around(house.clock)),
        around=around(house.clock),
        kept=HOUR,
    )
    door = NodeService(feed=feed, svids=house.svids, renew=house.renew, uses=uses, clock=house.clock)
    for mint in (door.MintX509SVIDs, door.MintJWTSVIDs):
        with pytest.raises(Refused, match="items: expected 1 to 1000, found 2000000"):
            await mint(Flood(Unread()), None)  # type: ignore[arg-type]  # looks like the message


def test_a_node_that_has_spent_its_budget_has_no_budget_kept_for_what_it_names() -> None:
    budgets = MintBudgets(
        entry=Allowance(burst=10, per_second=1e-3), node=Allowance(burst=15, per_second=1e-3), clock=FakeClock()
    )
    wishes = [Wish(entry_id=EntryID(f"unknown-{number}")) for number in range(100)]
    outcomes = budgets.within(a_node().id, AuthorityKind.JWT, wishes)
    assert [isinstance(outcome, Refused) for outcome in outcomes] == [False] * 15 + [True] * 85
    assert budgets.kept == 15 + 1


def test_a_budget_that_is_spent_is_kept_however_many_others_there_are() -> None:
    budgets = Budgets(Allowance(burst=10, per_second=20), FakeClock())
    assert all(budgets.take("spent") for _ in range(10))
    assert all(budgets.take(str(number)) for number in range(30_000))
    assert budgets.kept == 30_001
    assert not budgets.take("spent")
