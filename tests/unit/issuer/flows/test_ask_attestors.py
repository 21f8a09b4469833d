"""Asking about a plan: which nodes are asked on their feeds, what becomes of those that do not answer, and that others are left alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import QuestionIs
from cognomen.protocol.names import NodeID
from cognomen.protocol.questions import Answer, ProgramChange
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.feedsteps import FeedStep
from issuer.flows.apply_rulebook import ApplyRulebook
from issuer.flows.ask_attestors import AskAttestors, AskedNode, Outcome
from issuer.flows.feed_attestors import FeedAttestors
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from svid.clock import SystemClock
from tests.doubles.issuancelimits import issuance_limits
from tests.doubles.issuer_values import TRUST_DOMAIN, a_node
from tests.doubles.issuersurroundings import around
from tests.doubles.until import until

ACTOR = "uid:0"
TRAVEL = "join_token:label:team:travel"
RULES = {
    "a.toml": f"""
[agent.shop]
owner   = "shop@example.org"
purpose = "sells things"
nodes   = ["{TRAVEL}"]
[agent.shop.component.till]
kind      = "connector"
selectors = ["unix:uid:1003"]
"""
}
ANSWER = Answer(programs=(ProgramChange(pid=7, uid=1003, executable="/bin/till"),), unknown=1)


@dataclass
class Follower:
    """A node's feed, which answers what it is asked, if it does.

    Args:
        answer: None: it is silent.
        reads: it takes what is sent once this is set.
        first: what happens while it takes the first part of a question.
    """

    node: Node
    answer: Answer | None
    reads: asyncio.Event
    steps: list[FeedStep]
    first: Callable[[], Awaitable[None]] | None = None

    @property
    def asked(self) -> list[QuestionIs]:
        return [update for step in self.steps for update in step.updates if isinstance(update, QuestionIs)]


class House:
    """An issuer's store, feeds and plans."""

    def __init__(self, store: SQLiteDatastore) -> None:
        own = around(SystemClock())
        watch = EnforcementWatch(around=own)
        self.store = store
        self.feeds = FeedAttestors(
            datastore=store,
            deferred=DeferredWrites(around=own, datastore=store),
            watch=watch,
            around=own,
            trust_domain=TRUST_DOMAIN,
        )
        self.rules = ApplyRulebook(
            datastore=store,
            around=own,
            trust_domain=TRUST_DOMAIN,
            node_attestors=("join_token",),
            watch=watch,
            limits=issuance_limits(own.clock),
        )

        self.asking = AskAttestors(
            datastore=store,
            around=own,
            trust_domain=TRUST_DOMAIN,
            plan=self.rules.plan,
            recent=self.rules.recent,
            questions=self.feeds.questions,
        )

    @asynccontextmanager
    async def following(
        self, name: str, *, answer: Answer | None = ANSWER, of: str = TRAVEL, answers: bool = True
    ) -> AsyncIterator[Follower]:
        """A node that is connected, while the block runs."""
        node = replace(a_node(name, of=of), name=f"name-{name}")
        await self.store.write(lambda tx: tx.nodes.put(node))
        follower = Follower(node=node, answer=answer, reads=asyncio.Event(), steps=[])
        follower.reads.set()

        async def send(step: FeedStep) -> None:
            await follower.reads.wait()
            follower.steps.append(step)
            for update in step.updates:
                if isinstance(update, QuestionIs) and (first := follower.first) is not None:
                    follower.first = None
                    await first()
                if isinstance(update, QuestionIs) and not update.more and follower.answer is not None:
                    receiving = self.feeds.questions.answering(node.id, update.id)
                    assert receiving is not None
                    receiving.take(follower.answer)

        end = SystemClock().now() + timedelta(hours=1)
        feed = asyncio.ensure_future(self.feeds.follow(node, not_after=end, cursor=None, send=send, answers=answers))
        await until(lambda: bool(follower.steps))
        try:
            yield follower
        finally:
            feed.cancel()

    async def ask(
        self, files: dict[str, str] | None = None, *, within: float = 10, most_entries: int = 1000
    ) -> list[AskedNode]:
        files = RULES if files is None else files
        plan = await self.rules.plan(files, actor=ACTOR)
        ask = replace(self.asking, within=timedelta(seconds=within), most_entries=most_entries)
        return list(await ask(files, plan.digest, actor=ACTOR))

    async def apply(self) -> None:
        plan = await self.rules.plan(RULES, actor=ACTOR)
        await self.rules(RULES, plan.digest, actor=ACTOR)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SQLiteDatastore.open(None)
    yield House(store)
    await store.close()


def came_of(found: list[AskedNode]) -> list[tuple[str, Outcome]]:
    return [(one.name, one.outcome) for one in found]


