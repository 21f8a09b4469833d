"""One account with thousands of these: what do the others get of each queue, cache, pool and lock behind the gate?

The list is cognomen/gate/shares.Share. Drilled are the very objects that the daemon makes, with its own limits; whatever is new and
shared must be in the list, or below with the reason why it needs no share.
"""

import ast
import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from attestor.cache import Cache
from attestor.deniallog import DenialLog
from attestor.flows.explain_identity import ExplainIdentity
from attestor.flows.mint_jwts import MintJWTs
from attestor.turns import Turns
from attestor.workloadattestor.threads import Threads
from attestor.workloadattestor.unix import UnixAttestor
from bench.rig.attacks import frame, greeting, request
from bench.rig.attestorsurroundings import surroundings
from cognomen.gate import connection
from cognomen.gate.gate import Gate, Limits
from cognomen.gate.shares import Queue, Room, Share, Shelf
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.gated import As, never, served
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.project import ROOT
from tests.doubles.until import until
from tests.doubles.workloadside import TRUST_DOMAIN, WorkloadSide

GREEDY, OTHER = 1001, 1002
MANY = 5000

# What could be shared and is not: in which file, what, and why.
OF_ONE_ACCOUNT = {
    ("attestor/turns.py", "Lock"): "of one account, which waits in it for itself",
    (
        "attestor/workloadattestor/threads.py",
        "Semaphore",
    ): "one thread of each account waits in it: accounts in the order of coming",
    ("attestor/workloadattestor/threads.py", "SimpleQueue"): "the orders of one thread, one at a time",
    ("attestor/workloadattestor/mounts.py", "Lock"): "never waited for on the loop; a thread reads one table under it",
    ("attestor/flows/keep_node.py", "Lock"): "no caller comes near it",
    ("attestor/state/denialfile.py", "Lock"): "no caller comes near it",
    ("attestor/state/disk.py", "Lock"): "no caller comes near it",
    ("cognomen/process/ownthreads.py", "ThreadPoolExecutor"): "no caller comes near it",
    ("cognomen/gate/shares.py", "OrderedDict"): "what the shares are made of",
    ("cognomen/gate/shares.py", "deque"): "what the shares are made of",
    ("cognomen/gate/connection.py", "deque"): "Share.FRAMES, below",
    (
        "cognomen/gate/reflection.py",
        "Lock",
    ): "one turn of the loop for each answer: all wait in one line, for reflection alone",
}
COULD_BE_SHARED = {
    *(
        "Lock",
        "RLock",
        "Semaphore",
        "BoundedSemaphore",
        "Condition",
        "Queue",
        "LifoQueue",
        "PriorityQueue",
        "SimpleQueue",
    ),
    *("deque", "OrderedDict", "lru_cache", "WeakValueDictionary", "ThreadPoolExecutor"),
}


def made() -> Iterator[object]:
    """What a daemon makes that has shares in it."""
    clock = FakeClock()
    side = WorkloadSide(clock=clock)
    issuer = IssuerInMemory(clock, TRUST_DOMAIN)
    yield UnixAttestor(clock)
    yield MintJWTs(client=issuer.client(), cache=Cache(issuer.bundle, DenialLog()), around=surroundings(clock))
    yield side.denials_flow()
    yield side.callers_flow()
    yield side.uses
    yield side.recent
    node = SpiffeID.from_segments(TRUST_DOMAIN, "node")
    yield ExplainIdentity(cache=side.cache, node=lambda: node, workloads=side.flow(), clock=clock)
    listener = socket.socket(socket.AF_UNIX)
    listener.close()
    yield Gate(listener, Limits(), lambda _: never_a_guest())


def never_a_guest() -> connection.Guest:
    raise AssertionError("nobody connects here")


def shares_in(thing: object, depth: int = 4) -> Iterator[object]:
    """Every shared thing that an object holds."""
    if isinstance(getattr(thing, "share", None), Share):
        yield thing
    elif depth and type(thing).__module__.partition(".")[0] in {"attestor", "cognomen"}:
        names = [*vars(thing)] if hasattr(thing, "__dict__") else list(getattr(type(thing), "__slots__", ()))
        for name in names:
            yield from shares_in(getattr(thing, name, None), depth - 1)


async def room(share: Room) -> None:
    assert 0 < sum(share.take(GREEDY) for _ in range(MANY)) < MANY
    assert share.take(OTHER)


async def queue(share: Queue[int]) -> None:
    for _ in range(MANY):
        share.put(GREEDY, GREEDY)
    share.put(OTHER, OTHER)
    assert OTHER in share.take(2)


async def shelf(share: Shelf[int, int]) -> None:
    share.put(OTHER, -1, 7)
    for number in range(MANY):
        share.put(GREEDY, number, 0)
    assert len(share) < MANY
    assert share.get(-1) == 7


async def threads(share: Threads) -> None:
    go = threading.Event()
    greedy = [asyncio.ensure_future(share.run(GREEDY, lambda: go.wait(30))) for _ in range(100)]
    try:
        assert await asyncio.wait_for(share.run(OTHER, lambda: True), 20)
    finally:
        go.set()
        await asyncio.gather(*greedy)


