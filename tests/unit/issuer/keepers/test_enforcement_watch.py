"""Who has taken a revocation, how long that took, who is waited for, and what of it goes on record."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import pytest

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.names import NodeID
from cognomen.protocol.receipts import Behind, Enforcement, Point
from cognomen.protocol.selector import Selector
from issuer.api.admin.revocationmessages import revocation_status
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.decisions.revocation import Reason, RevocationKind, Target
from issuer.flows.await_enforcement import AwaitEnforcement, Enforced
from issuer.flows.revoke import Revoke
from issuer.keepers.enforcement_watch import EnforcementWatch, HowFar, Silent
from issuer.metrics import Metrics
from svid.keys import KeyID
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import a_node, an_entry
from tests.doubles.issuersurroundings import around
from tests.doubles.until import until

A, B = a_node("a"), a_node("b")
WEB, GUARD = Point(1000, 7, "web"), Point(1000, 8, "guard \x1b[2J")


def cursor(number: int, incarnation: str = "1") -> Cursor:
    return Cursor(incarnation=incarnation, number=number)


@dataclass(frozen=True)
class House:
    """A watch of nodes that connect as the test says, and a store with revocations."""

    clock: FakeClock
    metrics: Metrics
    store: SQLiteDatastore
    watch: EnforcementWatch
    revoke: Revoke
    wait: AwaitEnforcement

    def connect(self, *names: str, at: int = 0, sent: int = 1000) -> None:
        for name in names:
            self.watch.begin(NodeID(name))
            self.watch.stands(NodeID(name), at)
            self.watch.standing[NodeID(name)].sent = cursor(sent)

    def hear(self, name: str, number: int, *behind: Behind, points: int = 0, reached: int | None = None) -> None:
        said = Enforcement(
            number=number, points=points, reached=points - len(behind) if reached is None else reached, behind=behind
        )
        self.watch.hear(NodeID(name), cursor(number), said)

    async def issue(self) -> None:
        """Have something to end, of the selector that is revoked."""
        entry = an_entry(entry_id="web", of="unix:uid:1")
        credential = Credential(
            kind=CredentialKind.X509,
            serial=f"{1:032x}",
            spiffe_id=entry.spiffe_id,
            authority_id=KeyID("x509-1"),
            issued_at=self.clock.now(),
            not_after=self.clock.now() + timedelta(hours=1),
            entry_id=entry.id,
            node_id=A.id,
        )
        await self.store.write(lambda tx: tx.entries.insert([entry]))
        await self.store.write(lambda tx: tx.ledger.record([credential]))

    async def attest(self, *nodes: Node) -> None:
        """Put nodes on the books."""
        for node in nodes:
            await self.store.write(partial(_put, node))

    async def end(self) -> int:
        """Revoke something; its change number."""
        target = Target(kind=RevocationKind.SELECTOR, selector=Selector.parse("unix:uid:1"))
        done = await self.revoke(target, reason=Reason.UNSPECIFIED, comment="", dry_run=False, actor="uid:0")
        return done.revocation.change

    def counted(self, name: str) -> tuple[float, float]:
        value = self.metrics.registry.get_sample_value
        name = f"cognomen_issuer_revocation_{name}_seconds"
        return value(f"{name}_count") or 0, value(f"{name}_sum") or 0

    async def record(self) -> dict[str, object]:
        rows = await self.store.read(lambda tx: tx.audit.rows(after=tx.audit.head()[0] - 1, limit=1))
        found: dict[str, object] = json.loads(rows[0].body)
        return found


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store, clock, metrics = await SQLiteDatastore.open(None), FakeClock(), Metrics()
    watch = EnforcementWatch(around=around(clock, metrics=metrics))
    yield House(
        clock=clock,
        metrics=metrics,
        store=store,
        watch=watch,
        revoke=Revoke(datastore=store, around=around(clock), watch=watch),
        wait=AwaitEnforcement(datastore=store, around=around(clock), watch=watch),
    )
    await store.close()


def test_whoever_is_not_further_than_a_change_is_named_the_slowest_first(house: House) -> None:
    house.connect("a", "b", "c")
    house.hear("a", 9, Behind(point=WEB, number=4), points=3)
    house.hear("b", 6, points=2)
    assert house.watch.how_far(7) == HowFar(
        attestors=3,
        attestors_enforcing=1,
        points=5,
        points_enforcing=2,
        silent=[
            Silent(node_id=NodeID("c"), point=None, number=0),
            Silent(node_id=NodeID("a"), point=WEB, number=4),
            Silent(node_id=NodeID("b"), point=None, number=6),
        ],
    )
    house.watch.end(NodeID("b"))
    house.watch.end(NodeID("c"))
    house.hear("a", 9, points=3)
    assert house.watch.how_far(7).is_everywhere


def test_each_node_that_is_behind_is_named_before_a_second_point_of_any(house: House) -> None:
    house.connect("a", "b")
    crowd = [Behind(point=Point(2, pid, "crowd"), number=0) for pid in range(20)]
    house.hear("a", 20, *crowd[:19], Behind(point=WEB, number=10), points=40, reached=0)
    house.hear("b", 20, Behind(point=GUARD, number=19), points=1)
    silent = house.watch.how_far(20).silent
    assert [(one.node_id, one.point) for one in silent[:3]] == [("a", crowd[0].point), ("b", GUARD), ("a", WEB)]
    assert len(silent) == 21


def test_a_node_that_names_none_of_its_points_is_named(house: House) -> None:
    house.connect("a", "b")
    house.hear("a", 20, points=1_000_000, reached=0)
    house.hear("b", 20, points=1)
    assert house.watch.how_far(20).silent == [Silent(node_id=NodeID("a"), point=None, number=20)]


@pytest.mark.parametrize("said", [cursor(9, "another"), cursor(1001)], ids=["another store", "never sent"])
def test_a_cursor_that_was_not_sent_says_nothing(house: House, said: Cursor) -> None:
    house.connect("a")
    house.watch.hear(NodeID("a"), said, Enforcement(number=said.number, points=1, reached=1))
    house.watch.hear(NodeID("gone"), cursor(9), Enforcement(number=9))
    assert (house.watch.how_far(1).attestors_enforcing, house.watch.how_far(1).points) == (0, 0)


def test_an_attestor_that_stands_lower_than_before_has_what_it_had(house: House) -> None:
    house.connect("a", at=7)
    house.hear("a", 5, points=1)
    how_far = house.watch.how_far(6)
    assert (how_far.attestors_enforcing, how_far.points_enforcing) == (1, 0)


async def test_each_station_of_a_revocation_is_measured(house: House) -> None:
    house.connect("a", "b", sent=0)
    change = await house.end()
    assert house.counted("committed") == (1, 0)
    house.clock.advance(1)
    for name in ("a", "b", "a"):
        house.watch.pushed(NodeID(name), cursor(change))
    assert house.counted("pushed") == (2, 2)
    house.clock.advance(1)
    for number in (change - 1, change, change + 1):
        house.watch.listed(number)
    assert house.counted("listed") == (1, 2)


async def test_how_long_a_revocation_took_is_measured_once_for_each_node(house: House) -> None:
    house.connect("a", "b")
    first = await house.end()
    house.clock.advance(2)
    second = await house.end()
    house.clock.advance(1)
    house.hear("a", first, Behind(point=WEB, number=0), points=1)
    assert house.counted("acknowledged") == (1, 3)
    assert house.counted("enforced") == (0, 0)
    house.clock.advance(1)
    for _ in range(2):
        house.hear("a", second, points=1)
    assert house.counted("acknowledged") == (2, 3 + 2)
    assert house.counted("enforced") == (2, 4 + 2)
    house.hear("b", second)
    assert house.counted("acknowledged") == (4, 3 + 2 + 4 + 2)
    assert house.counted("enforced") == (2, 4 + 2), "a node without points enforces nothing"


async def test_what_was_revoked_before_a_feed_began_is_not_measured_of_it(house: House) -> None:
    old = await house.end()
    house.connect("a", sent=0)
    house.clock.advance(3600)
    house.watch.pushed(NodeID("a"), cursor(old))
    house.hear("a", old, points=1)
    assert [house.counted(name) for name in ("pushed", "acknowledged", "enforced")] == [(0, 0)] * 3
    new = await house.end()
    house.clock.advance(1)
    house.watch.end(NodeID("a"))
    house.connect("a", sent=0)
    house.watch.pushed(NodeID("a"), cursor(new))
    house.hear("a", new, points=1)
    assert [house.counted(name) for name in ("pushed", "acknowledged", "enforced")] == [(0, 0)] * 3


async def test_a_node_that_takes_back_what_it_said_is_measured_once(house: House) -> None:
    house.connect("a", sent=0)
    change = await house.end()
    house.clock.advance(1)
    for _ in range(3):
        house.watch.pushed(NodeID("a"), cursor(change))
        house.hear("a", change, points=1)
        house.clock.advance(3600)
        house.watch.pushed(NodeID("a"), cursor(change - 1))
        house.watch.stands(NodeID("a"), 0)
        house.watch.pushed(NodeID("a"), cursor(change))
        house.hear("a", change, Behind(point=WEB, number=0), points=1)
    assert [house.counted(name) for name in ("pushed", "acknowledged", "enforced")] == [(1, 1)] * 3


async def test_the_first_point_of_a_node_is_not_measured_by_what_came_before_it(house: House) -> None:
    house.connect("a")
    change = await house.end()
    house.hear("a", change)
    house.clock.advance(3600)
    house.hear("a", change, points=1)
    assert house.counted("enforced") == (0, 0)


async def test_who_waits_hears_when_the_last_has_it_and_who_that_was(house: House) -> None:
    house.connect("a", "b")
    change = await house.end()
    waiting = asyncio.ensure_future(house.wait(1, longest=timedelta(seconds=10), actor="uid:0"))
    await until(lambda: house.clock.sleepers == 1)
    house.clock.advance(0.1)
    house.hear("b", change)
    house.hear("a", change, Behind(point=GUARD, number=0), points=2)
    for _ in range(50):  # until it has looked
        await asyncio.sleep(0)
    assert not waiting.done()
    house.clock.advance(0.05)
    house.hear("a", change, points=2)
    done = await waiting
    assert done.how_far == HowFar(attestors=2, attestors_enforcing=2, points=2, points_enforcing=2, silent=[])
    assert (done.after, done.ends_at) == (timedelta(seconds=0.15), None)
    assert done.slowest == Silent(node_id=NodeID("a"), point=GUARD, number=0)
    assert revocation_status(done).slowest.point == r"guard \x1b[2J"
    record = await house.record()
    assert (record["action"], record["actor"], record["subject"]) == ("revocation enforced", "uid:0", "1")
    assert record["reason"] == ""
    assert record["facts"] == {
        "everywhere": "yes",
        "attestors": "2 of 2",
        "points": "2 of 2",
        "after_milliseconds": "150",
        "away": "0",
        "silent": "",
    }


async def test_who_has_waited_for_long_enough_hears_who_is_silent(house: House) -> None:
    house.connect("a", "b")
    change = await house.end()
    house.hear("a", change, Behind(point=WEB, number=0), points=2)
    waiting = asyncio.ensure_future(house.wait(1, longest=timedelta(seconds=1), actor="uid:0"))
    await until(lambda: house.clock.sleepers == 1)
    house.clock.advance(1)
    done = await waiting
    assert not done.how_far.is_everywhere
    record = await house.record()
    assert record["reason"] == "not everywhere: 1 of 2 attestors, 1 of 2 enforcement points; nodes away: 0"
    facts = record["facts"]
    assert isinstance(facts, dict)
    assert (facts["everywhere"], facts["attestors"], facts["points"]) == ("no", "1 of 2", "1 of 2")
    assert facts["silent"] == "a uid 1000 pid 7 web, b"


async def test_whoever_disconnects_is_waited_for_no_more(house: House) -> None:
    house.connect("a")
    await house.end()
    waiting = asyncio.ensure_future(house.wait(1, longest=timedelta(seconds=10), actor="uid:0"))
    await until(lambda: house.clock.sleepers == 1)
    house.watch.end(NodeID("a"))
    assert (await waiting).how_far == HowFar(
        attestors=0, attestors_enforcing=0, points=0, points_enforcing=0, silent=[]
    )


@pytest.mark.parametrize(
    ("number", "longest", "kind"),
    [(7, timedelta(seconds=1), Kind.NOT_FOUND), (1, timedelta(days=1, seconds=1), Kind.INVALID)],
)
async def test_who_waits_for_nothing_or_for_ever_is_refused(
    house: House, number: int, longest: timedelta, kind: Kind
) -> None:
    await house.end()
    with pytest.raises(Refused) as refused:
        await house.wait(number, longest=longest, actor="uid:0")
    assert refused.value.kind is kind


async def test_a_clock_that_was_set_back_meanwhile_does_not_make_it_take_less_than_nothing(house: House) -> None:
    await house.end()
    house.clock.jump(timedelta(hours=-1))
    done: Enforced = await house.wait(1, longest=timedelta(), actor="uid:0")
    assert done.after == timedelta()


async def test_nodes_that_are_away_are_counted_unless_they_heard_of_it_or_cannot_act(house: House) -> None:
    house.connect("here")
    await house.issue()
    change = await house.end()
    await house.attest(
        a_node("away"),
        a_node("here"),
        replace(a_node("heard"), acknowledged=change),
        replace(a_node("over"), svid_not_after=house.clock.now()),
        replace(a_node("banned"), state=NodeState.BANNED),
    )
    assert revocation_status(await house.wait.look(1)).away == 1
    house.hear("here", change)
    done = await house.wait(1, longest=timedelta(), actor="uid:0")
    assert (done.how_far.is_everywhere, done.is_everywhere, done.away) == (True, False, 1)
    assert done.ends_at == house.clock.now() + timedelta(hours=1)
    facts = (await house.record())["facts"]
    assert isinstance(facts, dict)
    assert (facts["everywhere"], facts["away"]) == ("no", "1")


async def test_nobody_is_away_from_a_revocation_that_ended_nothing(house: House) -> None:
    await house.attest(a_node("away"))
    await house.end()
    done = await house.wait(1, longest=timedelta(), actor="uid:0")
    assert (done.is_everywhere, done.away, done.ends_at) == (True, 0, None)


async def test_who_waits_while_nobody_is_connected_yet_waits_for_those_who_come_back(house: House) -> None:
    await house.attest(a_node("a"))
    await house.issue()
    change = await house.end()
    waiting = asyncio.ensure_future(house.wait(1, longest=timedelta(seconds=10), actor="uid:0"))
    await until(lambda: house.clock.sleepers == 1)
    house.connect("a", at=change)
    house.clock.advance(1)
    await until(lambda: house.clock.sleepers == 1)
    assert not waiting.done(), "nobody has said yet how its points are"
    house.hear("a", change, points=2)
    done = await waiting
    assert done.is_everywhere
    assert done.how_far == HowFar(attestors=1, attestors_enforcing=1, points=2, points_enforcing=2, silent=[])
    assert done.after == timedelta(seconds=1)


async def test_who_waits_for_a_node_that_stays_away_hears_so_after_that_time(house: House) -> None:
    house.connect("b")
    await house.attest(a_node("a"), a_node("b"))
    await house.issue()
    house.hear("b", await house.end())
    waiting = asyncio.ensure_future(house.wait(1, longest=timedelta(seconds=1.5), actor="uid:0"))
    for seconds in (1, 0.5):
        await until(lambda: house.clock.sleepers == 1)
        house.clock.advance(seconds)
    done = await waiting
    assert (done.is_everywhere, done.away, done.after) == (False, 1, timedelta(seconds=1.5))
    record = await house.record()
    assert record["reason"] == "not everywhere: 1 of 1 attestors, 0 of 0 enforcement points; nodes away: 1"


def test_an_attestor_that_comes_back_counts_once_it_has_said_how_its_points_are(house: House) -> None:
    house.connect("a", at=7)
    assert house.watch.how_far(7).silent == [Silent(node_id=NodeID("a"), point=None, number=7)]
    house.hear("a", 7, Behind(point=WEB, number=6), points=1)
    assert house.watch.how_far(7).silent == [Silent(node_id=NodeID("a"), point=WEB, number=6)]
    house.watch.stands(NodeID("a"), 7)
    assert house.watch.how_far(7).attestors_enforcing == 0


def _put(node: Node, tx: Transaction) -> None:
    tx.nodes.put(node)