async def test_nodes_whose_entries_change_are_asked_and_their_answers_returned(house: House) -> None:
    async with (
        house.following("n2") as second,
        house.following("n1") as first,
        house.following("n3", of="x:y") as other,
    ):
        found = await house.ask()
        assert came_of(found) == [("name-n1", Outcome.ANSWERED), ("name-n2", Outcome.ANSWERED)]
        assert {one.answer for one in found} == {ANSWER}
        (question,), (same,) = first.asked, second.asked
        assert [one.spiffe_id.path for one in question.put] == ["/agent/shop/till"]
        assert question.put == same.put
        assert other.asked == []


async def test_a_question_leaves_the_feed_where_it_is_and_news_goes_on_behind_it(house: House) -> None:
    async with house.following("n1") as one:
        before = one.steps[-1].cursor
        await house.ask()
        assert one.steps[-1].cursor == before
        assert not one.steps[-1].snapshot
        await house.apply()
        await until(lambda: one.steps[-1].cursor.number > before.number)
        assert len(one.asked) == 1


async def test_news_goes_before_the_next_part_of_a_long_question(house: House) -> None:
    many = "".join(
        f'[agent.shop.component.c{uid}]\nkind = "connector"\nselectors = ["unix:uid:{uid}"]\n'
        for uid in range(2000, 2300)
    )
    async with house.following("n1") as one:

        async def happens() -> None:
            await house.store.write(_something_happens)
            await house.store.wait_for_change(0)

        one.first = happens
        assert came_of(await house.ask({"a.toml": RULES["a.toml"] + many})) == [("name-n1", Outcome.ANSWERED)]
        kinds = [isinstance(step.updates[0], QuestionIs) for step in one.steps if step.updates]
        first = kinds.index(True)
        news = kinds.index(False, first)
        assert news == first + 1
        assert kinds[-1]
        assert kinds.count(True) > 3
        assert len({part.id for part in one.asked}) == 1
        assert sum(len(part.put) for part in one.asked) == 301


async def test_a_plan_that_changes_nobodys_identity_asks_nobody(house: House) -> None:
    await house.apply()
    async with house.following("n1") as one:
        assert await house.ask() == []
        assert await house.ask({"a.toml": RULES["a.toml"].replace('"connector"', '"other"')}) == []
        assert one.asked == []


async def test_a_silent_node_is_named_and_keeps_nobody_waiting_for_long(house: House) -> None:
    async with house.following("n1", answer=None), house.following("n2") as quick:
        found = await house.ask(within=0.2)
        assert came_of(found) == [("name-n1", Outcome.SILENT), ("name-n2", Outcome.ANSWERED)]
        assert len(quick.asked) == 1


async def test_a_node_that_takes_nothing_is_not_sent_later_what_nobody_waits_for(house: House) -> None:
    async with house.following("n1") as stuck:
        stuck.reads.clear()
        await house.store.write(_something_happens)  # its feed is sending this when it is asked
        assert came_of(await house.ask(within=0.2)) == [("name-n1", Outcome.SILENT)]
        stuck.reads.set()
        assert came_of(await house.ask()) == [("name-n1", Outcome.ANSWERED)]
        assert len(stuck.asked) <= 2


async def test_an_attestor_of_an_earlier_release_is_not_asked_and_named(house: House) -> None:
    async with house.following("n1", answers=False) as older:
        assert came_of(await house.ask()) == [("name-n1", Outcome.OLDER)]
        assert older.asked == []


async def test_a_question_that_is_too_long_is_not_asked(house: House) -> None:
    async with house.following("n1") as one:
        assert came_of(await house.ask(most_entries=0)) == [("name-n1", Outcome.TOO_MANY)]
        assert one.asked == []


async def test_a_banned_node_is_not_asked(house: House) -> None:
    async with house.following("n1") as one:
        banned = replace(one.node, state=NodeState.BANNED)
        await house.store.write(lambda tx: tx.nodes.put(banned))  # its feed does not hear of it
        assert await house.ask() == []


async def test_a_plan_that_is_another_by_now_is_refused_and_one_that_was_not_kept_is_made_again(house: House) -> None:
    ask = house.asking
    plan = await house.rules.plan(RULES, actor=ACTOR)
    await house.rules.plan({}, actor=ACTOR)
    async with house.following("n1"):
        assert len(await ask(RULES, plan.digest, actor=ACTOR)) == 1
        await house.apply()
        with pytest.raises(Refused, match="found another one") as refused:
            await ask(RULES, plan.digest, actor=ACTOR)
    assert refused.value.kind is Kind.CONFLICT


def _something_happens(tx: Transaction) -> None:
    tx.changes.append([Change(kind=ChangeKind.BUNDLE, subject=NodeID(""))])
