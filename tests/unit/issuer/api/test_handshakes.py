"""Whose handshake goes on next at a network door."""

import asyncio
from functools import partial

from issuer.api.handshakes import Handshakes

A, B, KNOWN = b"aaaa", b"bbbb", b"node"


async def in_order(*waiting: tuple[bytes, str]) -> list[str]:
    """Have them all wait, and say in which order they had their turns."""
    handshakes, done, over = Handshakes(), list[str](), asyncio.Event()

    def step(name: str) -> None:
        done.append(name)
        if len(done) == len(waiting):
            over.set()

    for address, name in waiting:
        handshakes.join(address, partial(step, name), is_known=address == KNOWN)
    async with asyncio.timeout(20):
        await over.wait()
    return done


async def test_addresses_take_turns_however_many_one_of_them_has() -> None:
    assert await in_order((A, "a1"), (A, "a2"), (A, "a3"), (B, "b1")) == ["a1", "b1", "a2", "a3"]


async def test_addresses_of_nodes_go_first() -> None:
    assert await in_order((A, "a1"), (B, "b1"), (KNOWN, "n1"), (KNOWN, "n2")) == ["n1", "n2", "a1", "b1"]


async def test_an_address_of_nodes_from_which_somebody_dials_without_an_end_keeps_no_newcomer_out() -> None:
    handshakes, over = Handshakes(), asyncio.Event()

    def again() -> None:
        handshakes.join(KNOWN, again, is_known=True)

    again()
    handshakes.join(A, over.set, is_known=False)
    async with asyncio.timeout(20):
        await over.wait()
    handshakes.close()


async def test_the_loop_goes_on_between_rounds() -> None:
    handshakes, turns, loop = Handshakes(), list[float](), asyncio.get_running_loop()

    def busy() -> None:
        until = loop.time() + 0.005
        while loop.time() < until:
            pass
        turns.append(loop.time())

    for _ in range(3):
        handshakes.join(A, busy, is_known=False)
    others = 0
    async with asyncio.timeout(20):
        while len(turns) < 3:
            await asyncio.sleep(0)
            others += 1
    assert others > 3, "what is not a handshake had its turns"


async def test_nobody_has_a_turn_once_the_door_is_closed() -> None:
    handshakes, done = Handshakes(), list[str]()
    handshakes.join(A, lambda: done.append("a"), is_known=False)
    handshakes.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not done
