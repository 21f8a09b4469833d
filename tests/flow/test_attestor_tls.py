"""Who is taken for the issuer, and what a peer that is none does to the attestor: over real TLS on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attestor.decisions.node import SET_CLOCKS, NodeCredential
from attestor.issuerclient.diagnosis import tell_clocks
from attestor.issuerclient.grpc import ISSUER_DNS_NAME, GRPCIssuerClient
from attestor.issuerclient.port import Evidence
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from cognomen.wire.pb import node_pb2 as pb
from cognomen.wire.pb.node_pb2_grpc import JoinServicer, add_JoinServicer_to_server
from issuer.decisions.profile import ISSUER_DNS_NAME as ISSUERS_ISSUER_DNS_NAME
from svid.bundle import Bundle
from svid.clock import SystemClock
from svid.keys import KeyKind, generate_private_key
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import BACK_DATING, Authority

TD = TrustDomain("example.org")
SECONDS = 20


class Door(JoinServicer):
    """A join door that asks these challenges, keeps the answers, and then says nonsense or ends."""

    def __init__(self, *challenges: bytes, attests: bool = False) -> None:
        self.heard: list[pb.AttestNodeRequest] = []
        self._challenges = challenges
        self._attests = attests

    async def AttestNode(  # noqa: N802 - the protocol's name
        self, request_iterator: AsyncIterator[pb.AttestNodeRequest], context: object
    ) -> AsyncIterator[pb.AttestNodeResponse]:
        del context
        self.heard.append(await anext(request_iterator))
        for challenge in self._challenges:
            yield pb.AttestNodeResponse(challenge=challenge)
            self.heard.append(await anext(request_iterator))
        if self._attests:
            yield pb.AttestNodeResponse(attested=pb.NodeCredential(chain=[b"nonsense"]))

    def GetBundle(self, request: object, context: object) -> pb.GetBundleResponse:  # noqa: N802 - the protocol's name
        raise NotImplementedError

    def BeginReadmission(self, request: object, context: object) -> pb.BeginReadmissionResponse:  # noqa: N802 - as above
        raise NotImplementedError

    def Readmit(self, request: object, context: object) -> pb.NodeCredential:  # noqa: N802 - as above
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Peer:
    address: str
    door: Door


@asynccontextmanager
async def peer(
    authority: Authority, spiffe_id: str, *, dns: Sequence[str], door: Door | None = None
) -> AsyncIterator[Peer]:
    """Somebody who listens with that SVID."""
    key = generate_private_key(KeyKind.EC_P256)
    leaf = authority.sign(SpiffeID.parse(spiffe_id), key.public_key(), ttl=timedelta(hours=1), dns=dns)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    credentials = grpc.ssl_server_credentials([(key_pem, leaf.public_bytes(Encoding.PEM))])
    server, door = grpc.aio.server(), door or Door()
    add_JoinServicer_to_server(door, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield Peer(address=f"127.0.0.1:{port}", door=door)
    await server.stop(None)


def invite(authority: Authority, address: str) -> Invite:
    bundle = Bundle(trust_domain=TD, x509_authorities=(authority.certificate,))
    return Invite(trust_domain=TD, join_address=address, node_address=address, token="t", bundle=bundle)  # noqa: S106 - no secret


async def join(to: Invite) -> NodeCredential:
    async def answer(challenge: bytes) -> bytes:
        return challenge[::-1]

    async with asyncio.timeout(SECONDS):
        return await GRPCIssuerClient().join(
            to, Evidence(attestor="join_token", evidence=b"t", answer=answer), generate_private_key(KeyKind.EC_P256)
        )


@pytest.fixture
def authority() -> Authority:
    return Authority(TD, SystemClock())


def test_attestor_and_issuer_agree_on_the_issuers_name() -> None:
    assert ISSUER_DNS_NAME == ISSUERS_ISSUER_DNS_NAME


async def test_the_issuer_is_who_has_its_name_under_our_bundle(authority: Authority) -> None:
    async with peer(authority, "spiffe://example.org/cognomen/issuer", dns=[ISSUER_DNS_NAME]) as issuer:
        with pytest.raises(Refused, match="ended the stream without answering the evidence"):
            await join(invite(authority, issuer.address))
        assert len(issuer.door.heard) == 1


async def test_challenges_are_answered_within_the_call_and_a_bad_credential_is_refused(authority: Authority) -> None:
    door = Door(b"ab", b"cd", attests=True)
    async with peer(authority, "spiffe://example.org/cognomen/issuer", dns=[ISSUER_DNS_NAME], door=door) as issuer:
        with pytest.raises(Refused, match="answer of the issuer: ") as refused:
            await join(invite(authority, issuer.address))
    assert refused.value.kind is Kind.INTERNAL
    assert [request.answer for request in door.heard] == [b"", b"ba", b"dc"]


@pytest.mark.parametrize("dns", [[], ["localhost"], ["127.0.0.1"]], ids=str)
async def test_a_workload_of_our_trust_domain_is_not_taken_for_the_issuer(authority: Authority, dns: list[str]) -> None:
    async with peer(authority, "spiffe://example.org/web", dns=dns) as workload:
        with pytest.raises(Refused) as refused:
            await join(invite(authority, workload.address))
        assert refused.value.kind is Kind.UNAVAILABLE
        assert not workload.door.heard


async def test_an_issuer_of_another_authority_is_not_taken_for_ours(authority: Authority) -> None:
    stranger = Authority(TD, SystemClock(), name="stranger")
    async with peer(stranger, "spiffe://example.org/cognomen/issuer", dns=[ISSUER_DNS_NAME]) as other:
        with pytest.raises(Refused) as refused:
            await join(invite(authority, other.address))
        assert refused.value.kind is Kind.UNAVAILABLE
        assert not other.door.heard


@pytest.mark.parametrize("off", [timedelta(hours=-2), timedelta(hours=2)], ids=str)
async def test_where_clocks_keep_tls_from_trusting_the_issuer_both_are_told(off: timedelta) -> None:
    clock = FakeClock(SystemClock().now() - timedelta(days=1))
    authority = Authority(TD, clock)
    clock.advance(timedelta(days=1) + off)
    async with peer(authority, "spiffe://example.org/cognomen/issuer", dns=[ISSUER_DNS_NAME]) as issuer:
        with pytest.raises(
            Refused, match=r"issuer: its SVID is valid from .*Z to .*Z, this node's clock says .*Z"
        ) as told:
            await join(invite(authority, issuer.address))
    assert (told.value.kind, told.value.hint) == (Kind.UNAVAILABLE, SET_CLOCKS)
    assert f"{clock.now() - BACK_DATING:%Y-%m-%dT%H:%M:%SZ}" in told.value.detail


async def test_a_stranger_whose_certificate_is_over_explains_nothing(authority: Authority) -> None:
    clock = FakeClock(SystemClock().now() - timedelta(hours=2))
    stranger = Authority(TD, clock, name="stranger")
    async with peer(stranger, "spiffe://example.org/cognomen/issuer", dns=[ISSUER_DNS_NAME]) as other:
        with pytest.raises(
            Refused, match="this node does not know its authority, or another server answers"
        ) as refused:
            await join(invite(authority, other.address))
        assert await tell_clocks(other.address, invite(authority, other.address).bundle, ISSUER_DNS_NAME) is None
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_nobody_there_is_unavailable(authority: Authority) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(Refused) as refused:
            await join(invite(authority, f"127.0.0.1:{taken.getsockname()[1]}"))
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_garbage_instead_of_tls_is_unavailable(authority: Authority) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x00garbage" * 1000)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(Refused) as refused:
            await join(replace(invite(authority, "x"), join_address=f"{host}:{port}"))
    assert refused.value.kind is Kind.UNAVAILABLE
