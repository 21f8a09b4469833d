"""What a workload hears while the attestor runs and has nothing valid for it, which is not what a stuck attestor sounds like."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest

from attestor.cache import Cache
from attestor.deniallog import DenialLog
from attestor.flows.mint_jwts import MintJWTs
from bench.rig.attestorsurroundings import surroundings
from cognomen.protocol.errors import Kind, Refused
from svid.clock import SystemClock
from svid.errors import WorkloadAPIError
from svid.spiffeid import TrustDomain
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.sources import X509Source
from tests.doubles.entries import entry as plain_entry
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.workloadside import WorkloadSide, entry, serving

UID = f"unix:uid:{os.getuid()}"
SHORT = timedelta(seconds=1)
ALIVE = "the attestor runs, but has nothing valid for this process yet; to see why: cognomen status attestor"


def open_source(path: Path) -> None:
    X509Source(f"unix://{path}", timeout=SHORT).close()


def fetch_once(path: Path) -> None:
    with WorkloadAPIClient(f"unix://{path}", timeout=SHORT) as client:
        client.fetch_x509_context()


@pytest.mark.parametrize(("ask", "code"), [(open_source, "UNAVAILABLE"), (fetch_once, "DEADLINE_EXCEEDED")])
async def test_an_identity_without_a_valid_svid_is_no_stuck_attestor(tmp_path: Path, ask: object, code: str) -> None:
    side, path = WorkloadSide(), tmp_path / "api.sock"
    side.synchronise(entry("a", UID), mint=False)
    assert callable(ask)
    async with serving(side.flow(), path):
        with pytest.raises(WorkloadAPIError) as told:
            await asyncio.to_thread(ask, path)
    assert str(told.value) == f"workload socket {path}: no answer within 1 s; {ALIVE}"
    assert told.value.code == code


async def test_whoever_asks_for_a_token_has_told_the_minter_how_long_it_waits(tmp_path: Path) -> None:
    side, path = WorkloadSide(), tmp_path / "api.sock"
    side.synchronise(entry("a", UID))
    async with serving(side.flow(), path):
        with WorkloadAPIClient(f"unix://{path}") as client:
            await asyncio.to_thread(client.fetch_jwt_svid, "db", timeout=timedelta(seconds=30))
    assert 0 < side.patience <= 30


async def test_while_the_issuer_hangs_the_answer_comes_before_the_callers_patience_ends() -> None:
    clock = SystemClock()
    issuer = IssuerInMemory(clock, TrustDomain("example.org"))
    jwts = MintJWTs(client=issuer.client(), cache=Cache(issuer.bundle, DenialLog()), around=surroundings(clock))
    async with asyncio.timeout(20):  # nothing mints: `run` does not run
        with pytest.raises(Refused, match="JWT-SVID: cannot be minted now") as told:
            await jwts.jwt_svid(plain_entry("web"), ["db"], patience=0.05)
    assert told.value.kind is Kind.UNAVAILABLE
