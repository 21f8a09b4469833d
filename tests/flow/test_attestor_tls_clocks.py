"""What a node says where the issuer's clock refuses its SVID in TLS, of which gRPC passes on nothing: at the front of a real door."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from attestor.decisions.node import RETURNS, SET_CLOCKS, Node
from attestor.issuerclient.grpc import ISSUER_DNS_NAME, GRPCIssuerClient
from cognomen.protocol.errors import Kind, Refused
from issuer.api.crowd import CrowdLimits, KnownAddresses
from issuer.api.front import Front, FrontLimits
from issuer.metrics import Metrics
from svid.bundle import Bundle
from svid.clock import SystemClock
from svid.keys import KeyKind, generate_private_key
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import X509SVID
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import Authority

TD = TrustDomain("example.org")
HOUR, SECONDS = timedelta(hours=1), 20
LIMITS = FrontLimits(door="node", crowd=CrowdLimits(strangers=20, per_address=10, reserved=20), stranger_seconds=60)


def svid(authority: Authority, path: str, dns: tuple[str, ...] = ()) -> X509SVID:
    key = generate_private_key(KeyKind.EC_P256)
    leaf = authority.sign(SpiffeID.parse(f"spiffe://{TD}{path}"), key.public_key(), ttl=HOUR, dns=dns)
    return X509SVID(spiffe_id=SpiffeID.parse(f"spiffe://{TD}{path}"), chain=(leaf,), private_key=key)


@asynccontextmanager
async def door(shown: X509SVID, bundle: Bundle, directory: Path) -> AsyncIterator[str]:
    """A node door with nothing behind it, which verifies by this machine's clock."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    pem = directory / "door.pem"
    pem.write_bytes(shown.chain_pem() + shown.key_pem())
    context.load_cert_chain(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=bundle.to_pem().decode())

    front, server = Front(lambda: context, lambda _: None, LIMITS, KnownAddresses(), Metrics()), grpc.aio.server()
    address = front.bind(server, "127.0.0.1:0", key="node_address")
    await server.start()
    front.start()
    yield address
    await server.stop(None)
    front.close()


async def refusal_of(directory: Path, off: timedelta) -> Refused:
    """What a node says to whose SVID was issued so long after now, by an issuer with an SVID that is valid."""
    clock = FakeClock(SystemClock().now() - timedelta(days=1))
    authority = Authority(TD, clock)
    bundle = Bundle(trust_domain=TD, x509_authorities=(authority.certificate,))
    clock.advance(timedelta(days=1))
    issuer = svid(authority, "/cognomen/issuer", (ISSUER_DNS_NAME,))
    clock.advance(off)
    mine = svid(authority, "/cognomen/node/n")
    async with door(issuer, bundle, directory) as address:
        client = GRPCIssuerClient()
        await client.use(
            Node(
                svid=mine,
                issued_at=clock.now(),
                bundle=bundle,
                join_address=address,
                node_address=address,
                token_hash="t",  # noqa: S106 - no secret
            )
        )
        with pytest.raises(Refused) as told:
            async with asyncio.timeout(SECONDS):
                await client.renew(generate_private_key(KeyKind.EC_P256))
        await client.close()
    return told.value


async def test_an_issuer_whose_clock_is_behind_is_told_of_as_that(tmp_path: Path) -> None:
    told = await refusal_of(tmp_path, timedelta(minutes=10))
    assert told.detail.startswith("issuer: this node's SVID is not valid yet by the issuer's clock: it is valid from ")
    assert ", this node's clock says " in told.detail
    assert (told.kind, told.hint) == (Kind.UNAVAILABLE, SET_CLOCKS)


async def test_an_issuer_that_finds_the_svid_over_while_this_node_does_not_is_about_clocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SystemClock().now() - 2 * HOUR
    monkeypatch.setattr("attestor.issuerclient.diagnosis.SystemClock", lambda: FakeClock(slow))
    told = await refusal_of(tmp_path, -2 * HOUR)
    assert told.detail.startswith("issuer: this node's SVID is expired by the issuer's clock: it is valid from ")
    assert told.detail.endswith(f"this node's clock says {slow:%Y-%m-%dT%H:%M:%SZ}")
    assert (told.kind, told.hint) == (Kind.UNAVAILABLE, SET_CLOCKS)


async def test_an_svid_that_is_over_by_both_clocks_is_not_put_on_them(tmp_path: Path) -> None:
    told = await refusal_of(tmp_path, -2 * HOUR)
    assert re.fullmatch(r"issuer: this node's SVID expired at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told.detail)
    assert (told.kind, told.hint) == (Kind.UNAVAILABLE, RETURNS)


async def test_a_door_that_lets_this_node_in_and_goes_away_is_not_put_on_the_clocks(tmp_path: Path) -> None:
    told = await refusal_of(tmp_path, timedelta())
    assert "clock" not in told.detail
