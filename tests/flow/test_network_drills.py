"""The long drills of the way between attestor and issuer: far, thin, cut without a word, and each daemon stopped for a minute.

Each ends as it began, without a restart, and without one valid SVID that was not served meanwhile. The short ones: test_bad_network.
"""

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from attestor.issuerclient.grpc import GRPCIssuerClient
from attestor.issuerclient.port import JWTRequest, MintedJWT
from bench.rig.daemons import free_port
from bench.rig.network import Network, network
from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.receipts import Enforcement
from cognomen.protocol.selector import Selector
from svid.clock import SystemClock
from svid.errors import WorkloadAPIError
from svid.keys import KeyKind, generate_private_key
from svid.spiffeid import SpiffeID
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.sources import X509Source
from svid.x509svid import verify
from tests.doubles.threads import side_by_side
from tests.flow.liveissuer import LiveIssuer
from tests.flow.soak import IS_SOAK, TIMEOUT
from tests.flow.test_attestor_end_to_end import LiveAttestor, entry
from tests.flow.test_bad_network import ANYWHERE, join
from tests.flow.test_rotation_in_outage import active_authority
from tests.flow.twodaemons import World

pytestmark = [
    pytest.mark.skipif(not IS_SOAK, reason="waits for minutes: make soak"),
    pytest.mark.timeout(TIMEOUT),
]

THIN = 12_000  # bytes a second
STOPPED_SECONDS = 60.0  # longer than every deadline of the other side, keepalive's included
BACK_SECONDS = 60.0  # in which all is as before
TTL = timedelta(minutes=4)
NOT_OURS = frozenset({Selector("unix", "uid:4294967294")})


@pytest.mark.parametrize("round_trip", [0.0, 0.3, 0.5, 1.0, 2.0])
async def test_each_door_is_reached_at_the_first_try_however_far_it_is(tmp_path: Path, round_trip: float) -> None:
    client = GRPCIssuerClient()
    async with LiveIssuer(tmp_path).running() as issuer:
        made = await issuer.invite()
        with network(made.join_address) as join_road, network(made.node_address) as node_road:
            join_road.round_trip = node_road.round_trip = round_trip
            node = await join(client, replace(made, join_address=join_road.address, node_address=node_road.address))
            (web,) = await issuer.create(entry("/web", node.svid.spiffe_id))
            await client.use(node)
            await client.acknowledge(ANYWHERE, Enforcement(number=ANYWHERE.number))
            (minted,) = await client.mint_jwt([JWTRequest(entry_id=web.id, audiences=("x",))])
            assert isinstance(minted, MintedJWT)
            key = generate_private_key(KeyKind.EC_P256)
            await client.readmit(node, key)
            assert (join_road.connections, node_road.connections) == (2, 1)
            await client.close()


@dataclass(frozen=True, kw_only=True)
class Far:
    """Both daemons in this process, and the road from the attestor to the node door."""

    issuer: LiveIssuer
    attestor: LiveAttestor
    node: SpiffeID
    road: Network


@asynccontextmanager
async def far(directory: Path) -> AsyncIterator[Far]:
    attestor = LiveAttestor(directory)
    async with LiveIssuer(directory).running() as issuer:
        made = await issuer.invite()
        with network(made.node_address) as road:
            async with attestor.running(replace(made, node_address=road.address)) as node:
                yield Far(issuer=issuer, attestor=attestor, node=node, road=road)


def others(node: SpiffeID, count: int) -> list[RegistrationEntry]:
    return [replace(entry(f"/other/{number}", node), selectors=NOT_OURS) for number in range(count)]


async def test_a_thin_link_brings_every_svid_and_renews_it(tmp_path: Path) -> None:
    async with far(tmp_path) as away:
        away.road.bytes_a_second = THIN
        await away.issuer.create(*others(away.node, 1000))
        await away.issuer.create(entry("/web", away.node, ttl=TTL))
        async with away.attestor.stream(seconds=600) as stream:
            ends: list[datetime] = []
            for _ in range(3):
                (svid,) = await stream.next()
                assert not ends or SystemClock().now() < ends[-1], "its successor came in time"
                ends.append(svid.not_after)
        assert (await away.attestor.jwt("x")).svids


async def test_a_connection_that_is_cut_without_a_word_is_made_anew(tmp_path: Path) -> None:
    async with far(tmp_path) as away:
        await away.issuer.create(entry("/web", away.node, ttl=timedelta(seconds=90)))
        async with away.attestor.stream(seconds=300) as stream:
            (before,) = await stream.next()
            away.road.lose_what_is_open()
            await away.issuer.create(*others(away.node, 1))
            (after,) = await stream.next()
            assert SystemClock().now() < before.not_after, "its successor came in time"
            assert after.serial != before.serial
        assert (await away.attestor.jwt("x")).svids


