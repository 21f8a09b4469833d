"""attestor/turns: who asks again and again keeps nobody else waiting, and pays for it."""

import asyncio

from attestor.turns import Turns
from cognomen.gate.shares import Share
from tests.doubles.clock import FakeClock
from tests.doubles.until import until


def made(clock: FakeClock, *, rate: float = 10, burst: float = 1000, rest: float = 0) -> Turns:
    return Turns(Share.DENIALS, clock, rate=rate, burst=burst, rest=rest)


async def take(turns: Turns, whose: int, cost: float = 1) -> None:
    async with turns.turn(whose, cost):
        pass


async def test_an_account_that_asks_a_hundred_times_has_one_turn_before_another_has_its_own() -> None:
    turns, order = made(FakeClock()), list[int]()

    async def note(whose: int) -> None:
        async with turns.turn(whose, 1):
            order.append(whose)

    async with asyncio.TaskGroup() as group:
        for whose in [1] * 100 + [2, 3, 2]:
            group.create_task(note(whose))
    assert order[:3] == [1, 2, 3]
    assert order.index(2, 2) < 6, "its second turn comes with the others' second"
    assert order.count(1) == 100


async def test_who_had_no_turn_of_late_is_before_all_who_had_however_many_they_are() -> None:
    turns, order = made(FakeClock()), list[int]()

    async def again(whose: int) -> None:
        for _ in range(3):
            async with turns.turn(whose, 1):
                order.append(whose)
            if len(order) == 150:
                group.create_task(again(999))

    async with asyncio.TaskGroup() as group:
        for whose in range(100):
            group.create_task(again(whose))
    assert order.index(999) <= 152


async def test_turns_of_long_ago_do_not_count() -> None:
    clock = FakeClock()
    turns, order = made(clock), list[int]()

    async def note(whose: int) -> None:
        async with turns.turn(whose, 1):
            order.append(whose)

    for _ in range(20):
        await take(turns, 1)
    clock.advance(60)
    await take(turns, 2)
    async with asyncio.TaskGroup() as group:
        for whose in (3, 2, 1):
            group.create_task(note(whose))
    assert order == [3, 1, 2]


async def test_the_loop_goes_round_between_two_turns() -> None:
    turns, order = made(FakeClock()), list[str]()

    async def one() -> None:
        async with turns.turn(1, 1):
            order.append("turn")

    async def others() -> None:
        for _ in range(5):
            order.append("round")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(one())
        group.create_task(others())
    assert "turn turn" not in " ".join(order[:8])


async def test_an_account_that_used_much_waits_and_another_does_not() -> None:
    clock = FakeClock()
    turns = made(clock, rate=8, burst=256)
    await take(turns, 1, 256 + 8)
    waiting = asyncio.ensure_future(take(turns, 1))
    await until(lambda: clock.sleepers == 1)
    await take(turns, 2, 256)
    clock.advance(0.9)
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(0.2)
    await waiting


async def test_a_turn_that_is_given_up_is_the_next_ones() -> None:
    turns = made(FakeClock())
    tasks = [asyncio.ensure_future(take(turns, whose)) for whose in (1, 1, 2, 3, 4)]
    await asyncio.sleep(0)
    for task in tasks[:4]:
        task.cancel()
    await tasks[4]


async def test_nobody_has_a_turn_for_a_while_after_one_that_took_long() -> None:
    clock, order = FakeClock(), list[str]()
    turns = made(clock, rest=3)

    async def long() -> None:
        async with turns.turn(1, 1):
            clock.advance(0.05)
            order.append("long")

    async def next_one() -> None:
        async with turns.turn(2, 1):
            order.append("next")

    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(long(), next_one())
    assert order == ["long", "next"]
    assert loop.time() - began >= 0.15  # never less, on however busy a machine


async def test_accounts_that_owe_nothing_are_forgotten() -> None:
    turns = made(FakeClock())
    await take(turns, 0, 3000)
    for whose in range(1, 2000):
        await take(turns, whose)
    assert len(turns) <= 1024
