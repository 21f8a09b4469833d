"""From `cognomen revoke` to the revocation list in a workload's hands, through both daemons."""

import asyncio
import os
import queue
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography import x509

from bench.rig.child import running
from bench.rig.daemons import COGNOMEN
from svid.clock import SystemClock
from svid.crl import CRL
from svid.workloadapi.sources import X509Source
from tests.flow.liveissuer import revoke_in
from tests.flow.twodaemons import World

SECONDS = 20


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


def test_a_kill_between_the_commit_and_the_list_is_healed_at_the_next_start(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        serial = source.svid.serial
        while {len(crl) for crl in source.context.crls} != {0}:
            pass
        world.issuer.kill()
        asyncio.run(revoke_in(tmp_path / "issuer", f"{serial:032x}"))  # committed, and nobody has signed a list
        world.issuer.start()
        while serial not in {number for crl in source.context.crls for number in crl.numbers()}:
            pass
        listed = next(crl for crl in source.context.crls if len(crl))
        listed.check(source.bundle_for(source.svid.spiffe_id.trust_domain), at=SystemClock().now())
        assert set(listed.numbers()) == {serial}


def test_after_the_restore_of_a_backup_from_before_a_revocation_workloads_are_handed_the_lists_of_the_restored_issuer(
    tmp_path: Path,
) -> None:
    world, backup = World(tmp_path), tmp_path / "backup.tar"
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        serial = source.svid.serial
        world.command("issuer", "backup", str(backup), f"--state={tmp_path}/issuer")
        world.command("revoke", "svid", f"{serial:x}", "--wait")
        while serial not in {number for crl in source.context.crls for number in crl.numbers()}:
            pass
        before = {crl.authority_key_id: crl for crl in source.context.crls}
        world.issuer.stop()
        done = world.run("issuer", "restore", str(backup), f"--state={tmp_path}/elsewhere")
        assert done.returncode == 0, done.stderr
        with world.issuer_on(tmp_path / "elsewhere"):
            while not newer_than(before, source.context.crls):
                pass
            assert not any(map(len, source.context.crls)), "nobody can know what was revoked after the backup"
            while "revocation list" in world.run("status", "attestor", f"--socket={world.workload}").stdout:
                pass


def newer_than(before: Mapping[bytes, CRL], now: Iterable[CRL]) -> bool:
    """Whether there is a newer list of every authority that had one."""
    found = {crl.authority_key_id: crl for crl in now}
    return all(key_id in found and found[key_id].is_newer_than(crl) for key_id, crl in before.items())


def test_fetch_keeps_the_lists_beside_the_identity_in_one_set(tmp_path: Path) -> None:
    world, files = World(tmp_path), tmp_path / "files"
    with world.running():
        world.entry("/api", "/nodes", f"unix:uid:{os.getuid()}")  # so that something is left while /web has nothing
        asked = [
            "fetch",
            "x509",
            "--spiffe-id=/web",
            "--watch",
            f"--write={files}",
            f"--socket=unix://{world.workload}",
        ]
        with running([*COGNOMEN, *asked], tmp_path / "fetch.log"):
            while listed(files) is None:
                pass
            first = x509.load_pem_x509_certificates((files / "svid.pem").read_bytes())[0]
            assert listed(files) == set()
            world.command("revoke", "svid", f"{first.serial_number:x}")
            while listed(files) != {first.serial_number}:
                pass
            while x509.load_pem_x509_certificates((files / "svid.pem").read_bytes())[0] == first:
                pass
    bundle = x509.load_pem_x509_certificates((files / "bundle.pem").read_bytes())
    assert (files / "crl.pem").read_bytes().count(b"BEGIN X509 CRL") == len(bundle)
    assert (files / "crl.pem").readlink() == Path("..data/crl.pem")


def listed(files: Path) -> set[int] | None:
    """The serials in crl.pem; None: there is no such file yet."""
    try:
        text = (files / "crl.pem").read_bytes()
    except FileNotFoundError:
        return None
    blocks = (f"{block}-----END X509 CRL-----\n" for block in text.decode().split("-----END X509 CRL-----\n")[:-1])
    return {entry.serial_number for block in blocks for entry in x509.load_pem_x509_crl(block.encode())}
