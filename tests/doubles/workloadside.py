"""The attestor's workload side on a real socket, fed by the test instead of an issuer."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

from google.protobuf.message import Message
from grpclib.client import Channel
from grpclib.client import Stream as ClientStream
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import ProtocolError

from attestor.api.callers import Callers
from attestor.api.denials import Denials
from attestor.api.status import translate
from attestor.api.workload import SERVICE, WorkloadAPI, X509Writer
from attestor.cache import Cache, HeldX509
from attestor.decisions.sync import Change
from attestor.deniallog import DenialLog, number_of
from attestor.flows.serve_callers import ServeCallers
from attestor.flows.serve_denials import ServeDenials
from attestor.flows.serve_workload import ServeWorkload
from attestor.issuerclient.port import MintedJWT
from attestor.nodeclock import NodeClock
from attestor.receipts import Receipts
from attestor.recentcallers import RecentCallers
from attestor.uses import Uses
from attestor.workloadattestor.port import WorkloadAttestor
from attestor.workloadattestor.unix import UnixAttestor
from bench.rig.attestorsurroundings import surroundings
from cognomen.daemon.troubles import Troubles
from cognomen.gate.accounts import AccountID
from cognomen.gate.caller import Caller, peer
from cognomen.gate.gate import Identify, Limits, listen
from cognomen.gate.unixrpc import Server, Service, serve
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.selector import Selector
from issuer.decisions.feedsteps import in_order
from svid.bundle import Bundle
from svid.clock import Clock, SystemClock
from svid.denials import Denial
from svid.jwtsvid import JWTSVID
from svid.keys import KeyKind, generate_private_key
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import X509SVID
from tests.doubles.issuerclient import Authority

__all__ = ["HEADER", "TRUST_DOMAIN", "Answers", "WorkloadSide", "call", "entry", "open_stream", "served", "serving"]

TRUST_DOMAIN = TrustDomain("example.org")
HEADER = (("workload.spiffe.io", "true"),)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

_Reply = TypeVar("_Reply", bound=Message)
Metadata = Sequence[tuple[str, str]]


def entry(
    name: str, *selectors: str, age: timedelta = HOUR, hint: str = "", path: Sequence[str] = (), revision: int = 1
) -> RegistrationEntry:
    """An entry with this ID; without `path` its SPIFFE ID ends with the name, too."""
    return RegistrationEntry(
        id=EntryID(name),
        spiffe_id=SpiffeID.from_segments(TRUST_DOMAIN, *(path or ("w", name))),
        parent_id=SpiffeID.from_segments(TRUST_DOMAIN, "cognomen", "node", "join_token", "n"),
        selectors=frozenset(map(Selector.parse, selectors)),
        created_at=NOON - age,
        hint=hint,
        revision=revision,
    )


@dataclass
class WorkloadSide:
    """A cache whose entries are minted at once, unless told otherwise, and the minter of its tokens.

    Attributes:
        refuses_tokens: what asking for a token is refused with.
        tokens: how many were asked for.
        patience: for how many seconds whoever asked for the last one waits.
        is_fresh: whether the last one was to be fresh.
        troubles: of the flows over it.
    """

    clock: Clock = field(default_factory=SystemClock)
    refuses_tokens: Refused | None = None
    tokens: int = 0
    patience: float = math.inf
    is_fresh: bool = False

    def __post_init__(self) -> None:
        self.authorities = [Authority(TRUST_DOMAIN, self.clock)]
        self.cache = Cache(self.bundle, DenialLog())
        self.troubles = Troubles(self.clock)
        self.uses = Uses(NodeClock(self.clock))
        self.recent = RecentCallers()
        self._number = 0

    @property
    def bundle(self) -> Bundle:
        return Bundle(
            trust_domain=TRUST_DOMAIN,
            x509_authorities=tuple(authority.certificate for authority in self.authorities),
            jwt_authorities={authority.kid: authority.jwt_key.public_key() for authority in self.authorities},
        )

    def synchronise(self, *entries: RegistrationEntry, mint: bool = True) -> None:
        """Apply a snapshot of these entries."""
        self._apply(snapshot=True, entries=entries)
        if mint:
            self.mint(*entries)

    def put(self, *entries: RegistrationEntry, mint: bool = True) -> None:
        """Create or change entries."""
        self._apply(entries=entries)
        if mint:
            self.mint(*entries)

    def remove(self, *names: str) -> None:
        """Delete entries."""
        self._apply(gone=tuple(map(EntryID, names)))

    def rotate(self) -> None:
        """Publish one more authority."""
        self.authorities.append(Authority(TRUST_DOMAIN, self.clock, name=f"{len(self.authorities)}"))
        self._apply(bundle=self.bundle)

    def deny(self, *credentials: X509SVID | JWTSVID) -> None:
        """End these before their time."""
        numbers = (one.serial if isinstance(one, X509SVID) else number_of(one) for one in credentials)
        self.deny_numbers(*(number for number in numbers if number is not None))

    def deny_numbers(self, *numbers: int) -> None:
        """End what has these before its time."""
        end = (self.clock.now() + HOUR).replace(microsecond=0)
        self._apply(denials=[Denial(number, end) for number in numbers])

    def mint(self, *entries: RegistrationEntry) -> None:
        """Hold a new X509-SVID for each."""
        self.cache.hold(self._minted(entry) for entry in entries)

    def holding(self, entry: RegistrationEntry, svid: X509SVID) -> HeldX509:
        """As the cache has it, with an SVID that was minted for another."""
        return HeldX509(entry=entry, svid=svid, issued_at=self.clock.now())

    async def jwt_svid(
        self, entry: RegistrationEntry, audiences: Collection[str], *, whose: AccountID, patience: float, fresh: bool
    ) -> MintedJWT:
        """Sign a token: this is the flow's JWTMinter."""
        del whose
        self.patience = patience
        self.is_fresh = fresh
        await asyncio.sleep(0)
        self.tokens += 1
        if self.refuses_tokens is not None:
            raise self.refuses_tokens
        now, ttl = self.clock.now(), timedelta(minutes=5)
        token = self.authorities[0].token(entry.spiffe_id, tuple(audiences), ttl=ttl)
        return MintedJWT(token=token, issued_at=now, expires_at=now + ttl)

    def flow(self, *attestors: WorkloadAttestor, attest_seconds: float = 5) -> ServeWorkload:
        """The flow over this cache."""
        return ServeWorkload(
            self.cache,
            attestors=attestors or [UnixAttestor(self.clock)],
            minter=self,
            uses=self.uses,
            recent=self.recent,
            around=surroundings(self.clock, self.troubles),
            attest_seconds=attest_seconds,
        )

    def denials_flow(self, age: Callable[[], timedelta] = timedelta) -> ServeDenials:
        """The flow that tells what this cache holds denied; by default the issuer was heard just now."""
        return ServeDenials(self.cache.denials, Receipts(self.cache.denials), age=age, clock=NodeClock(self.clock))

    def callers_flow(
        self, flow: ServeWorkload | None = None, *, age: Callable[[], timedelta] = timedelta
    ) -> ServeCallers:
        """The flow that tells who may call the identities of a process that is identified by the other flow."""
        attest = (flow or self.flow()).attest
        return ServeCallers(self.cache, attest, age=age, clock=NodeClock(self.clock))

    def _apply(
        self,
        *,
        snapshot: bool = False,
        entries: Sequence[RegistrationEntry] = (),
        gone: Sequence[EntryID] = (),
        bundle: Bundle | None = None,
        denials: Sequence[Denial] = (),
    ) -> None:
        self._number += 1
        cursor = Cursor(incarnation="1", number=self._number)
        updates = in_order(denials=denials, bundle=bundle, gone=gone, entries=entries)
        self.cache.apply(Change(cursor=cursor, snapshot=snapshot, updates=tuple(updates)))

    def _minted(self, entry: RegistrationEntry) -> HeldX509:
        key = generate_private_key(KeyKind.EC_P256)
        leaf = self.authorities[-1].sign(entry.spiffe_id, key.public_key(), ttl=HOUR)
        svid = X509SVID(spiffe_id=entry.spiffe_id, chain=(leaf,), private_key=key)
        return HeldX509(entry=entry, svid=svid, issued_at=self.clock.now())


