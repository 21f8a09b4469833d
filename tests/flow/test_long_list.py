"""A revocation list of more than a mebibyte, through both daemons, under traffic and kill -9: its authority is replaced."""

import asyncio
import json
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from cognomen.protocol.entry import EntryID
from issuer.backup import DATABASE
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.ledger import Credential, CredentialKind
from svid.clock import SystemClock
from svid.keys import KeyID
from svid.spiffeid import SpiffeID, TrustDomain
from svid.tls.authorize import any_in
from svid.tls.context import server_context
from svid.workloadapi.sources import JWTSource, X509Source
from tests.flow.test_tainted_authority import Traffic, echoing, running, signing
from tests.flow.twodaemons import World

TD = TrustDomain("example.org")
GONE = SpiffeID.parse(f"spiffe://{TD}/gone")
FULL = 22_000


async def sign_for_gone(state: Path, authority: KeyID) -> None:
    """Put certificates into the ledger of an issuer that does not run, as if this authority had signed them for /gone."""
    now = SystemClock().now()
    rows = [
        Credential(
            kind=CredentialKind.X509,
            serial=f"{2**127 + number:032x}",
            spiffe_id=GONE,
            entry_id=EntryID("gone"),
            authority_id=authority,
            issued_at=now,
            not_after=now + timedelta(hours=12),
        )
        for number in range(FULL)
    ]
    store = await SQLiteDatastore.open(state / DATABASE)
    try:
        await store.write(lambda tx: tx.ledger.record(rows))
    finally:
        await store.close()


def state_of(world: World, key_id: str) -> dict[str, object]:
    listed = world.command("authority", "list", "--all")["authorities"]
    assert isinstance(listed, list)
    found: dict[str, object] = next(one for one in listed if one["key_id"] == key_id)
    return found


@pytest.mark.timeout(180)
def test_the_innocent_are_replaced_and_the_full_authority_leaves_under_traffic_and_kills(tmp_path: Path) -> None:
    world = World(tmp_path, "--authority-spread=1s")
    address = f"unix://{world.workload}"
    with world.running(), X509Source(address) as mine, X509Source(address) as theirs, JWTSource(address) as tokens:
        before, first = mine.svid, signing(world, "x509")
        world.issuer.stop()
        asyncio.run(sign_for_gone(tmp_path / "issuer", KeyID(first)))
        world.issuer.start()
        with echoing(server_context(theirs, any_in(TD))) as port:
            traffic = Traffic(world, mine, tokens, port)
            with running([traffic.shake_hands, traffic.fetch]) as wait_for_all:  # a token needs the issuer
                wait_for_all()
                # 1. One command, and everybody who reads lists has the long one.
                world.command("revoke", "spiffe-id", str(GONE), "--reason=keyCompromise")
                while FULL not in map(len, mine.context.crls):
                    threading.Event().wait(0.01)
                wait_for_all()
                # 2. The issuer is killed as soon as it has tainted the full authority, and goes on from there.
                while state_of(world, first)["tainted_at"] is None:
                    threading.Event().wait(0.05)
                world.issuer.kill()
                world.issuer.start()
                wait_for_all()
                # 3. Everybody has another SVID, then the full one is gone with its list.
                while state_of(world, first)["state"] != "retired":
                    threading.Event().wait(0.2)
                while any(one.subject == before.chain[0].issuer for one in mine.bundle_for(TD).x509_authorities):
                    threading.Event().wait(0.01)
                wait_for_all()
        assert mine.svid.leaf.issuer != before.leaf.issuer
        assert not any(map(len, mine.context.crls))
        assert not (tmp_path / "issuer" / "keys" / f"{first}.key").exists()
        rows = map(json.loads, world.run("audit", "tail", "--limit=1000", "--output=json").stdout.splitlines())
        steps = [
            row["action"] for row in rows if row["actor"] == "issuer" and f"{FULL} certificates" in str(row["facts"])
        ]
        assert steps == ["authority rotation asked", "authority tainted", "authority revoked"]
