"""The calls between components, over mTLS, some with a JWT-SVID; each call is counted.

Shape: a connection carries lines of JSON, and each request gets a reply of one line. A component that wants a token also shows one.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, Self

from cryptography.x509 import load_der_x509_certificate

from cognomen.demo.telling import Tell
from svid import (
    JWTSVID,
    AuthorizationError,
    JWTSVIDError,
    RevokedError,
    SpiffeID,
    SVIDError,
    client_context,
    end_when_revoked,
    exactly,
    peer_id,
    server_context,
)
from svid.clock import SystemClock
from svid.source import TokenVerifier, X509Identity
from svid.tls.refusals import HandshakeRefusedError

__all__ = ["Calls", "Counts", "Peer"]

_CALL_SECONDS = 10
_LINE_BYTES = 64 * 1024
_RENEWED_BEFORE = timedelta(seconds=3)


class Tokens(TokenVerifier, Protocol):
    """Fetches our own tokens, and verifies those of others."""

    def fetch(self, audience: str) -> JWTSVID:
        """A JWT-SVID for that audience."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another component: who it must be, where it listens, what we ask it to do, and whether each shows the other a token."""

    spiffe_id: SpiffeID
    port: int
    what: str
    wants_token: bool


@dataclass(slots=True, kw_only=True)
class Counts:
    """The outcomes of the allowed calls.

    Attributes:
        failed: on either side.
        tokens: how many different JWT-SVIDs were shown.
        revoked: calls that ended because their peer was revoked; they count as neither made nor failed.
    """

    made: int = 0
    answered: int = 0
    failed: int = 0
    tokens: int = 0
    revoked: int = 0