@asynccontextmanager
async def serving(
    flow: ServeWorkload,
    path: Path,
    *,
    identify: Identify = peer,
    listener: socket.socket | None = None,
    denials: ServeDenials | None = None,
    callers: ServeCallers | None = None,
) -> AsyncIterator[Channel]:
    """Serve as `served` does; gives a channel to it."""
    async with served(flow, path, identify=identify, listener=listener, denials=denials, callers=callers):
        channel = Channel(path=str(path))
        try:
            yield channel
        finally:
            channel.close()


@asynccontextmanager
async def served(
    flow: ServeWorkload,
    path: Path,
    *,
    identify: Identify = peer,
    listener: socket.socket | None = None,
    denials: ServeDenials | None = None,
    callers: ServeCallers | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[Server]:
    """Serve the Workload API on that socket, and denials and callers where those flows are given.

    Args:
        listener: listens there already; None: it is made.
    """
    writer = X509Writer()

    def services(caller: Caller) -> Sequence[Service]:
        some: list[Service] = [WorkloadAPI(flow, caller, writer)]
        if denials is not None:
            some.append(Denials(denials, caller, TRUST_DOMAIN))
        if callers is not None:
            some.append(Callers(callers, caller))
        return some

    async with AsyncExitStack() as leaving:
        if denials is not None:
            words = asyncio.create_task(denials.run())
            leaving.callback(words.cancel)
        yield await leaving.enter_async_context(
            serve(listener or listen(path, 0o666), services, limits or Limits(), translate=translate, identify=identify)
        )


async def call(
    channel: Channel,
    method: str,
    request: Message,
    reply: type[_Reply],
    *,
    metadata: Metadata = HEADER,
    service: str = SERVICE,
) -> _Reply:
    """Make a unary call; grpclib's GRPCError when it is refused."""
    async with channel.request(
        f"/{service}/{method}", Cardinality.UNARY_UNARY, type(request), reply, metadata=metadata, timeout=10
    ) as stream:
        await stream.send_message(request, end=True)
        answer: _Reply | None = await stream.recv_message()
        assert answer is not None
        return answer


class Answers(Generic[_Reply]):
    """What comes on an open stream."""

    def __init__(self, stream: ClientStream[Message, _Reply]) -> None:
        self._stream = stream

    async def next(self) -> _Reply:
        """Wait for the next message; grpclib's GRPCError when the stream ends as refused."""
        message = await self._stream.recv_message()
        if message is None:
            await self._stream.recv_trailing_metadata()
            raise AssertionError("expected a message or a refusal, found that the stream ended")
        return message

    async def refusal(self) -> GRPCError:
        """Wait for the end of the stream."""
        try:
            while await self._stream.recv_message() is not None:
                pass
            await self._stream.recv_trailing_metadata()
        except GRPCError as err:
            return err
        raise AssertionError("expected a refusal, found that the stream ended well")


@asynccontextmanager
async def open_stream(
    channel: Channel,
    method: str,
    request: Message,
    reply: type[_Reply],
    *,
    metadata: Metadata = HEADER,
    service: str = SERVICE,
) -> AsyncIterator[Answers[_Reply]]:
    """Open a stream and send the request; the call is reset at the end of the block, unless it is over."""
    stream = channel.request(
        f"/{service}/{method}", Cardinality.UNARY_STREAM, type(request), reply, metadata=metadata, timeout=20
    )
    is_done = False
    try:
        async with stream:
            await stream.send_message(request, end=True)
            yield Answers(stream)
            is_done = True
            with suppress(ProtocolError):  # it is over
                await stream.cancel()
    except (GRPCError, StreamTerminatedError):  # the end of the call, which the block has seen
        if not is_done:
            raise
