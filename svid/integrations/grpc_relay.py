"""A relay between gRPC and a server: gRPC sends HTTP/2 to it over a Unix socket, and the relay sends TLS to the server with a LiveContext.

gRPC takes an identity only once per channel. The relay follows the source by ending connections gracefully, one at a time. A connection
has these states:

    current    The source still has the identity and bundles that it had before the handshake. Bytes pass both ways.
    outdated   gRPC sent something after the identity or the bundles changed. Bytes pass both ways.
    retired    The relay has sent gRPC a GOAWAY in the server's name. Calls in flight finish here; gRPC makes a new connection for the next.
    ended      One side has closed, or the server's credential was denied. Nothing passes, and both sides are closed.

Invariants:

* No byte reaches the server before the context has admitted it, and none reaches gRPC after it was denied.
* Bytes pass unchanged and in order. The relay adds at most one frame, the GOAWAY. It goes to gRPC, between two of the server's frames, and
  not before the first, which must be the server's SETTINGS (RFC 9113 3.4).
* The GOAWAY names the greatest possible stream. So gRPC gives up no call that is in flight, not even one that began meanwhile.
* The relay notes the identity before the handshake. If it changes during the handshake, the connection is outdated at its first use.

For example, call 1 is in flight, and the source gets a new SVID. gRPC sends call 2. The relay passes it on, sees that the SVID has changed,
and sends GOAWAY as soon as the server's last frame is complete. Both answers still arrive on this connection. gRPC makes a new connection
for call 3, and the relay shows the server the new SVID there. An idle connection stays as it is until gRPC sends something.

The socket serves this process alone. It has an abstract name, reserved for as long as the channel lives: there is no directory that
somebody else could own, rename or clean up.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

from svid.errors import SVIDError
from svid.source import X509Identity
from svid.tls.connections import end_when_revoked
from svid.tls.context import LiveContext
from svid.tls.refusals import EndedPeerError, HandshakeRefusedError
from svid.tls.reports import is_refusal

__all__ = ["GOAWAY_FRAME", "FrameBoundaries", "connection_frame", "relay_to"]

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 64 * 1024
_HANDSHAKE_SECONDS = 20.0
_TURNS_TO_CLOSE = 4  # turns of the loop in which asyncio closes the aborted transports
_FRAME_HEAD_BYTES = 9  # RFC 9113 4.1
_GOAWAY, _NO_ERROR, _EVERY_STREAM = 7, 0, 2**31 - 1


@contextlib.contextmanager
def relay_to(target: str, source: X509Identity, context: LiveContext) -> Iterator[str]:
    """Serve a Unix socket in its own thread, and relay each connection to the target; yields the socket's abstract name.

    Raises:
        ValueError: the target is not `host:port`.
    """
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
        leaving.enter_context(listener.dup())  # nobody else gets the name, even if the thread dies
        thread = threading.Thread(target=lambda: loop.run_until_complete(relay.run(listener, stop)), daemon=True)
        thread.start()
        leaving.callback(thread.join)
        leaving.callback(loop.call_soon_threadsafe, stop.set)
        made_in = os.getpid()
        yield name
        if os.getpid() != made_in:  # a forked child: loop, thread and watched sockets belong to the parent
            leaving.pop_all()


class _Relay:
    """Accepts connections from gRPC, and makes one to the server for each."""

    def __init__(self, host: str, port: int, source: X509Identity, context: LiveContext) -> None:
        self._host = host
        self._port = port
        self._source = source
        self._context = context
        self._context.set_alpn_protocols(["h2"])
        self._connections: set[asyncio.Task[None]] = set()  # asyncio itself holds tasks only weakly

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        async with await asyncio.start_unix_server(self._accept, sock=listener, limit=_CHUNK_BYTES):
            await stop.wait()
            loop.remove_reader(listener.fileno())
            # asyncio's tasks close what they have accepted only once they have begun, while the server is open
            await asyncio.sleep(0)
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in others:
                    task.cancel()
                await asyncio.wait(others)
            for _ in range(_TURNS_TO_CLOSE):
                await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(_Side(reader, writer)))
        self._connections.add(task)

        def close(task: asyncio.Task[None]) -> None:  # also one that was cancelled before it began
            self._connections.discard(task)
            writer.transport.abort() if task.cancelled() else writer.close()

        task.add_done_callback(close)

    async def _serve(self, grpc: "_Side") -> None:
        """Connect to the server for one connection of gRPC, and relay until that ends."""
        if not _is_own_process(grpc.writer.get_extra_info("socket")):
            return
        try:
            svid, bundles = self._source.svid, self._source.bundles  # before the handshake
            server = await self._connect()
        except (OSError, SVIDError, TimeoutError) as e:
            level = logging.INFO if _is_reported(e) else logging.WARNING
            _log.log(level, "no connection to %s:%d: %s", self._host, self._port, _reason(e))
            return
        end_when_revoked(server.writer.transport)
        connection = _RelayedConnection(grpc, server, is_current=lambda: self._has(svid, bundles))
        try:
            await connection.relay_until_a_side_ends()
        except EndedPeerError as e:
            _log.info("connection to %s:%d ended: %s", self._host, self._port, e)  # the context has reported it
            grpc.writer.transport.abort()  # drop what the server sent and gRPC has not read yet
        finally:
            server.writer.transport.abort()  # there is nothing left to send

    async def _connect(self) -> "_Side":
        """Connect, then shake hands.

        In two steps, because a cancelled `open_connection(ssl=…)` can leave its socket open: it begins to end TLS, and nobody waits.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            plain, _ = await loop.create_connection(_BeforeTLS, self._host, self._port)
            try:
                reader = asyncio.StreamReader(_CHUNK_BYTES, loop)
                protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
                tls = await loop.start_tls(plain, protocol, self._context, server_hostname="")
            except BaseException:
                plain.abort()
                raise
            if tls is None:  # lost in the same turn in which the handshake ended
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            protocol.connection_made(tls)
            return _Side(reader, asyncio.StreamWriter(tls, protocol, reader, loop))

    def _has(self, svid: object, bundles: object) -> bool:
        """Whether the source still has these same objects."""
        try:
            return svid is self._source.svid and bundles is self._source.bundles
        except SVIDError:
            return False


