"""attestor/turns: who asks again and again keeps nobody else waiting, and pays for it."""

import asyncio

from attestor.turns import Turns
from tests.doubles.clock import FakeClock
from tests.doubles.until import until

MIB = 2**20


async def test_a_uid_that_asks_a_hundred_times_has_one_turn_before_another_has_its_own() -> None:
    turns, order = Turns(FakeClock()), list[int]()

    async def take(uid: int) -> None:
        await turns.take(uid, 1)
        order.append(uid)

    async with asyncio.TaskGroup() as group:
        for uid in [1] * 100 + [2, 3, 2]:
            group.create_task(take(uid))
    assert order[:6] == [1, 2, 3, 1, 2, 1]
    assert order.count(1) == 100


async def test_the_loop_goes_round_between_two_turns() -> None:
    turns, order = Turns(FakeClock()), list[str]()

    async def take() -> None:
        await turns.take(1, 1)
        order.append("turn")

    async def others() -> None:
        for _ in range(5):
            order.append("round")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(take())
        group.create_task(others())
    assert "turn turn" not in " ".join(order[:8])


async def test_a_uid_that_was_told_much_waits_and_another_does_not() -> None:
    clock = FakeClock()
    turns = Turns(clock)
    await turns.take(1, 256 * MIB + 8 * MIB)
    waiting = asyncio.ensure_future(turns.take(1, 1))
    await until(lambda: clock.sleepers == 1)
    await turns.take(2, 256 * MIB)
    clock.advance(0.9)
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(0.2)
    await waiting


async def test_a_turn_that_is_given_up_is_the_next_ones() -> None:
    turns = Turns(FakeClock())
    tasks = [asyncio.ensure_future(turns.take(1, 1)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    await tasks[2]


async def test_uids_that_owe_nothing_are_forgotten() -> None:
    turns = Turns(FakeClock())
    await turns.take(0, 300 * MIB)
    for uid in range(1, 2000):
        await turns.take(uid, 1)
    assert len(turns) <= 1024
