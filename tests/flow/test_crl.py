"""From `cognomen revoke` to the revocation list in a workload's hands, through both daemons."""

import queue
from pathlib import Path

import pytest

from svid.clock import SystemClock
from svid.workloadapi.sources import X509Source
from tests.flow.twodaemons import World

SECONDS = 20


@pytest.mark.timeout(60)
def test_a_revoked_svid_is_on_the_list_that_workloads_are_handed(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        first, bundle = source.svid, source.bundle_for(source.svid.spiffe_id.trust_domain)
        # 1. Every authority has a list from the start, and all are empty.
        crls = source.context.crls
        assert {crl.check(bundle, at=SystemClock().now()) for crl in crls} == set(bundle.x509_authorities)
        assert not any(map(len, crls))
        # 2. What is revoked comes with its number, and a fresh SVID with it.
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        source.subscribe(lambda: woken.put(None))
        world.command("revoke", "svid", f"{first.serial:x}", "--reason=keyCompromise")
        while first.serial not in {number for crl in source.context.crls for number in crl.numbers()}:
            woken.get(timeout=SECONDS)
        while source.svid.serial == first.serial:
            woken.get(timeout=SECONDS)
        for crl in source.context.crls:
            crl.check(bundle, at=SystemClock().now())
