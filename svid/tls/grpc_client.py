"""gRPC clients over mutual TLS by SPIFFE IDs: channels that follow every rotation, and JWT-SVIDs as call credentials.

gRPC shows a client no certificate of the server, and takes an identity once for each channel. So a channel speaks to a relay in this very
process, over a Unix socket that no other process is served on, and the relay speaks TLS by a LiveContext. When identity or bundles change,
the relay says GOAWAY in the server's name: calls in flight finish, later ones take a new connection. The socket has an abstract name, held
for as long as the channel lives: there is no directory that somebody else may own, rename or clean up. Servers: svid/tls/grpc_server.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from datetime import timedelta
from typing import Protocol

import grpc

from svid.errors import SVIDError
from svid.jwtsvid import JWTSVID
from svid.source import X509Identity
from svid.tls.authorize import Authorizer
from svid.tls.connections import end_when_revoked
from svid.tls.context import LiveContext, client_context
from svid.tls.refusals import EndedPeerError

__all__ = ["grpc_aio_channel", "grpc_bearer_credentials", "grpc_channel"]

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 64 * 1024
_HANDSHAKE_SECONDS = 20.0
_TURNS = 4  # of the loop, in which asyncio closes what was aborted
_FRAME_HEAD_BYTES = 9  # RFC 9113 4.1
_GOAWAY, _NO_ERROR, _EVERY_STREAM = 7, 0, 2**31 - 1

_PROXY_OPTIONS = frozenset({"grpc.enable_http_proxy", "grpc.http_proxy"})

Options = Sequence[tuple[str, object]]


@contextlib.contextmanager
def grpc_channel(
    target: str,
    source: X509Identity,
    authorize: Authorizer,
    *,
    options: Options = (),
    refuse_after: timedelta | None = None,
) -> Iterator[grpc.Channel]:
    """Open a channel: the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name, and sees our SVID.

    A call is UNAVAILABLE while the server is not wanted or denied, or there is no identity; the log of svid.tls.grpc_client says why.

    Args:
        target: `host:port`, `[v6]:port`.
        options: gRPC's, for the channel.
        refuse_after: as of LiveContext.

    Raises:
        ValueError: no target.
        TypeError: as LiveContext.

    Source: SPIFFE X509-SVID 5; RFC 9113 6.8
    """
    with (
        _relay(target, source, client_context(source, authorize, refuse_after=refuse_after)) as name,
        grpc.secure_channel(f"unix-abstract:{name}", _local(), _options(target, options)) as channel,
    ):
        yield channel


@contextlib.asynccontextmanager
async def grpc_aio_channel(
    target: str,
    source: X509Identity,
    authorize: Authorizer,
    *,
    options: Options = (),
    refuse_after: timedelta | None = None,
) -> AsyncIterator[grpc.aio.Channel]:
    """Open the same for asyncio."""
    with _relay(target, source, client_context(source, authorize, refuse_after=refuse_after)) as name:
        async with grpc.aio.secure_channel(f"unix-abstract:{name}", _local(), _options(target, options)) as channel:
            yield channel


class TokenFetcher(Protocol):
    """What a caller needs that shows JWT-SVIDs; a JWTSource is one."""

    def fetch(self, audience: str | Collection[str]) -> JWTSVID:
        """Fetch a JWT-SVID for that audience."""


def grpc_bearer_credentials(source: TokenFetcher, audience: str | Collection[str]) -> grpc.CallCredentials:
    """Make call credentials: each call brings a JWT-SVID for that audience as `authorization: Bearer …`.

    Where none can be had, the call fails UNAVAILABLE.

    Source: RFC 6750 2.1
    """
    return grpc.metadata_call_credentials(_Bearer(source, audience), name="jwt-svid")


class _Bearer(grpc.AuthMetadataPlugin):
    def __init__(self, source: TokenFetcher, audience: str | Collection[str]) -> None:
        self._source = source
        self._audience = audience

    def __call__(self, _: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            token = self._source.fetch(self._audience).token
        except SVIDError as e:
            callback((), e)
        else:
            callback((("authorization", f"Bearer {token}"),), None)


def _options(target: str, options: Options) -> Options:
    """A caller's options; by a proxy the relay would be asked for in vain, and gRPC would ask one for an abstract name."""
    wanted = [(name, value) for name, value in options if name not in _PROXY_OPTIONS]
    return [("grpc.default_authority", target), *wanted, ("grpc.enable_http_proxy", 0)]


def _local() -> grpc.ChannelCredentials:
    return grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)


