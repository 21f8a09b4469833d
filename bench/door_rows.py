"""Rows of the issuer's network doors: how long a node takes to connect from far away, and while strangers hold connections half open."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from attestor.decisions.node import Node
from attestor.flows.join_issuer import JoinIssuer
from attestor.issuerclient.grpc import GRPCIssuerClient
from attestor.nodeattestor.join_token import JoinToken
from attestor.state.disk import DiskState
from bench.house import House, rss_mb
from bench.results import Measured, percentile
from bench.rig.attestorsurroundings import surroundings
from bench.rig.child import Child
from bench.rig.network import network
from bench.settings import Settings
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from svid.clock import SystemClock

__all__ = ["connect_far", "half_open"]

_ROUND_TRIPS = (0.0, 0.3, 1.0, 2.0)
_HALF_OPEN = 10_300
_ADDRESSES = 1, 1000
_TIMES = 10
_GIVE_UP_SECONDS = 30.0


def connect_far(settings: Settings) -> Measured:
    """From dialling to the first answer of the node door, and the time of a whole join, by the round-trip time."""
    with House.running(settings.directory) as house:
        return asyncio.run(_connect_far(settings, house))


async def _connect_far(settings: Settings, house: House) -> Measured:
    figures: dict[str, float] = {}
    times = settings.count(_TIMES // 3)
    for seconds in _ROUND_TRIPS if settings.scale >= 1 else _ROUND_TRIPS[:2]:
        invite = Invite.parse(house.invite())
        with network(invite.join_address) as join, network(invite.node_address) as door:
            join.round_trip = door.round_trip = seconds
            began = time.perf_counter()
            node = await _join(house, replace(invite, join_address=join.address, node_address=door.address))
            figures[f"join over {seconds:g} s, s"] = time.perf_counter() - began
            took = [await _connect(node) for _ in range(times)]
        figures[f"connect over {seconds:g} s, s"] = percentile(took, 50)
        figures[f"connect over {seconds:g} s, round trips"] = percentile(took, 50) / seconds if seconds else 0.0
    return Measured(figures=figures, samples=times * len(_ROUND_TRIPS))


def half_open(settings: Settings) -> Measured:
    """Time to connect, and the issuer's memory, while strangers hold connections half open: from one address, and from a thousand."""
    figures: dict[str, float] = {}
    with House.running(settings.directory) as house:
        for addresses in _ADDRESSES:
            found = asyncio.run(_half_open(settings, house, addresses))
            figures |= {f"from {addresses:,}: {name}": value for name, value in found.items()}
    return Measured(figures=figures, samples=settings.count(_TIMES) * len(_ADDRESSES))


async def _half_open(settings: Settings, house: House, addresses: int) -> dict[str, float]:
    invite = Invite.parse(house.invite())
    node = await _join(house, invite)
    await _connect(node)
    before = rss_mb(house.issuer.pid)
    figures: dict[str, float] = {}
    with _strangers(invite.node_address, settings.count(_HALF_OPEN), addresses):
        took = sorted([await _connect(node) for _ in range(settings.count(_TIMES))])
        figures["MB more"] = rss_mb(house.issuer.pid) - before
    figures |= {"connect, p50 s": percentile(took, 50), "connect, worst s": took[-1]}
    with _strangers(invite.join_address, settings.count(_HALF_OPEN), addresses):
        began = time.perf_counter()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_join(house, Invite.parse(house.invite()), "other"), _GIVE_UP_SECONDS)
        figures["join s"] = time.perf_counter() - began
    return figures


@contextmanager
def _strangers(address: str, count: int, addresses: int) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.strangers", address, str(count), str(addresses)]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        if not (child.stdout and child.stdout.readline().startswith("open")):
            raise ChildProcessError("strangers: ended")
        yield


async def _join(house: House, invite: Invite, name: str = "node") -> Node:
    client = GRPCIssuerClient()
    directory = house.directory / f"{name}-{time.monotonic_ns()}"
    flow = JoinIssuer(
        trust_domain=None,
        state=DiskState(directory),
        door=client,
        client=client,
        around=surroundings(SystemClock()),
    )
    node = await flow.run(invite, JoinToken(invite))
    await client.close()
    return node


async def _connect(node: Node) -> float:
    """How long a node that dials again waits for its first answer; no answer counts as half a minute."""
    client, began = GRPCIssuerClient(), time.perf_counter()
    await client.use(node)
    try:
        while time.perf_counter() < began + _GIVE_UP_SECONDS:
            try:
                await client.mint_x509([])
            except Refused as refused:
                if refused.kind is Kind.INVALID:  # the request was empty, so the node was admitted
                    break
        return time.perf_counter() - began
    finally:
        await client.close()
