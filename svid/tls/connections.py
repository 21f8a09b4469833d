"""Connections of a LiveContext: nothing passes before the peer is admitted, and nothing after it is denied or outlived.

svid/tls/context decides who is admitted, and svid/tls/enforcement who is denied.
"""

import _ssl
import asyncio
import contextlib
import socket
import ssl
import sys
import weakref
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Protocol, cast

from svid.errors import AuthorizationError, SVIDError
from svid.spiffeid import SpiffeID
from svid.tls.checked import Checked, Gate, unless_revoked
from svid.tls.reports import shown_address

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["CheckedObject", "CheckedSocket", "end_when_revoked", "peer_id"]

# The stdlib's own methods, without super(), whose cost shows in a loop of small reads.
_READ, _RECV_INTO = ssl.SSLSocket.read, ssl.SSLSocket.recv_into
_WRITE, _SEND = ssl.SSLSocket.write, ssl.SSLSocket.send

_NEVER_SENT = (
    b"\0"  # the connection refuses this write, and so the application learns why it ended; `abort` would give no reason
)


class _TLS(Protocol):
    """What OpenSSL does for a connection; the stdlib keeps it as `_sslobj`, which its stubs do not know."""

    def read(self, len: int, buffer: "WriteableBuffer" = ...) -> bytes: ...  # noqa: A002 - the stdlib's name
    def write(self, data: "ReadableBuffer") -> int: ...
    def get_unverified_chain(self) -> list[_ssl.Certificate]: ...


