"""The calls between components: over mTLS, some with a JWT-SVID, each one counted.

Shape: on a connection one line of JSON after another, each request answered by one line.
"""

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self

from svid import (
    AuthorizationError,
    JWTSource,
    SpiffeID,
    SVIDError,
    X509Source,
    client_context,
    exactly,
    peer_id,
    server_context,
)

__all__ = ["Calls", "Counts", "Peer", "Tell"]

_CALL_SECONDS = 10
_LINE_BYTES = 64 * 1024


class Tell(Protocol):
    """Something that tells an event and its facts."""

    def __call__(self, event: str, **facts: str | int) -> None:
        """Tell it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another component: who it must be, where it listens, what it is asked for."""

    spiffe_id: SpiffeID
    port: int
    what: str
    wants_token: bool


@dataclass(slots=True, kw_only=True)
class Counts:
    """What came of the calls that are allowed; `failed` on either side, `tokens` are the different JWT-SVIDs that were shown."""

    made: int = 0
    answered: int = 0
    failed: int = 0
    tokens: int = 0


class _Connection:
    """An open mTLS connection to a peer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, source: X509Source, peer: Peer) -> Self:
        context = client_context(source, exactly(peer.spiffe_id))
        return cls(*await asyncio.open_connection("127.0.0.1", peer.port, ssl=context, limit=_LINE_BYTES))

    async def ask(self, what: str, token: str) -> None:
        """Ask, and wait until it is done."""
        self._writer.write(json.dumps({"what": what, "token": token}).encode() + b"\n")
        reply = await self._reader.readline()
        if not reply:
            raise ConnectionResetError("the peer hung up without an answer")
        if json.loads(reply) != {"done": what}:
            raise ValueError(f"expected that {what!r} is done, found {reply!r}")

    def close(self) -> None:
        self._writer.close()


class Calls:
    """What one component asks of others and answers them, by its two identities.

    Args:
        tell: called with the first call of each kind, and with each that fails.
    """

    def __init__(self, x509: X509Source, jwt: JWTSource, tell: Tell) -> None:
        self.counts = Counts()
        self._x509 = x509
        self._jwt = jwt
        self._tell = tell
        self._told: set[SpiffeID] = set()
        self._token_until: datetime | None = None

    async def serve(self, allowed: SpiffeID, *, wants_token: bool) -> asyncio.Server:
        """Answer calls of one peer; with `wants_token` it also shows a JWT-SVID for us."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            caller = peer_id(writer.get_extra_info("ssl_object"))
            try:
                while request := await asyncio.wait_for(reader.readline(), _CALL_SECONDS):
                    writer.write(self._answer(caller, request, wants_token=wants_token))
                    await writer.drain()
                    self.counts.answered += 1
            except (SVIDError, ValueError, KeyError, OSError) as e:
                self._fail(caller, e)
            finally:
                writer.close()

        def authorize(caller: SpiffeID) -> None:
            try:
                exactly(allowed)(caller)
            except AuthorizationError as e:
                self._tell("refused", caller=str(caller), why=str(e))
                raise

        context = server_context(self._x509, authorize)
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context, limit=_LINE_BYTES)
        self._tell("listening", port=server.sockets[0].getsockname()[1])
        return server

    def _answer(self, caller: SpiffeID, line: bytes, *, wants_token: bool) -> bytes:
        request = json.loads(line)
        bearer: SpiffeID | None = None
        if wants_token:
            bearer = self._jwt.verify(request["token"], audience=str(self._x509.svid.spiffe_id)).spiffe_id
        if self._is_first(caller):
            self._tell("answered", caller=str(caller), token_of=str(bearer or ""), what=request["what"])
        return json.dumps({"done": request["what"]}).encode() + b"\n"

    async def call_on(self, peer: Peer, *, keep: bool, pause: float, stop: asyncio.Event) -> None:
        """Call a peer again and again until told to stop, over a connection for each call, or over one that is kept."""
        connection: _Connection | None = None
        while not stop.is_set():
            self.counts.made += 1
            try:
                async with asyncio.timeout(_CALL_SECONDS):
                    token = await self._token_for(peer) if peer.wants_token else ""
                    connection = connection or await _Connection.open(self._x509, peer)
                    await connection.ask(peer.what, token)
            except (SVIDError, ValueError, OSError) as e:
                self._fail(peer.spiffe_id, e)
                is_good = False
            else:
                is_good = True
                if self._is_first(peer.spiffe_id):
                    self._tell("called", peer=str(peer.spiffe_id), what=peer.what, token=int(peer.wants_token))
            if connection is not None and not (keep and is_good):
                connection.close()
                connection = None
            await asyncio.sleep(pause)
        if connection is not None:
            connection.close()

    async def try_once(self, peer: Peer) -> None:
        """Ask for what nobody allowed us, and tell how it was refused; it counts as failed only where it is not."""
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                connection = await _Connection.open(self._x509, peer)
                try:
                    await connection.ask(peer.what, "")
                finally:
                    connection.close()
        except OSError:  # which one depends on how much TLS had said before the other side hung up
            self._tell("turned away", peer=str(peer.spiffe_id), what=peer.what)
        else:
            self._fail(peer.spiffe_id, AuthorizationError(f"{peer.what}: expected to be refused, found it done"))

    async def _token_for(self, peer: Peer) -> str:
        svid = await asyncio.to_thread(self._jwt.fetch, str(peer.spiffe_id))
        if self._token_until is None or svid.expires_at > self._token_until:
            self._token_until = svid.expires_at
            self.counts.tokens += 1
        return svid.token

    def _is_first(self, peer: SpiffeID) -> bool:
        is_first = peer not in self._told
        self._told.add(peer)
        return is_first

    def _fail(self, peer: SpiffeID, error: Exception) -> None:
        self.counts.failed += 1
        self._tell("failed", peer=str(peer), why=str(error) or type(error).__name__)