@contextlib.contextmanager
def _relay(target: str, source: X509Identity, context: LiveContext) -> Iterator[str]:
    """Serve a Unix socket in a thread of its own, each connection of which ends at the target; the socket's abstract name."""
    host, colon, port = target.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ValueError(f"target: expected host:port, found {target!r}")
    relay = _Relay(host.removeprefix("[").removesuffix("]"), int(port), source, context)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    with contextlib.ExitStack() as leaving:
        leaving.callback(loop.close)
        name = f"svid-{secrets.token_hex(16)}"
        listener = leaving.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(f"\0{name}")
        listener.listen()
        leaving.enter_context(listener.dup())  # whatever becomes of the thread, nobody else gets the name
        thread = threading.Thread(target=lambda: loop.run_until_complete(relay.run(listener, stop)), daemon=True)
        thread.start()
        leaving.callback(thread.join)
        leaving.callback(loop.call_soon_threadsafe, stop.set)
        yield name


class _Relay:
    """Carries bytes between gRPC and a server, and ends each connection softly whose identity is not today's."""

    def __init__(self, host: str, port: int, source: X509Identity, context: LiveContext) -> None:
        self._host = host
        self._port = port
        self._source = source
        self._context = context
        self._context.set_alpn_protocols(["h2"])
        self._open: set[asyncio.Task[None]] = set()

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        async with await asyncio.start_unix_server(self._accepted, sock=listener, limit=_CHUNK_BYTES):
            await stop.wait()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._open.add(task)

        def gone(task: asyncio.Task[None]) -> None:  # also one that was cancelled before it began
            self._open.discard(task)
            writer.transport.abort() if task.cancelled() else writer.close()

        task.add_done_callback(gone)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not _is_ours(writer.get_extra_info("socket")):
            return
        try:
            identity = self._source.svid, self._source.bundles
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                theirs = await asyncio.open_connection(
                    self._host, self._port, ssl=self._context, server_hostname="", limit=_CHUNK_BYTES
                )
        except (OSError, SVIDError, TimeoutError) as e:
            _log.warning("no connection to %s:%d: %s", self._host, self._port, _reason(e))
            return
        end_when_revoked(theirs[1].transport)
        try:
            await self._carry((reader, writer), theirs, identity)
        except EndedPeerError as e:
            _log.warning("connection to %s:%d ended: %s", self._host, self._port, e)
            writer.transport.abort()  # what it sent and gRPC has not taken yet goes nowhere
        finally:
            theirs[1].transport.abort()  # whoever is left to hear it has said the last word

    async def _carry(
        self,
        ours: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        theirs: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        identity: tuple[object, object],
    ) -> None:
        frames = _Frames()
        outdated = said = False

        async def up() -> None:
            nonlocal outdated, said
            while data := await ours[0].read(_CHUNK_BYTES):
                theirs[1].write(data)
                outdated = outdated or not self._is_today(identity)
                if outdated and not said and frames.between:
                    ours[1].write(_SOFT_END)
                    said = True
                await theirs[1].drain()

        async def down() -> None:
            nonlocal said
            while data := await theirs[0].read(_CHUNK_BYTES):
                end = frames.feed(data)
                if outdated and not said and end is not None:
                    data = data[:end] + _SOFT_END + data[end:]
                    said = True
                ours[1].write(data)
                await ours[1].drain()

        pumps = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            ends = await asyncio.gather(*pumps, return_exceptions=True)
        for end in ends:
            if isinstance(end, EndedPeerError):
                raise end

    def _is_today(self, identity: tuple[object, object]) -> bool:
        try:
            return identity[0] is self._source.svid and identity[1] is self._source.bundles
        except SVIDError:
            return False


class _Frames:
    """Where HTTP/2 frames end in a stream that comes in pieces.

    Source: RFC 9113 4.1
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0  # of a payload
        self.between = False
        """Whether the last piece ended where a frame does; not before the first frame, which must be the server's SETTINGS."""

    def feed(self, piece: bytes) -> int | None:
        """Take a piece, and say where in it the last frame ends; None: nowhere."""
        at, end = 0, None
        while at < len(piece):
            if self._left:
                step = min(self._left, len(piece) - at)
                self._left -= step
            else:
                step = min(_FRAME_HEAD_BYTES - len(self._head), len(piece) - at)
                self._head += piece[at : at + step]
                if len(self._head) == _FRAME_HEAD_BYTES:
                    self._left = int.from_bytes(self._head[:3])
                    self._head.clear()
            at += step
            self.between = not self._head and not self._left
            if self.between:
                end = at
        return end


def _frame(kind: int, payload: bytes) -> bytes:
    """Write a frame of the connection, without flags."""
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, 0, 0) + payload


_SOFT_END = _frame(_GOAWAY, struct.pack(">II", _EVERY_STREAM, _NO_ERROR))


def _is_ours(connection: socket.socket) -> bool:
    """Whether this very process is at the other end: our identity is nobody else's."""
    (pid,) = struct.unpack_from("i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(pid == os.getpid())


def _reason(e: Exception) -> str:
    if isinstance(e, TimeoutError):
        return f"no handshake within {_HANDSHAKE_SECONDS:g} s"
    if isinstance(e, OSError) and not isinstance(e, SVIDError | ssl.SSLError | socket.gaierror) and e.errno:
        return os.strerror(e.errno).lower()  # asyncio words it otherwise
    return str(e)
