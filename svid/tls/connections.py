"""Connections of a LiveContext: nothing passes on one before its peer is admitted, and nothing after its peer is denied.

Who is admitted is decided by svid/tls/context; who is denied, by svid/tls/enforcement.
"""

import _ssl
import asyncio
import contextlib
import functools
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, cast, runtime_checkable

from svid.errors import AuthorizationError
from svid.spiffeid import SpiffeID
from svid.tls.enforcement import Held, Peer
from svid.tls.refusals import RevokedPeerError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["CheckedObject", "CheckedSocket", "Gate", "end_when_revoked", "peer_id"]

# The stdlib's own, without the detour by super(), which a loop of small reads feels.
_READ, _WRITE, _SEND = ssl.SSLSocket.read, ssl.SSLSocket.write, ssl.SSLSocket.send
_RECV, _RECV_INTO, _SENDALL = ssl.SSLSocket.recv, ssl.SSLSocket.recv_into, ssl.SSLSocket.sendall
_READ_OBJECT, _WRITE_OBJECT = ssl.SSLObject.read, ssl.SSLObject.write

_P = ParamSpec("_P")
_R = TypeVar("_R")


@runtime_checkable
class Gate(Protocol):
    """What a checked connection asks of its context."""

    def check_identity(self) -> None:
        """Refuse where there is no identity of our own."""

    def recognise(self, chain: Iterable[bytes]) -> Peer:
        """Admit a peer, or refuse it."""

    def hold(self, connection: Held) -> None:
        """End this connection when its peer is denied."""


class _Checked:
    """What both kinds of connections know."""

    peer: Peer | None = None
    revoked = False
    _is_open = False  # admitted and not revoked, in one look

    def revoke(self) -> None:
        """Let nothing pass from now on."""
        self.revoked = True
        self._is_open = False

    def demand_unrevoked(self) -> None:
        """Refuse to go on where the peer is denied.

        Raises:
            RevokedPeerError: it is.
        """
        if self.revoked and self.peer is not None:
            raise RevokedPeerError(f"peer: expected one that is not revoked, found {self.peer.spiffe_id}")

    def hang_up(self) -> None:
        """Close what is ours to close; here nothing is."""

    def _admit(self, gate: Gate, chain: Iterable[bytes]) -> None:
        if self.peer is None:
            self.peer = gate.recognise(chain)
            gate.hold(self)
        self._is_open = True
        if self.revoked:  # meanwhile
            self._is_open = False
            self.demand_unrevoked()