class CheckedSocket(Checked, ssl.SSLSocket):
    """A blocking socket."""

    _sslobj: _TLS | None
    suppress_ragged_eofs: bool

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the stdlib's signature
        """Shake hands, and admit the peer."""
        try:
            gate = _gate(self)
            self.address = self.address or self._peer_address()
            try:
                gate.check_identity()
                super().do_handshake(block)
                self.admit(gate, _peer_chain(self))
            except (ssl.SSLError, SVIDError) as e:
                self.tell(gate, e)
                raise
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except BaseException:
            self.close()
            raise

    def _peer_address(self) -> str:
        try:
            return shown_address(self.getpeername())
        except OSError:  # it left
            return ""

    # A small read takes little more time than a Python call, so an open connection's bytes go straight to OpenSSL.

    def read(self, len: int = 1024, buffer: "WriteableBuffer | None" = None) -> bytes:  # noqa: A002 - the stdlib's name
        """Read what the peer sent."""
        if not self._is_open:
            self._demand_passage()
        tls = self._sslobj
        if tls is None:
            return _READ(self, len, buffer)  # raises the right error
        try:
            return tls.read(len) if buffer is None else tls.read(len, buffer)
        except ssl.SSLEOFError:
            if not self.suppress_ragged_eofs:
                raise
            return b"" if buffer is None else 0  # type: ignore[return-value]  # as the stdlib, whose stub knows bytes alone
        finally:
            if not self._is_open:
                self.demand_unrevoked()

    def write(self, data: "ReadableBuffer") -> int:
        """Send to the peer."""
        if not self._is_open:
            self._demand_passage()
        try:
            return _WRITE(self, data)
        finally:
            if not self._is_open:
                self.demand_unrevoked()

    def send(self, data: "ReadableBuffer", flags: int = 0) -> int:
        """Send to the peer."""
        if not self._is_open:
            self._demand_passage()
        tls = self._sslobj
        try:
            return _SEND(self, data, flags) if tls is None or flags else tls.write(data)
        finally:
            if not self._is_open:
                self.demand_unrevoked()

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Read what the peer sent."""
        if self._sslobj is None or flags:
            return self._recv_otherwise(buflen, flags)
        return self.read(buflen)

    def recv_into(self, buffer: "WriteableBuffer", nbytes: int | None = None, flags: int = 0) -> int:
        """Read what the peer sent."""
        if self.revoked:
            self.demand_unrevoked()
        try:
            return _RECV_INTO(self, buffer, nbytes, flags)
        finally:
            if self.revoked:
                self.demand_unrevoked()

    def sendall(self, data: "ReadableBuffer", flags: int = 0) -> None:
        """Send to the peer."""
        if self._sslobj is None or flags:
            self._sendall_otherwise(data, flags)
            return
        self.demand_unrevoked()
        with memoryview(data) as view, view.cast("B") as octets:
            sent, size = 0, len(octets)
            while sent < size:
                sent += self.send(octets[sent:])

    def _demand_passage(self) -> None:
        self.demand_unrevoked()
        self.do_handshake()

    # These end up in the methods above, unless TLS has ended and the connection goes on without it.
    _recv_otherwise = unless_revoked(ssl.SSLSocket.recv)
    _sendall_otherwise = unless_revoked(ssl.SSLSocket.sendall)
    pending = unless_revoked(ssl.SSLSocket.pending)
    recvfrom = unless_revoked(ssl.SSLSocket.recvfrom)
    recvfrom_into = unless_revoked(ssl.SSLSocket.recvfrom_into)
    sendfile = unless_revoked(ssl.SSLSocket.sendfile)
    sendto = unless_revoked(ssl.SSLSocket.sendto)  # type: ignore[assignment]  # overloads, of which one is left to see
    unwrap = unless_revoked(ssl.SSLSocket.unwrap)
    verify_client_post_handshake = unless_revoked(ssl.SSLSocket.verify_client_post_handshake)

    def hang_up(self) -> None:
        """Shut the socket down below TLS, which wakes up every read and write that waits for it."""
        with contextlib.suppress(OSError):  # already closed
            socket.socket.shutdown(self, socket.SHUT_RDWR)


class CheckedObject(Checked, ssl.SSLObject):
    """A pair of buffers; asyncio and uvloop use these, inside transports of their own."""

    _sslobj: _TLS
    _end: Callable[[], None] | None = None

    def do_handshake(self) -> None:
        """Shake hands, and admit the peer."""
        gate = _gate(self)
        try:
            gate.check_identity()
            super().do_handshake()
            protocol = self._around(sys._getframe(1))  # noqa: SLF001 - the only way to find the owner of these buffers
            self.admit(gate, _peer_chain(self))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):  # most calls end this way: there is more to come
            raise
        except (ssl.SSLError, SVIDError) as e:
            self._around(sys._getframe(1))  # noqa: SLF001 - as above
            self.tell(gate, e)
            raise
        if self._end is None and protocol is not None:
            self._end_with(protocol)

    def _around(self, caller: FrameType) -> SSLProtocol | None:
        """The asyncio protocol around these buffers; it also tells the peer's address."""
        protocol = _asyncios(caller)
        self.address = self.address or _address_around(protocol) or str(self.server_hostname or "")
        return protocol

    def _end_with(self, protocol: SSLProtocol) -> None:
        """Prepare to close the asyncio protocol around these buffers."""
        loop, known = asyncio.get_running_loop(), weakref.ref(protocol)

        def end() -> None:
            if (protocol := known()) is None:
                return
            transports = protocol._app_transport, protocol._transport  # noqa: SLF001 - only the application gets them
            theirs, below = cast("tuple[asyncio.Transport | None, asyncio.Transport | None]", transports)
            if theirs is not None and not theirs.is_closing():
                theirs.write(_NEVER_SENT)
            elif below is not None:  # ours is closing: a second close does nothing, and it would still send its buffer
                below.abort()

        self.end_by(lambda: _soon(loop, end))

    def read(self, len: int = 1024, buffer: "WriteableBuffer | None" = None) -> bytes:  # noqa: A002 - the stdlib's name
        """Read what the peer sent."""
        if not self._is_open:
            self._demand_passage()
        try:
            return self._sslobj.read(len) if buffer is None else self._sslobj.read(len, buffer)
        finally:
            if not self._is_open:
                self.demand_unrevoked()

    def write(self, data: "ReadableBuffer") -> int:
        """Send to the peer."""
        if not self._is_open:
            self._demand_passage()
        try:
            return self._sslobj.write(data)
        finally:
            if not self._is_open:
                self.demand_unrevoked()

    def _demand_passage(self) -> None:
        self.demand_unrevoked()
        self.do_handshake()

    pending = unless_revoked(ssl.SSLObject.pending)
    unwrap = unless_revoked(ssl.SSLObject.unwrap)
    verify_client_post_handshake = unless_revoked(ssl.SSLObject.verify_client_post_handshake)

    def end_by(self, end: Callable[[], None]) -> None:
        """Set the function that closes the transport around these buffers."""
        self._end = end
        if self.revoked:  # before `end` was set
            end()

    @property
    def ends_by_itself(self) -> bool:
        """Whether that function is set."""
        return self._end is not None

    def hang_up(self) -> None:
        """Close the transport if we can; otherwise the next read or write does."""
        if self._end is not None:
            self._end()


