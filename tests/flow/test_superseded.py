"""Updates of entries that take something away, against real daemons: workloads are told of the new SVID before the old one ends."""

import queue
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import pytest

from cognomen.wire.admin import moment_to_text
from svid.spiffeid import TrustDomain
from svid.workloadapi.sources import X509Source
from tests.flow.twodaemons import World

pytestmark = pytest.mark.timeout(
    240
)  # each of its waits may take SOON, and each of its commands a while on a busy machine
SOON = 60  # seconds; it takes three, and thirty where the issuer is killed before it noted that the new SVID is out


def entry_of(world: World, path: str) -> str:
    rows = world.command("entry", "list", f"--spiffe-id={path}")["entries"]
    assert isinstance(rows, list)
    (row,) = rows
    return str(row["id"])


class Watched:
    """What a workload of this user is told, in the order in which it is told."""

    def __init__(self, source: X509Source) -> None:
        self._source = source
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.serial = source.svid.serial
        source.subscribe(lambda: self._told.put("context"))
        source.on_denied(self._hear, point="the test")

    def _hear(self, trust_domain: TrustDomain, numbers: Collection[int]) -> None:
        if self.serial in numbers:
            self._told.put(f"denied by {trust_domain}")

    def until_replaced(self, path: str) -> None:
        """Return once the source has an SVID with that path; what it had is not denied then."""
        while (svid := self._source.svid).serial == self.serial:
            assert self._told.get(timeout=SOON) == "context"
        assert svid.spiffe_id.path == path
        assert not self._source.is_denied(svid.spiffe_id.trust_domain, self.serial)

    def until_denied(self) -> None:
        """Return once what it had is denied."""
        while self._told.get(timeout=SOON) == "context":
            pass


def test_an_svid_is_replaced_and_ends_then_whatever_becomes_of_the_issuer(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        watched = Watched(source)
        done = world.run("entry", "update", entry_of(world, "/web"), "--spiffe-id=/shop")
        assert done.stdout.splitlines()[-1] == "revoked once replaced, at most 30 s from now: 1 credential"
        watched.until_replaced("/shop")
        watched.until_denied()

        second = Watched(source)
        world.command("entry", "update", entry_of(world, "/shop"), "--spiffe-id=/stall")
        second.until_replaced("/stall")
        world.issuer.kill()
        world.issuer.start()
        second.until_denied()

        rows = world.command("revoke", "list")["revocations"]
        assert isinstance(rows, list)
        assert [(row["reason"], row["target"]["kind"], row["denied"]) for row in rows] == [
            ("superseded", "update", 1),
            ("superseded", "update", 1),
        ]


def test_where_nothing_replaces_it_an_svid_ends_at_once_and_with_let_expire_never(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        watched = Watched(source)
        entry_id = entry_of(world, "/web")
        kept = world.run("entry", "update", entry_id, "--dns=a.example", "--let-expire")
        assert "revoked" not in kept.stdout
        watched.until_replaced("/web")
        done = world.run("entry", "update", entry_id, "--parent=/elsewhere")
        assert done.stdout.splitlines()[-1] == "revoked: 2 credentials", "that of before, too"
        watched.until_denied()


def test_an_end_that_is_moved_forward_ends_what_lives_longer(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        watched = Watched(source)
        end = source.svid.not_after - timedelta(minutes=30)
        world.command("entry", "update", entry_of(world, "/web"), f"--expires-at={moment_to_text(end)}")
        watched.until_replaced("/web")
        assert source.svid.not_after == end
        watched.until_denied()