def _unless_revoked(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a method look at the mark before it begins, and before it hands on what it has got: it may have come in between."""

    @functools.wraps(method)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        connection = cast("_Checked", args[0])
        connection.demand_unrevoked()
        try:
            return method(*args, **kwargs)
        finally:
            connection.demand_unrevoked()

    return checked


class CheckedSocket(_Checked, ssl.SSLSocket):
    """A blocking socket."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the stdlib's signature
        """Shake hands, and admit the peer."""
        try:
            gate = _gate(self)
            gate.check_identity()
            super().do_handshake(block)
            self._admit(gate, _peer_chain(self))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except BaseException:
            self.close()
            raise

    def read(self, len: int = 1024, buffer: "WriteableBuffer | None" = None) -> bytes:  # noqa: A002 - the stdlib's name
        """Read what the peer sent."""
        if not self._is_open:
            self._demand_passage()
        try:
            return _READ(self, len, buffer)
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
        try:
            return _SEND(self, data, flags)
        finally:
            if not self._is_open:
                self.demand_unrevoked()

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Read what the peer sent."""
        if self.revoked:
            self.demand_unrevoked()
        try:
            return _RECV(self, buflen, flags)
        finally:
            if self.revoked:
                self.demand_unrevoked()

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
        if self.revoked:
            self.demand_unrevoked()
        try:
            _SENDALL(self, data, flags)
        finally:
            if self.revoked:
                self.demand_unrevoked()

    def _demand_passage(self) -> None:
        self.demand_unrevoked()
        self.do_handshake()

    # These come down to the ones above, until TLS is over on a connection that goes on without it.
    pending = _unless_revoked(ssl.SSLSocket.pending)
    recvfrom = _unless_revoked(ssl.SSLSocket.recvfrom)
    recvfrom_into = _unless_revoked(ssl.SSLSocket.recvfrom_into)
    sendfile = _unless_revoked(ssl.SSLSocket.sendfile)
    sendto = _unless_revoked(ssl.SSLSocket.sendto)  # type: ignore[assignment]  # overloads, of which one is left to see
    unwrap = _unless_revoked(ssl.SSLSocket.unwrap)
    verify_client_post_handshake = _unless_revoked(ssl.SSLSocket.verify_client_post_handshake)

    def hang_up(self) -> None:
        """Shut the socket down, below TLS: whoever waits in a read or a write of it wakes up."""
        with contextlib.suppress(OSError):  # it is closed already
            socket.socket.shutdown(self, socket.SHUT_RDWR)


class CheckedObject(_Checked, ssl.SSLObject):
    """A pair of buffers; asyncio and uvloop use these, and the transport that is around them is theirs."""

    _end: Callable[[], None] | None = None

    def do_handshake(self) -> None:
        """Shake hands, and admit the peer."""
        gate = _gate(self)
        gate.check_identity()
        super().do_handshake()
        self._admit(gate, _peer_chain(self))

    def read(self, len: int = 1024, buffer: "WriteableBuffer | None" = None) -> bytes:  # noqa: A002 - the stdlib's name
        """Read what the peer sent."""
        if not self._is_open:
            self._demand_passage()
        try:
            return _READ_OBJECT(self, len, buffer)
        finally:
            if not self._is_open:
                self.demand_unrevoked()

    def write(self, data: "ReadableBuffer") -> int:
        """Send to the peer."""
        if not self._is_open:
            self._demand_passage()
        try:
            return _WRITE_OBJECT(self, data)
        finally:
            if not self._is_open:
                self.demand_unrevoked()

    def _demand_passage(self) -> None:
        self.demand_unrevoked()
        self.do_handshake()

    pending = _unless_revoked(ssl.SSLObject.pending)
    unwrap = _unless_revoked(ssl.SSLObject.unwrap)
    verify_client_post_handshake = _unless_revoked(ssl.SSLObject.verify_client_post_handshake)

    def end_by(self, end: Callable[[], None]) -> None:
        """Know how to close what is around these buffers."""
        self._end = end
        if self.revoked:  # before it was known how
            end()

    def hang_up(self) -> None:
        """Close what is around, if it is known how; else the next read or write does."""
        if self._end is not None:
            self._end()


def peer_id(connection: object) -> SpiffeID:
    """Whose the other end of an SSLSocket or SSLObject is; in asyncio: `peer_id(writer.get_extra_info("ssl_object"))`.

    Raises:
        AuthorizationError: not a connection of a LiveContext, or its handshake is not over.
    """
    if isinstance(connection, CheckedSocket | CheckedObject) and connection.peer is not None:
        return connection.peer.spiffe_id
    raise AuthorizationError("connection: expected one whose peer was verified by a LiveContext, found another")


def end_when_revoked(transport: asyncio.WriteTransport) -> None:
    """Have an asyncio transport of a LiveContext end at once when its peer is denied, also while nothing passes; call it in its loop.

    Without this the next byte ends it, whichever way it goes: what an idle connection is made of is known to the loop alone.

    Raises:
        AuthorizationError: not a connection of a LiveContext.
    """
    connection = transport.get_extra_info("ssl_object")
    if not isinstance(connection, CheckedObject):
        raise AuthorizationError("transport: expected one of a LiveContext, found another")
    loop = asyncio.get_running_loop()

    def tell() -> None:
        if transport.is_closing():
            transport.abort()
        else:  # a byte that never leaves, because the connection refuses it: so the application learns why, as `abort` would not let it
            transport.write(b"\0")

    def end() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and its transports with it
            loop.call_soon_threadsafe(tell)

    connection.end_by(end)


def _gate(connection: ssl.SSLSocket | ssl.SSLObject) -> Gate:
    context: object = connection.context
    if not isinstance(context, Gate):
        raise TypeError(f"context: expected the one that made the connection, found {type(context).__name__}")
    return context


def _peer_chain(connection: ssl.SSLSocket | ssl.SSLObject) -> Iterable[bytes]:
    """What the peer sent, DER, leaf first."""
    if sys.version_info >= (3, 13):
        return connection.get_unverified_chain()
    certificates: list[_ssl.Certificate] = connection._sslobj.get_unverified_chain()  # type: ignore[union-attr]  # noqa: SLF001 - public from 3.13 on
    return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in certificates]
