"""Connections of a LiveContext: nothing passes on one before its peer is admitted, and nothing after its peer is denied or outlived.

Who is admitted is decided by svid/tls/context; who is denied, by svid/tls/enforcement.
"""

import _ssl
import asyncio
import contextlib
import functools
import socket
import ssl
import sys
import weakref
from abc import ABC, abstractmethod
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, cast

from svid.errors import AuthorizationError
from svid.spiffeid import SpiffeID
from svid.tls.enforcement import Held, Peer
from svid.tls.refusals import EndedPeerError, OrphanedPeerError, OutlivedPeerError, RevokedPeerError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["CheckedObject", "CheckedSocket", "Gate", "end_when_revoked", "peer_id"]

# The stdlib's own, without the detour by super(), which a loop of small reads feels.
_READ, _RECV_INTO = ssl.SSLSocket.read, ssl.SSLSocket.recv_into
_WRITE, _SEND = ssl.SSLSocket.write, ssl.SSLSocket.send

_NEVER_SENT = (
    b"\0"  # because the connection refuses it by then: so the application learns why, as `abort` would not let it
)

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Gate(ABC):
    """What a checked connection asks of its context; a base class, because whether something has a Protocol's methods takes long to see."""

    @abstractmethod
    def check_identity(self) -> None:
        """Refuse where there is no identity of our own."""

    @abstractmethod
    def recognise(self, chain: Iterable[bytes]) -> Peer:
        """Admit a peer, or refuse it."""

    @abstractmethod
    def hold(self, connection: Held) -> None:
        """End this connection when its peer is denied, or outlived."""


class _TLS(Protocol):
    """What OpenSSL does for a connection; the stdlib keeps it as `_sslobj`, which its stubs do not know."""

    def read(self, len: int, buffer: "WriteableBuffer" = ...) -> bytes: ...  # noqa: A002 - the stdlib's name
    def write(self, data: "ReadableBuffer") -> int: ...
    def get_unverified_chain(self) -> list[_ssl.Certificate]: ...


class _Checked:
    """What both kinds of connections know."""

    peer: Peer | None = None
    revoked = False
    _is_open = False  # admitted and not revoked, in one look
    _why: Callable[[Peer], EndedPeerError]

    def revoke(self) -> None:
        """Let nothing pass from now on."""
        self._end_because(_revoked)

    def outlive(self) -> None:
        """Let nothing pass from now on, and say that the peer's credential is long over."""
        self._end_because(_outlived)

    def orphan(self) -> None:
        """Let nothing pass from now on, and say that this process was forked."""
        self._end_because(_orphaned)

    def demand_unrevoked(self) -> None:
        """Refuse to go on where the peer is denied.

        Raises:
            RevokedPeerError: it is.
            OutlivedPeerError: its credential ended so long ago that a denial would not name it any more.
            OrphanedPeerError: this process was forked since, and hears of no denials.
        """
        if self.revoked and self.peer is not None:
            raise self._why(self.peer)

    def hang_up(self) -> None:
        """Close what is ours to close; here nothing is."""

    def _end_because(self, why: Callable[[Peer], EndedPeerError]) -> None:
        self._why = why
        self.revoked = True
        self._is_open = False

    def _admit(self, gate: Gate, chain: Iterable[bytes]) -> None:
        if self.peer is None:
            self.peer = gate.recognise(chain)
            gate.hold(self)
        self._is_open = True
        if self.revoked:  # meanwhile
            self._is_open = False
            self.demand_unrevoked()


def _revoked(peer: Peer) -> EndedPeerError:
    return RevokedPeerError(f"peer: expected one that is not revoked, found {peer.shown}")


def _outlived(peer: Peer) -> EndedPeerError:
    return OutlivedPeerError(
        f"peer: expected an X509-SVID that ended at most {peer.open_for.days} day ago,"
        f" found one of {peer.spiffe_id} that ended at {peer.ends_at}"
    )


def _orphaned(peer: Peer) -> EndedPeerError:
    return OrphanedPeerError(
        f"connection: expected one of a process that hears of revocations, found one of {peer.spiffe_id} from before a fork"
    )


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

    _sslobj: _TLS | None
    suppress_ragged_eofs: bool

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

    # A small read takes little more time than a call of Python's: what passes on an open connection goes straight to OpenSSL.

    def read(self, len: int = 1024, buffer: "WriteableBuffer | None" = None) -> bytes:  # noqa: A002 - the stdlib's name
        """Read what the peer sent."""
        if not self._is_open:
            self._demand_passage()
        tls = self._sslobj
        if tls is None:
            return _READ(self, len, buffer)  # which says why not
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

    # These come down to the ones above, until TLS is over on a connection that goes on without it.
    _recv_otherwise = _unless_revoked(ssl.SSLSocket.recv)
    _sendall_otherwise = _unless_revoked(ssl.SSLSocket.sendall)
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

    _sslobj: _TLS
    _end: Callable[[], None] | None = None

    def do_handshake(self) -> None:
        """Shake hands, and admit the peer."""
        gate = _gate(self)
        gate.check_identity()
        super().do_handshake()
        self._admit(gate, _peer_chain(self))
        if self._end is None:
            self._end_with(sys._getframe(1))  # noqa: SLF001 - the one way to see who has these buffers: nothing leads there from here

    def _end_with(self, caller: FrameType) -> None:
        """Know how to close what is around these buffers, where asyncio has put it there; its protocol is who shakes hands."""
        protocol = caller.f_locals.get("self")
        if not isinstance(protocol, SSLProtocol):
            return
        loop, known = asyncio.get_running_loop(), weakref.ref(protocol)

        def end() -> None:
            if (protocol := known()) is None:
                return
            transports = protocol._app_transport, protocol._transport  # noqa: SLF001 - they are told to nobody but the application
            theirs, below = cast("tuple[asyncio.Transport | None, asyncio.Transport | None]", transports)
            if theirs is not None and not theirs.is_closing():
                theirs.write(_NEVER_SENT)
            elif below is not None:  # one that was closed twice leads nowhere, and what it still has would be sent
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

    pending = _unless_revoked(ssl.SSLObject.pending)
    unwrap = _unless_revoked(ssl.SSLObject.unwrap)
    verify_client_post_handshake = _unless_revoked(ssl.SSLObject.verify_client_post_handshake)

    def end_by(self, end: Callable[[], None]) -> None:
        """Know how to close what is around these buffers."""
        self._end = end
        if self.revoked:  # before it was known how
            end()

    @property
    def ends_by_itself(self) -> bool:
        """Whether it is known how."""
        return self._end is not None

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
    """Have a transport of a LiveContext end at once when its peer is denied, also while nothing passes; call it in its loop.

    asyncio's own loops need no telling. With any other, uvloop's for example, the next byte would end it, whichever way it goes: what
    an idle connection is made of is known to the loop alone.

    Raises:
        AuthorizationError: not a connection of a LiveContext.
    """
    connection = transport.get_extra_info("ssl_object")
    if not isinstance(connection, CheckedObject):
        raise AuthorizationError("transport: expected one of a LiveContext, found another")
    if connection.ends_by_itself:
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        if transport.is_closing():  # it takes no byte any more, and would send what it still has
            transport.abort()
        else:
            transport.write(_NEVER_SENT)

    connection.end_by(lambda: _soon(loop, end))


def _soon(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    """Have a loop end a transport of its own; from any thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed, and its transports with it
        loop.call_soon_threadsafe(end)


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