class Load:
    """A workload that asks for JWT-SVIDs, each time for another audience, and for its X509-SVIDs, until it is told to end."""

    def __init__(self, world: World) -> None:
        self._socket = f"unix://{world.workload}"
        self._over = threading.Event()
        self._number = 0
        self.longest = 0.0
        self.minted = 0
        self.refused: set[str] = set()
        self.not_served: list[str] = []

    def ask_for_jwts(self) -> None:
        with WorkloadAPIClient(self._socket, timeout=timedelta(seconds=90)) as client:
            while not self._over.wait(0.1):
                self._number += 1
                asked = SystemClock().monotonic()
                try:
                    client.fetch_jwt_svid(f"audience-{self._number}")
                    self.minted += 1
                except WorkloadAPIError as e:
                    self.refused.add(e.code)
                self.longest = max(self.longest, SystemClock().monotonic() - asked)

    def ask_for_x509(self) -> None:
        with WorkloadAPIClient(self._socket, timeout=timedelta(seconds=90)) as client:
            while not self._over.wait(0.1):
                try:
                    context = client.fetch_x509_context()
                except WorkloadAPIError as e:
                    self.not_served.append(str(e))
                    continue
                svid = context.svids[0]
                verify(svid.chain, context.bundles[svid.spiffe_id.trust_domain], at=SystemClock().now())

    @contextmanager
    def running(self) -> Iterator[None]:
        with side_by_side(self._over, self.ask_for_jwts, self.ask_for_x509):
            yield


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = SystemClock().monotonic() + seconds
    while not condition():
        assert SystemClock().monotonic() < end, "it came back in time"


def is_well(world: World) -> bool:
    """Whether neither daemon has a trouble."""
    return not (
        world.run("status").returncode or world.run("status", "attestor", f"--socket={world.workload}").returncode
    )


@pytest.mark.parametrize("seconds", [14.0, STOPPED_SECONDS])
@pytest.mark.parametrize("which", ["issuer", "attestor"])
def test_a_daemon_that_was_stopped_goes_on_and_so_does_the_other(tmp_path: Path, which: str, seconds: float) -> None:
    world = World(tmp_path, "--x509-svid-ttl=4m", "--node-svid-ttl=3m", "--authority-spread=1s")
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        load, before, signing = Load(world), source.svid, active_authority(world)
        with load.running():
            wait_until(lambda: load.minted > 0, BACK_SECONDS)
            world.command("authority", "rotate", "x509")
            with stopped(world.issuer.pid if which == "issuer" else world.attestor.pid):
                threading.Event().wait(seconds)
                assert source.svid.serial == before.serial
            wait_until(lambda: active_authority(world) != signing, BACK_SECONDS)
            minted = load.minted
            wait_until(lambda: load.minted > minted and is_well(world), BACK_SECONDS)
            wait_until(lambda: source.svid.serial != before.serial, 240)
            assert SystemClock().now() < before.not_after, "its successor came in time"
        assert load.longest < seconds + BACK_SECONDS
        assert load.refused <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        assert not load.not_served
        assert "task ended" not in world.issuer.log() + world.attestor.log()


def test_a_mint_that_outlives_its_channel_ends_no_task(tmp_path: Path) -> None:
    """Its answer stays out for longer than a channel was once given to end, because the issuer is stopped while the bundle changes."""
    port = free_port()
    with network(port) as road:
        world = World(
            tmp_path,
            f"--node-address=127.0.0.1:{port}",
            f"--advertised-node-address={road.address}",
            "--authority-spread=1s",
        )
        with world.running(), X509Source(f"unix://{world.workload}") as source, ThreadPoolExecutor(1) as pool:
            signing, bundle = active_authority(world), source.bundles
            # 1. A mint and the news of another bundle are under way, held up on the road.
            road.is_held = True
            mint = pool.submit(fetch_jwt, world, "held")
            wait_until(lambda: road.waiting > 0, BACK_SECONDS)
            world.command("authority", "rotate", "x509")
            wait_until(lambda: active_authority(world) != signing and is_next_published(world), BACK_SECONDS)
            # 2. The bundle arrives, the mint's answer does not.
            with stopped(world.issuer.pid):
                road.is_held = False
                wait_until(lambda: source.bundles != bundle, BACK_SECONDS)
                threading.Event().wait(14)
            # 3. Whoever asked has an answer, and whoever asks later gets a token.
            mint.result(timeout=BACK_SECONDS)
            wait_until(lambda: fetch_jwt(world, "later") == "OK", BACK_SECONDS)
            wait_until(lambda: is_well(world), BACK_SECONDS)
        assert "task ended" not in world.attestor.log()


def fetch_jwt(world: World, audience: str) -> str:
    """Fetch a JWT-SVID; the status."""
    with WorkloadAPIClient(f"unix://{world.workload}", timeout=timedelta(seconds=60)) as client:
        try:
            client.fetch_jwt_svid(audience)
        except WorkloadAPIError as e:
            return e.code
    return "OK"


def is_next_published(world: World) -> bool:
    listed = world.command("authority", "list")["authorities"]
    assert isinstance(listed, list)
    return any((one["kind"], one["state"]) == ("x509", "next") for one in listed)