def peer_id(connection: object) -> SpiffeID:
    """The peer's SPIFFE ID on an SSLSocket or SSLObject; in asyncio: `peer_id(writer.get_extra_info("ssl_object"))`.

    Raises:
        AuthorizationError: a LiveContext did not make the connection, or the handshake is not finished.
    """
    if isinstance(connection, CheckedSocket | CheckedObject) and connection.peer is not None:
        return connection.peer.spiffe_id
    raise AuthorizationError("connection: its peer was not verified by a LiveContext")


def end_when_revoked(transport: asyncio.WriteTransport) -> None:
    """End a LiveContext's transport at once when its peer is denied, even while it is idle; call this in the transport's loop.

    asyncio's own loops do not need this. With any other loop, such as uvloop, only the next byte in either direction would end the
    connection, because only the loop knows the transport of an idle connection.

    Raises:
        AuthorizationError: a LiveContext did not make the connection.
    """
    connection = transport.get_extra_info("ssl_object")
    if not isinstance(connection, CheckedObject):
        raise AuthorizationError("transport: not a connection of a LiveContext")
    if connection.ends_by_itself:
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        if transport.is_closing():  # it accepts no more bytes, but would still send its buffer
            transport.abort()
        else:
            transport.write(_NEVER_SENT)

    connection.end_by(lambda: _soon(loop, end))


def _soon(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    """Make a loop end one of its transports, from any thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed, and so are its transports
        loop.call_soon_threadsafe(end)


def _asyncios(caller: FrameType) -> SSLProtocol | None:
    """The asyncio protocol around these buffers, if there is one: it is the caller of the handshake."""
    protocol = caller.f_locals.get("self")
    return protocol if isinstance(protocol, SSLProtocol) else None


def _address_around(protocol: SSLProtocol | None) -> str:
    transport = None if protocol is None else cast("asyncio.Transport | None", protocol._transport)  # noqa: SLF001 - as in CheckedObject._end_with
    return "" if transport is None else shown_address(transport.get_extra_info("peername"))


def _gate(connection: ssl.SSLSocket | ssl.SSLObject) -> Gate:
    context: object = connection.context
    if not isinstance(context, Gate):
        raise TypeError(f"context: expected the one that made the connection, found {type(context).__name__}")
    return context


def _peer_chain(connection: ssl.SSLSocket | ssl.SSLObject) -> Iterable[bytes]:
    """The chain that the peer sent: DER, leaf first."""
    if sys.version_info >= (3, 13):
        return connection.get_unverified_chain()
    certificates: list[_ssl.Certificate] = connection._sslobj.get_unverified_chain()  # type: ignore[union-attr]  # noqa: SLF001 - public from 3.13 on
    return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in certificates]
