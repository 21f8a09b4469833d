"""Rows of the issuer: mints, bulk changes, and the cost of many entries."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from datetime import timedelta

import uvloop

from attestor.flows.join_issuer import JoinIssuer
from attestor.issuerclient.grpc import GRPCIssuerClient
from attestor.issuerclient.port import X509Request
from attestor.nodeattestor.join_token import JoinToken
from attestor.state.disk import DiskState
from bench.house import House, cpu_seconds, rss_mb
from bench.results import Measured, percentile
from bench.rig.attestorsurroundings import surroundings
from bench.settings import Settings
from cognomen.cli.admin import connect
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Refused
from cognomen.protocol.invite import Invite
from cognomen.wire.node import entry_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from svid.clock import SystemClock
from svid.keys import KeyKind, generate_private_key, public_key_to_der

__all__ = ["bulk", "issuer_idle", "issuer_large", "mint"]

_BATCH = 100
_IN_FLIGHT = 4
_CHANGES = 20


def mint(settings: Settings) -> Measured:
    """X509-SVIDs per CPU-second of the issuer: batches of 100, four in flight, from a node that joined by an invite."""
    with House.running(settings.directory) as house:
        invite = Invite.parse(house.invite())
        ids = house.create(*(house.entry(f"n{number}", f"uid:{1_000_000 + number}") for number in range(_BATCH)))
        return uvloop.run(_mint(settings, house, invite, ids))


def _requests(ids: Sequence[EntryID]) -> Sequence[X509Request]:
    """A batch, with a new key for each item, as an attestor requests it."""
    keys = [public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key()) for _ in ids]
    return [X509Request(entry_id=one, public_key=key) for one, key in zip(ids, keys, strict=True)]


async def _mint(settings: Settings, house: House, invite: Invite, ids: Sequence[EntryID]) -> Measured:
    client = GRPCIssuerClient()
    state = DiskState(house.directory / "node")
    join = JoinIssuer(trust_domain=None, state=state, door=client, client=client, around=surroundings(SystemClock()))
    await join.run(invite, JoinToken(invite))
    minted = failed = 0

    async def keep_minting(until: float) -> None:
        nonlocal minted, failed
        while time.perf_counter() < until:
            answers = await client.mint_x509(_requests(ids))
            refused = sum(isinstance(answer, Refused) for answer in answers)
            minted, failed = minted + len(answers) - refused, failed + refused

    await keep_minting(time.perf_counter() + settings.load_seconds / 5)
    minted = 0
    used, began = cpu_seconds(house.issuer.pid), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(_IN_FLIGHT):
            group.create_task(keep_minting(began + settings.load_seconds))
    took, used = time.perf_counter() - began, cpu_seconds(house.issuer.pid) - used
    await client.close()
    return Measured(
        figures={"per CPU-second": minted / used, "per second": minted / took}, samples=minted, failed=failed
    )


def bulk(settings: Settings) -> Measured:
    """Entries a second, from one call at the admin socket to the answer, which comes after the commit."""
    with House.running(settings.directory) as house:
        entries = house.entries(settings.count(10_000))
        request = pb.EntriesRequest(entries=[entry_to_pb(entry) for entry in entries])
        with connect(house.admin_socket) as admin:
            admin.get_bundle()
            began = time.perf_counter()
            made = admin.create_entries(request)
            took = time.perf_counter() - began
        return Measured(figures={"entries per second": len(made.entries) / took}, samples=len(entries))


def issuer_idle(settings: Settings) -> Measured:
    """Memory and CPU of an issuer that nobody calls, with 10,000 entries; and its memory with a tenth of them, started in the same way."""
    with House.running(settings.directory) as house:
        entries = house.entries(settings.count(10_000))
        tenth = len(entries) // 10
        house.create(*entries[:tenth])
        _restart(house)
        few = _settled_rss(house)
        house.create(*entries[tenth:])
        _restart(house)
        many = _settled_rss(house)
        used = cpu_seconds(house.issuer.pid)
        time.sleep(settings.idle_seconds)
        share = (cpu_seconds(house.issuer.pid) - used) / settings.idle_seconds * 100
        figures = {"RSS MB": many, "% of a core": share, "RSS MB with a tenth": few}
        return Measured(figures=figures, samples=1)


def issuer_large(settings: Settings) -> Measured:
    """From start to ready with 100,000 entries, and the time to change one entry among these and among 1,000."""
    with House.running(settings.directory) as house:
        entries = house.entries(settings.count(100_000))
        few = settings.count(1000)
        house.create(*entries[:few])
        before = _change_seconds(house)
        house.create(*entries[few:])
        house.issuer.stop()
        began = time.perf_counter()
        house.issuer.start()
        ready = time.perf_counter() - began
        after = _change_seconds(house)
    figures = {
        "ready s": ready,
        "change ms": after * 1000,
        "change ms among 1,000": before * 1000,
        "change, times": after / before,
    }
    return Measured(figures=figures, samples=_CHANGES)


def _restart(house: House) -> None:
    house.issuer.stop()
    house.issuer.start()


def _settled_rss(house: House) -> float:
    with connect(house.admin_socket) as admin:
        admin.list_entries(pb.ListEntriesRequest(page_size=1))
    time.sleep(1)
    return rss_mb(house.issuer.pid)


def _change_seconds(house: House) -> float:
    """The median time of a call that updates one entry."""
    took = []
    with connect(house.admin_socket) as admin:
        one = admin.list_entries(pb.ListEntriesRequest(page_size=1)).entries[0]
        for number in itertools.islice(itertools.count(1), _CHANGES):
            one.x509_svid_ttl.FromTimedelta(timedelta(minutes=number))
            began = time.perf_counter()
            one = admin.update_entries(pb.EntriesRequest(entries=[one])).entries[0]
            took.append(time.perf_counter() - began)
    return percentile(took, 50)