class _Connection:
    """An open mTLS connection to a peer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        leaf: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self._peer_until = load_der_x509_certificate(leaf).not_valid_after_utc

    @property
    def is_old(self) -> bool:
        """Whether the peer's SVID is about to expire: a revocation does not name expired SVIDs, so it would not end the connection."""
        return SystemClock().now() >= self._peer_until - _RENEWED_BEFORE

    @classmethod
    async def open(cls, source: X509Identity, peer: Peer) -> Self:
        context = client_context(source, exactly(peer.spiffe_id))
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.port, ssl=context, limit=_LINE_BYTES)
        end_when_revoked(writer.transport)
        return cls(reader, writer)

    async def ask(self, what: str, token: str) -> str:
        """Ask, and wait until it is done; returns the token of the peer, if it shows one."""
        self._writer.write(json.dumps({"what": what, "token": token}).encode() + b"\n")
        reply = await self._reader.readline()
        if not reply:
            raise ConnectionResetError("the peer hung up without an answer")
        answer: dict[str, str] = json.loads(reply)
        if answer["done"] != what:
            raise ValueError(f"expected {what!r} as done, found {reply!r}")
        return answer["token"]

    async def rest(self, seconds: float) -> None:
        """Ask nothing for that long; raises if the connection ends meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reader.read(1), seconds)  # the peer sends nothing on its own

    def close(self) -> None:
        self._writer.close()


class Calls:
    """The calls that one component makes and answers, with its two identities.

    Args:
        tell: reports the first call of each kind, each failed call, and each way in which a revoked peer is refused.
    """

    def __init__(self, x509: X509Identity, jwt: Tokens, tell: Tell) -> None:
        self.counts = Counts()
        self._x509 = x509
        self._jwt = jwt
        self._tell = tell
        self._told: set[SpiffeID] = set()
        self._ends: set[tuple[SpiffeID, str]] = set()
        self._shown: dict[SpiffeID, str] = {}
        self._token_until: datetime | None = None

    async def serve(self, allowed: SpiffeID, *, wants_token: bool, port: int) -> asyncio.Server:
        """Answer calls of one peer; with `wants_token`, each also shows the other a JWT-SVID."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            caller = peer_id(writer.get_extra_info("ssl_object"))
            try:
                while request := await asyncio.wait_for(reader.readline(), _CALL_SECONDS):
                    writer.write(await self._answer(caller, request, wants_token=wants_token))
                    await writer.drain()
                    self.counts.answered += 1
            except ConnectionError:
                pass  # the caller counts a call that is cut off, and knows why
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
        server = await asyncio.start_server(answer, "127.0.0.1", port, ssl=context, limit=_LINE_BYTES)
        self._tell("listening", port=server.sockets[0].getsockname()[1])
        return server

    async def _answer(self, caller: SpiffeID, line: bytes, *, wants_token: bool) -> bytes:
        request = json.loads(line)
        bearer: SpiffeID | None = None
        ours = ""
        if wants_token:
            ours = (await asyncio.to_thread(self._jwt.fetch, str(caller))).token
            bearer = self._jwt.verify(request["token"], audience=str(self._x509.svid.spiffe_id)).spiffe_id
        if self._is_first(caller):
            self._tell("answered", caller=str(caller), token_of=str(bearer or ""), what=request["what"])
        return json.dumps({"done": request["what"], "token": ours}).encode() + b"\n"

    async def call_on(self, peer: Peer, *, keep: bool, pause: float, stop: asyncio.Event) -> None:
        """Call a peer again and again until told to stop, over a new connection for each call, or over one that is kept.

        Calls to a revoked peer continue as well, until another component answers in its place.
        """
        connection: _Connection | None = None
        is_revoked = False
        while not stop.is_set():
            try:
                async with asyncio.timeout(_CALL_SECONDS):
                    token = await self._token_for(peer) if peer.wants_token else ""
                    connection = connection or await _Connection.open(self._x509, peer)
                    self._check(peer, await connection.ask(peer.what, token))
            except (SVIDError, ValueError, KeyError, OSError) as e:
                is_revoked = self._note_end(peer, e, was_revoked=is_revoked)
                is_good = isinstance(e, JWTSVIDError) and is_revoked  # the connection belongs to another credential
            else:
                self._note_success(peer)
                is_good, is_revoked = True, False
            if connection is not None and not (keep and is_good and not connection.is_old):
                connection.close()
                connection = None
            connection = await self._rest(peer, connection, pause)
        if connection is not None:
            connection.close()

    async def _rest(self, peer: Peer, connection: _Connection | None, pause: float) -> _Connection | None:
        """Wait; returns the connection, unless its peer was revoked meanwhile."""
        if connection is None:
            await asyncio.sleep(pause)
            return None
        try:
            await connection.rest(pause)
        except RevokedError as e:
            self._tell_end(peer.spiffe_id, e)
            connection.close()
            return None
        except OSError:
            pass  # the next call fails, and counts it
        return connection

    def _note_end(self, peer: Peer, error: Exception, *, was_revoked: bool) -> bool:
        """Count a call that did not succeed, but only once if its peer is revoked; returns whether it is revoked."""
        if isinstance(error, RevokedError):
            self.counts.revoked += not was_revoked
            self._tell_end(peer.spiffe_id, error)
            return True
        if not was_revoked:
            self.counts.made += 1
            self._fail(peer.spiffe_id, error)
        return was_revoked

    async def look_again(self, *, pause: float) -> None:
        """Verify the last token of each peer again and again, as if somebody showed it once more, and report when it is refused."""
        while True:
            for spiffe_id, token in list(self._shown.items()):
                try:
                    self._jwt.verify(token, audience=str(self._x509.svid.spiffe_id))
                except RevokedError as e:
                    del self._shown[spiffe_id]
                    self._tell_end(spiffe_id, e)
            await asyncio.sleep(pause)

    def _check(self, peer: Peer, token: str) -> None:
        """Verify the token that came with an answer."""
        if peer.wants_token:
            exactly(peer.spiffe_id)(self._jwt.verify(token, audience=str(self._x509.svid.spiffe_id)).spiffe_id)
            self._shown[peer.spiffe_id] = token

    def _note_success(self, peer: Peer) -> None:
        self.counts.made += 1
        if self._is_first(peer.spiffe_id):
            self._ends = {one for one in self._ends if one[0] != peer.spiffe_id}
            now = SystemClock().now().isoformat()
            self._tell("called", peer=str(peer.spiffe_id), what=peer.what, token=int(peer.wants_token), at=now)

    def _tell_end(self, peer: SpiffeID, error: RevokedError) -> None:
        """Report the first refusal of each kind since the last success: of a connection, a handshake, a token."""
        match error:
            case JWTSVIDError():
                name = "token refused"
            case HandshakeRefusedError():
                name = "handshake refused"
            case _:
                name = "connection closed"
        if (peer, name) not in self._ends:
            self._ends.add((peer, name))
            self._told.discard(peer)
            self._tell(name, peer=str(peer), at=SystemClock().now().isoformat(), why=str(error))

    async def try_once(self, peer: Peer) -> None:
        """Ask for something that nobody allowed us, and report how it was refused; count a failure only if it is not."""
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                connection = await _Connection.open(self._x509, peer)
                try:
                    await connection.ask(peer.what, "")
                finally:
                    connection.close()
        except OSError:  # which one depends on how far TLS had got before the other side hung up
            self._tell("turned away", peer=str(peer.spiffe_id), what=peer.what)
        else:
            self._fail(peer.spiffe_id, AuthorizationError(f"{peer.what}: done, but should have been refused"))

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