async def turns(share: Turns) -> None:
    order: list[int] = []

    async def have(whose: int) -> None:
        async with share.turn(whose, 0):
            order.append(whose)

    greedy = [asyncio.ensure_future(have(GREEDY)) for _ in range(100)]
    await asyncio.sleep(0)
    await have(OTHER)
    assert order.index(OTHER) <= 2
    await asyncio.gather(*greedy)


async def frames(_: Path) -> None:
    order: list[int] = []

    def serve(uid: int) -> int:
        order.append(uid)
        return 8

    share = connection.Turns(asyncio.get_running_loop())
    for _number in range(MANY):
        share.join(GREEDY, lambda: serve(GREEDY))
    share.join(OTHER, lambda: serve(OTHER))
    await until(lambda: OTHER in order)
    assert order.index(OTHER) <= 1


async def calls(path: Path) -> None:
    await calls_of_all(path.with_suffix(".all"))
    identify = As()
    async with served(path, never, limits=Limits(calls_per_uid=3), identify=identify):
        identify.uid = GREEDY
        greedy, refused = await begin(path, 4), frame(3, 0, 7, (7).to_bytes(4, "big"))
        await asyncio.wait_for(greedy[0].readuntil(refused), 10)
        identify.uid = OTHER
        other = await begin(path, 1)
        await asyncio.wait_for(other[0].readuntil(b"\x00\x00\x00\x00\x00"), 10)  # its first message
        for _, writer in (greedy, other):
            writer.close()


async def calls_of_all(path: Path) -> None:
    identify = As()
    async with served(path, never, limits=Limits(calls=4), identify=identify):
        identify.uid = GREEDY
        greedy = await begin(path, 4)
        for _ in range(4):
            await asyncio.wait_for(greedy[0].readuntil(bytes(5)), 10)
        identify.uid = OTHER
        other = await begin(path, 3)
        for ended in (7, 5):  # the newest of whoever has most, until both have as many
            calm = frame(3, 0, ended, (0xB).to_bytes(4, "big"))
            await asyncio.wait_for(greedy[0].readuntil(calm), 10)
        await asyncio.wait_for(other[0].readuntil(frame(3, 0, 5, (7).to_bytes(4, "big"))), 10)
        for _, writer in (greedy, other):
            writer.close()


async def begin(path: Path, count: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(greeting + b"".join(request(2 * n + 1) + frame(0, 1, 2 * n + 1, bytes(5)) for n in range(count)))
    return reader, writer


async def connections(path: Path) -> None:
    identify = As()
    async with served(path, limits=Limits(connections=6), identify=identify), contextlib.AsyncExitStack() as leaving:
        for uid in (*[GREEDY] * 6, OTHER):
            identify.uid = uid
            reader, writer = await begin(path, 0)
            leaving.callback(writer.close)
            await asyncio.wait_for(reader.readexactly(9), 10)
        writer.write(frame(6, 0, 0, b"is it on"))
        await asyncio.wait_for(reader.readuntil(b"is it on"), 10)


OTHERWISE: dict[Share, Callable[[Path], Awaitable[None]]] = {
    Share.FRAMES: frames,
    Share.CALLS: calls,
    Share.CONNECTIONS: connections,
}


async def test_the_list_has_everything_that_a_daemon_shares_out_and_nothing_else() -> None:
    found = {one.share for thing in made() for one in shares_in(thing)}  # type: ignore[attr-defined]  # shares_in looked
    assert found | set(OTHERWISE) == set(Share)
    assert not found & set(OTHERWISE)


@pytest.mark.parametrize("share", [share for share in Share if share not in OTHERWISE], ids=lambda share: share.name)
async def test_one_account_leaves_its_share_to_another(share: Share) -> None:
    drilled = 0
    for one in [one for thing in made() for one in shares_in(thing)]:
        if getattr(one, "share", None) is not share:
            continue
        drilled += 1
        match one:
            case Room():
                await room(one)
            case Queue():
                await queue(one)
            case Shelf():
                await shelf(one)
            case Threads():
                await threads(one)
            case Turns():
                await turns(one)
            case _:
                raise AssertionError(f"no drill for {one}")
    assert drilled


@pytest.mark.parametrize("share", OTHERWISE, ids=lambda share: share.name)
async def test_one_account_leaves_its_share_of_the_gate_to_another(share: Share, tmp_path: Path) -> None:
    await OTHERWISE[share](tmp_path / "s")


def test_whatever_else_could_be_shared_is_not() -> None:
    found = set()
    rooms = ("attestor", "cognomen/daemon", "cognomen/gate", "cognomen/process")
    for path in (path for room in rooms for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.value if isinstance(node.func, ast.Subscript) else node.func
                name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                is_ours = bool(node.args) and ast.unparse(node.args[0]).startswith(("Share.", "share"))
                if name in COULD_BE_SHARED and not is_ours:
                    found.add((path.relative_to(ROOT).as_posix(), name))
            elif (
                isinstance(node, ast.keyword)
                and node.arg == "default_factory"
                and ast.unparse(node.value).endswith("Lock")
            ):
                found.add((path.relative_to(ROOT).as_posix(), "Lock"))
    assert found == set(OF_ONE_ACCOUNT)