class _BeforeTLS(asyncio.Protocol):
    """The server before the handshake: what it sends then is not admitted, and must not be taken for what comes after."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, _: bytes) -> None:
        self._transport.abort()


class _Side(NamedTuple):
    """One of the two streams of a relayed connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _RelayedConnection:
    """Passes bytes between gRPC and the server, and tells gRPC once to leave; the module's docstring describes its states."""

    def __init__(self, grpc: _Side, server: _Side, *, is_current: Callable[[], bool]) -> None:
        self._grpc = grpc
        self._server = server
        self._is_current = is_current
        self._from_server = FrameBoundaries()
        self._is_outdated = False
        self._is_retired = False

    async def relay_until_a_side_ends(self) -> None:
        """Relay both ways.

        Raises:
            EndedPeerError: the server's credential was denied, or expired too long ago.
        """
        ways = [asyncio.ensure_future(self._relay_to_server()), asyncio.ensure_future(self._relay_to_grpc())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            ends = await asyncio.gather(*ways, return_exceptions=True)
        for end in ends:
            if isinstance(end, EndedPeerError):
                raise end

    async def _relay_to_server(self) -> None:
        while data := await self._grpc.reader.read(_CHUNK_BYTES):
            self._server.writer.write(data)
            self._is_outdated = self._is_outdated or not self._is_current()
            if self._is_due_to_retire and self._from_server.is_at_boundary:
                self._grpc.writer.write(GOAWAY_FRAME)
                self._is_retired = True
            await self._server.writer.drain()

    async def _relay_to_grpc(self) -> None:
        while data := await self._server.reader.read(_CHUNK_BYTES):
            boundary = self._from_server.feed(data)
            if self._is_due_to_retire and boundary is not None:
                data = data[:boundary] + GOAWAY_FRAME + data[boundary:]
                self._is_retired = True
            self._grpc.writer.write(data)
            await self._grpc.writer.drain()

    @property
    def _is_due_to_retire(self) -> bool:
        return self._is_outdated and not self._is_retired


class FrameBoundaries:
    """Finds where HTTP/2 frames end in a stream that arrives in pieces.

    Attributes:
        is_at_boundary: whether the last piece ended at the end of a frame; False before the first frame.

    Source: RFC 9113 4.1
    """

    def __init__(self) -> None:
        self.is_at_boundary = False
        self._head = bytearray()
        self._payload_left = 0

    def feed(self, piece: bytes) -> int | None:
        """Take a piece, and return where in it the last frame ends; None if no frame ends in it."""
        at, boundary = 0, None
        while at < len(piece):
            if self._payload_left:
                step = min(self._payload_left, len(piece) - at)
                self._payload_left -= step
            else:
                step = min(_FRAME_HEAD_BYTES - len(self._head), len(piece) - at)
                self._head += piece[at : at + step]
                if len(self._head) == _FRAME_HEAD_BYTES:
                    self._payload_left = int.from_bytes(self._head[:3])
                    self._head.clear()
            at += step
            self.is_at_boundary = not self._head and not self._payload_left
            if self.is_at_boundary:
                boundary = at
        return boundary


def connection_frame(kind: int, payload: bytes) -> bytes:
    """Encode a frame of stream 0, without flags."""
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, 0, 0) + payload


GOAWAY_FRAME = connection_frame(_GOAWAY, struct.pack(">II", _EVERY_STREAM, _NO_ERROR))
"""Ends a connection gracefully: gRPC begins no more calls on it (RFC 9113 6.8)."""


def _is_own_process(connection: socket.socket) -> bool:
    """Whether this same process is at the other end: nobody else may use our identity."""
    (pid,) = struct.unpack_from("i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(pid == os.getpid())


def _is_reported(e: Exception) -> bool:
    """Whether the context has refused the server, and so reported it."""
    return isinstance(e, HandshakeRefusedError) or (
        isinstance(e, ssl.SSLError) and not isinstance(e, SVIDError) and is_refusal(e)
    )


def _reason(e: Exception) -> str:
    if isinstance(e, TimeoutError):
        return f"no handshake within {_HANDSHAKE_SECONDS:g} s"
    if isinstance(e, OSError) and not isinstance(e, SVIDError | ssl.SSLError | socket.gaierror) and e.errno:
        return os.strerror(e.errno).lower()  # asyncio has its own wording
    return str(e)
