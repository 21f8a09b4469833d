"""Who is at work at the join door, who waits, and who has to make room."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.errors import Kind, Refused
from issuer.api.crowd import KnownAddresses
from issuer.api.joinroom import JoinLimits, JoinRoom, Visit

A, B, C = (bytes([10, 0, 0, n]) for n in range(3))
MANY = 60  # seconds, which no test waits


class Visitor:
    """One that joins: it works, owes an answer, works again, each until the test has it go on."""

    def __init__(self, room: JoinRoom, address: bytes) -> None:
        self.steps: list[str] = []
        self._go_on = asyncio.Semaphore(0)
        self.task = asyncio.get_running_loop().create_task(self._run(room, address))

    async def go_on(self) -> None:
        self._go_on.release()
        await settled()

    async def leave(self) -> None:
        self.task.cancel()
        await settled()

    @property
    def refusal(self) -> Refused:
        error = self.task.exception()
        assert isinstance(error, Refused)
        return error

    async def _run(self, room: JoinRoom, address: bytes) -> None:
        async with room.visit(address) as visit, visit.at_work():
            await self._step("at work")
            async with visit.owing():
                await self._step("owes")
            await self._step("works again")

    async def _step(self, name: str) -> None:
        self.steps.append(name)
        await self._go_on.acquire()


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def come(room: JoinRoom, *addresses: bytes) -> list[Visitor]:
    visitors = [Visitor(room, address) for address in addresses]
    await settled()
    return visitors


async def asked(room: JoinRoom, *addresses: bytes) -> list[Visitor]:
    """Those that owe an answer."""
    visitors = []
    for address in addresses:
        (visitor,) = await come(room, address)
        await visitor.go_on()
        assert visitor.steps[-1] == "owes"
        visitors.append(visitor)
    return visitors


async def end(*visitors: Visitor) -> None:
    for visitor in visitors:
        visitor.task.cancel()
    await asyncio.gather(*(visitor.task for visitor in visitors), return_exceptions=True)


def room(at_work: int, waiting: int, known: KnownAddresses | None = None) -> JoinRoom:
    return JoinRoom(known or KnownAddresses(), JoinLimits(at_work=at_work, waiting=waiting, seconds=MANY))


async def test_whoever_owes_an_answer_holds_no_turn_and_gets_one_when_it_has_answered() -> None:
    some = room(1, 8)
    owing = await asked(some, A, A, A)
    (late,) = await come(some, A)
    assert late.steps == ["at work"]
    await owing[1].go_on()
    assert owing[1].steps[-1] == "owes", "the turn is taken"
    await late.go_on()
    assert owing[1].steps[-1] == "works again"
    await end(*owing, late)


async def test_one_address_has_a_quarter_of_the_turns_and_addresses_take_turns() -> None:
    some = room(8, 32)
    many = await come(some, *[A] * 6)
    assert [bool(each.steps) for each in many] == [True, True, False, False, False, False]
    others = await come(some, B, C)
    assert all(each.steps == ["at work"] for each in others)
    await many[0].leave()
    assert [bool(each.steps) for each in many] == [True, True, True, False, False, False]
    await end(*many, *others)


async def test_when_all_turns_are_taken_the_next_one_is_another_addresss() -> None:
    some = room(1, 32)
    first, *rest = await come(some, A, A, A, A, B)
    await first.leave()
    assert [bool(each.steps) for each in rest] == [True, False, False, False]
    await rest[0].leave()
    assert [bool(each.steps) for each in rest] == [True, False, False, True]
    await end(*rest)


async def test_the_oldest_of_the_address_that_has_the_most_makes_room() -> None:
    some = room(4, 4)
    many = await asked(some, A, B, A, A)
    (newcomer,) = await asked(some, C)
    assert many[0].refusal.kind is Kind.EXHAUSTED
    assert "expected at most 4 that wait or owe an answer, found one more" in str(many[0].refusal)
    assert not any(each.task.done() for each in (*many[1:], newcomer))
    more = await asked(some, A, A, A)
    assert not any(each.task.done() for each in (many[1], newcomer)), "who has many takes its own room only"
    await end(*many[1:], newcomer, *more)


async def test_one_that_waits_for_its_turn_can_have_to_go_and_one_at_work_cannot() -> None:
    some = room(1, 2)
    first, second, third, fourth = await come(some, A, A, A, A)
    assert second.refusal.kind is Kind.EXHAUSTED
    assert first.steps == ["at work"]
    await first.leave()
    assert (third.steps, fourth.steps) == (["at work"], [])
    await end(third, fourth)


async def test_addresses_where_nodes_are_known_have_turns_and_room_of_their_own() -> None:
    known = KnownAddresses()
    known.note(A, "spiffe://example.org/node", 1)
    some = room(1, 2, known)
    strangers = [*await asked(some, B, C), *await come(some, B)]
    nodes = [*await asked(some, A, A), *await come(some, A)]
    assert nodes[-1].steps == ["at work"]
    assert not any(each.task.done() for each in (*strangers, *nodes))
    await end(*strangers, *nodes)


STEPS = st.tuples(st.sampled_from(["come", "go on", "leave", "both leave"]), st.integers(0, 30))


@given(st.lists(STEPS, max_size=60))
def test_turns_are_neither_lost_nor_made_whoever_leaves_when(steps: list[tuple[str, int]]) -> None:
    asyncio.run(follow(steps))


async def follow(steps: list[tuple[str, int]]) -> None:
    some = room(3, 5)
    everybody: list[Visitor] = []
    for step, number in steps:
        present = [each for each in everybody if not each.task.done()]
        some_of_them = [present[(number + more) % len(present)] for more in (0, 1)] if present else []
        match step:
            case "come":
                everybody += await come(some, (A, B, C)[number % 3])
            case "go on" if some_of_them:
                await some_of_them[0].go_on()
            case _:  # two may leave before either of them has run
                for each in some_of_them[: 1 if step == "leave" else 2]:
                    each.task.cancel()
                await settled()
        last = [each.steps[-1] if each.steps else "waits" for each in everybody if not each.task.done()]
        assert sum("work" in each for each in last) <= 3
        assert sum("work" not in each for each in last) <= 5
    await end(*everybody)
    late = await come(some, A, B, C)
    assert all(each.steps == ["at work"] for each in late), "all turns have come back"
    await end(*late)


async def test_whatever_takes_too_long_ends() -> None:
    some = JoinRoom(KnownAddresses(), JoinLimits(seconds=0))
    (visitor,) = await come(some, A)
    assert str(visitor.refusal) == "join: took longer than 0 s"


async def test_a_timeout_of_other_code_is_not_ours() -> None:
    with pytest.raises(TimeoutError, match="theirs"):
        async with room(1, 1).visit(A):
            raise TimeoutError("theirs")


async def test_a_challenge_while_one_is_open_or_after_the_judgement_is_refused_and_keeps_no_turn() -> None:
    some = room(1, 2)
    kept: Visit | None = None
    async with some.visit(A) as visit, visit.at_work():
        kept = visit
        async with visit.owing():
            with pytest.raises(Refused, match="one after the other"):
                async with visit.owing():
                    pass
    with pytest.raises(Refused, match="one after the other"):
        async with kept.owing():
            pass
    (late,) = await come(some, A)
    assert late.steps == ["at work"]
    await end(late)


async def test_a_challenge_that_outlives_the_judgement_keeps_no_turn() -> None:
    some = room(1, 2)
    answered = asyncio.Event()

    async def left_behind(visit: Visit) -> None:
        async with visit.owing():
            await answered.wait()

    async with some.visit(A) as visit, visit.at_work():
        task = asyncio.get_running_loop().create_task(left_behind(visit))
        await settled()
    answered.set()
    await task
    (late,) = await come(some, A)
    assert late.steps == ["at work"]
    await end(late)
