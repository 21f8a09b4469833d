"""A server in its own process survives each attack of bench/rig/attacks.py, keeps its memory, and serves another uid meanwhile.

How well it serves is a figure, not a test: bench/hostile.py.
"""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from bench.hostile import ATTACKER_UID, VICTIM_UID, await_attack, call_for, peak_rss_mb, run_as, running_server
from bench.rig.attacks import ATTACKS
from svid.errors import WorkloadAPIError
from svid.workloadapi.client import WorkloadAPIClient

SECONDS = 0.5
HANGS_SECONDS = 100  # no measure: a busy machine takes 20 s to import what two processes need
pytestmark = pytest.mark.timeout(HANGS_SECONDS + 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    path: Path
    pid: int


@pytest.fixture
def target() -> Iterator[Target]:
    """A server for each attack: what a uid owes for one would turn its next one away."""
    with tempfile.TemporaryDirectory() as directory:  # not tmp_path: other uids must reach it
        Path(directory).chmod(0o755)
        path = Path(directory) / "api.sock"
        with running_server(path) as server:
            yield Target(path=path, pid=server.pid)


def errors_afterwards(path: Path) -> int:
    """Call once more; where the attacker's uid is ours, too, what it owes is paid first."""
    for _ in range(20):
        with contextlib.suppress(grpc.RpcError):
            return call_for(path, 0.05).errors
        threading.Event().wait(0.5)
    return call_for(path, 0.05).errors


@pytest.mark.parametrize("attack", ATTACKS)
def test_server_survives_with_its_memory_and_goes_on(target: Target, attack: str) -> None:
    uid = ATTACKER_UID if os.geteuid() == 0 else None
    with run_as(uid, attack, target.path, SECONDS) as attacker:
        await_attack(attacker)
        assert attacker.wait(HANGS_SECONDS) == 0
    assert errors_afterwards(target.path) == 0
    assert peak_rss_mb(target.pid) <= 150


@pytest.mark.skipif(os.geteuid() != 0, reason="a second uid needs root")
@pytest.mark.parametrize("attack", ["rapid_reset", "ping_flood", "held_calls", "denials_again", "denials_unread"])
def test_another_uid_is_served_meanwhile(target: Target, attack: str) -> None:
    with run_as(ATTACKER_UID, attack, target.path, HANGS_SECONDS) as attacker:  # for as long as there is a victim
        await_attack(attacker)
        with run_as(VICTIM_UID, "call", target.path, 1) as victim:
            answer, _ = victim.communicate(timeout=HANGS_SECONDS)
        assert '"errors": 0' in answer
        assert attacker.poll() is None


def test_a_client_whose_uid_is_turned_away_keeps_its_memory(target: Target) -> None:
    """Left to itself, gRPC would make a call again at once until its deadline, and remember each attempt: 300 MB a second."""
    before = peak_rss_mb(os.getpid())
    with run_as(None, "continuation_flood", target.path, 2) as attacker:
        await_attack(attacker)
        while attacker.poll() is None:
            with WorkloadAPIClient(f"unix://{target.path}") as client, pytest.raises(WorkloadAPIError):
                client.fetch_x509_context()
    assert peak_rss_mb(os.getpid()) - before <= 100
