"""One connection of a network door: TLS ends here, and its data goes on to gRPC over a Unix socket that nobody else can reach.

For a connection that has sent nothing, we keep only its descriptor. gRPC does not see a connection before TLS is done and something was
sent. crowd decides how many there may be; handshakes decides whose handshake is next.
"""

import asyncio
import contextlib
import math
import secrets
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from issuer.api.hello import Hello
from svid.tls.reports import shown_address

__all__ = ["Passage", "Proof", "Stage", "Warden"]

_CHUNK_BYTES = 64 * 1024
_RECORDS_BYTES = (
    16 * 1024
)  # in one step of the loop; the other end may send them as 600 records, and OpenSSL does not stop in between
_BUFFER = memoryview(bytearray(_CHUNK_BYTES))  # shared: filled and emptied within one step of the loop
_HEARD = memoryview(bytearray(_RECORDS_BYTES))
_FRAME_BYTES = 22  # the overhead of a record
_IDLE_BYTES = (
    32 * 1024
)  # a handshake is smaller; a KeyUpdate, which a peer may send without limit, is 27, and costs us as much as a call
_UNSENT_BYTES = 16 * 1024  # data for a slow link waits inside gRPC, where a ping or a denial can still overtake it
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: the kernel also forgets a connection that is cut off


class Stage(Enum):
    """How far a connection is."""

    SILENT = auto()
    SHAKING = auto()
    OPEN = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What TLS proved about the other end.

    Args:
        certificate: the leaf that it showed, DER; None: it was not asked for one.
        address: its address, for people to read.
    """

    certificate: bytes | None
    tls_version: str
    session_reused: bool
    address: str = ""


class _ExcessError(ConnectionAbortedError):
    """The other end sends more than it may."""


class Warden(Protocol):
    """The door, as a connection sees it."""

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""

    @property
    def inner(self) -> str:
        """The path of gRPC's socket."""

    def await_turn(self, passage: "Passage", step: Callable[[], None]) -> None:
        """Run this step of the handshake when its turn comes."""

    def admit(self, passage: "Passage", proof: Proof) -> bool:
        """Note what the handshake proved; returns whether there is room."""

    def note_failure(self, passage: "Passage", error: Exception) -> None:
        """Note that its handshake failed."""

    def note_excess(self, passage: "Passage", reason: str) -> None:
        """Note that it is cut because it sent more than it may."""

    def introduce(self, passage: "Passage", name: str, proof: Proof) -> None:
        """Note the name by which gRPC knows it."""

    def forget(self, passage: "Passage") -> None:
        """Note that it has ended."""


class Passage:
    """One connection. Everything happens in callbacks of the loop; none of them waits.

    Args:
        sock: an accepted, non-blocking socket, which the passage owns from now on.
        since: when its present stage began, by the loop's clock.
        allowance: how many bytes it may still send.
        superseded_since: since when a different certificate of its node has been in use; None: this one is in use, or none is yet.
        stuck_since: since when the other end has accepted nothing of what waits for it; None: nothing waits.
    """

    def __init__(self, warden: Warden, sock: socket.socket, address: bytes) -> None:
        self.address = address
        self.stage = Stage.SILENT
        self._loop = asyncio.get_running_loop()
        self.since = self._loop.time()
        self._warden = warden
        self._outer = sock
        self._tls: ssl.SSLObject | None = None
        self._heard, self._said = ssl.MemoryBIO(), ssl.MemoryBIO()  # records, on their way into TLS and out of it
        self._hello: Hello | None = Hello()  # until the handshake is done
        self._idle = 0  # how many bytes have come that carried no data
        self._inner: socket.socket | None = None
        self._proof: Proof | None = None
        self._inward = self._outward = (
            b""  # what the other side does not accept yet; until it does, we read no more for it
        )
        self.allowance = math.inf
        self.stuck_since: float | None = None
        self.superseded_since: float | None = None

    @property
    def certificate(self) -> bytes | None:
        """The leaf that the other end showed, DER."""
        return None if self._proof is None else self._proof.certificate

    def begin(self) -> None:
        """Wait for its first bytes."""
        self._loop.add_reader(self._outer, self._ask_for_turn)

    def cut(self) -> None:
        """End the connection at once."""
        if self.stage is not Stage.ENDED:
            with contextlib.suppress(OSError):
                self._outer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._end()

    def _ask_for_turn(self) -> None:
        self._loop.remove_reader(self._outer)
        self._loop.remove_writer(self._outer)
        self._warden.await_turn(self, self._shake)

    def _shake(self) -> None:
        if self.stage is Stage.ENDED:
            return
        try:
            tls = self._secured()
            if not self._outward:
                self._hear()
            is_done = _has_shaken(tls)
            if not self._flush():
                self._loop.add_writer(self._outer, self._ask_for_turn)
            elif is_done:
                self._admit(tls)
            else:
                self._loop.add_reader(self._outer, self._ask_for_turn)
        except BlockingIOError:
            self._loop.add_reader(self._outer, self._ask_for_turn)
        except (OSError, ValueError) as e:  # ValueError: it is gone
            self._warden.note_failure(self, e)
            self._end()

    def _secured(self) -> ssl.SSLObject:
        if self._tls is None:
            self._stand(Stage.SHAKING)
            self._tls = self._warden.context.wrap_bio(self._heard, self._said, server_side=True)
        return self._tls

    def _admit(self, tls: ssl.SSLObject) -> None:
        proof = Proof(
            certificate=tls.getpeercert(binary_form=True),
            tls_version=tls.version() or "",
            session_reused=tls.session_reused is not False,
            address=_address(self._outer),
        )
        self._stand(Stage.OPEN)
        if not self._warden.admit(self, proof):
            self.cut()
            return
        self._proof, self._hello, self._idle = proof, None, 0
        self._outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._loop.add_reader(self._outer, self._read_outer)
        self._pass_on()  # what came after the handshake

    def _stand(self, stage: Stage) -> None:
        self.stage, self.since = stage, self._loop.time()

    def _connect(self, proof: Proof) -> socket.socket:
        """Connect to gRPC under a name that identifies this connection.

        Raises:
            OSError: gRPC is stopping, or accepts no more connections.
        """
        inner = socket.socket(socket.AF_UNIX)
        try:
            inner.setblocking(False)
            name = f"cognomen-{secrets.token_hex(16)}"
            inner.bind(f"\0{name}")
            self._warden.introduce(self, name, proof)
            inner.connect(self._warden.inner)
        except OSError:
            inner.close()
            raise
        self._loop.add_reader(inner, self._read_inner)
        return inner

    def _hear(self) -> None:
        """Read what the other end has sent, but no more than is good for one step of the loop.

        Raises:
            OSError: it left, sends too much that carries no data, or declares a long hello; BlockingIOError: there is nothing to read.
        """
        if self._idle > _IDLE_BYTES:
            raise _ExcessError(f"expected at most {_IDLE_BYTES} bytes that carry no data, found more")
        size = self._outer.recv_into(_HEARD)
        if not size:
            raise ConnectionResetError("expected more, found the end")
        if self._hello is not None:
            self._hello.check(_HEARD[:size])
        self._heard.write(_HEARD[:size])
        self._idle += size

    def _read_outer(self) -> None:
        try:
            self._hear()
        except BlockingIOError:
            return
        except OSError as e:
            if isinstance(e, _ExcessError):
                self._warden.note_excess(self, str(e))
            self._end()
            return
        self._pass_on()

    def _pass_on(self) -> None:
        """Pass on what has come, until nothing is left or gRPC accepts no more."""
        try:
            while (size := self._read()) > 0:
                self._idle = max(0, self._idle - size - _FRAME_BYTES)
                self.allowance -= size
                if self.allowance < 0:
                    self._warden.note_excess(self, "too many bytes from a connection that has not proved a node")
                    self.cut()
                    return
                if self._inner is None and self._proof is not None:
                    self._inner = self._connect(self._proof)
                if not self._give(_BUFFER[:size]):
                    self._loop.remove_reader(self._outer)
                    return
            self._end()
        except ssl.SSLWantReadError:
            return
        except OSError:
            self._end()

    def _read(self) -> int:
        if self._tls is None:
            raise AssertionError("nothing is read before TLS has begun")
        return self._tls.read(_CHUNK_BYTES, _BUFFER)  # type: ignore[return-value]  # the stubs do not know that it is a number

    def _give(self, data: memoryview) -> bool:
        """Pass data on to gRPC; False: it does not accept everything now."""
        inner = self._inner
        if inner is None:
            raise AssertionError("nothing is handed on before gRPC is reached")
        try:
            sent = inner.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self._inward = bytes(data[sent:])
        self._loop.add_writer(inner, self._go_on_inward)
        return False

    def _go_on_inward(self) -> None:
        inner, data = self._inner, self._inward
        if inner is None:
            return
        self._loop.remove_writer(inner)
        try:
            if self._give(memoryview(data)):
                self._inward = b""
                self._loop.add_reader(self._outer, self._read_outer)
                self._pass_on()  # what TLS still holds of what came
        except OSError:
            self._end()

    def _read_inner(self) -> None:
        inner = self._inner
        if inner is None:
            return
        try:
            size = inner.recv_into(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._end()
        elif not self._send(_BUFFER[:size]) and self.stage is Stage.OPEN:
            self._loop.remove_reader(inner)

    def _send(self, data: memoryview) -> bool:
        """Pass data on to the other end; False: it does not accept everything now, or it is gone."""
        if self._tls is None:
            raise AssertionError("nothing is said before TLS has begun")
        try:
            while data:
                data = data[self._tls.write(data) :]
            return self._go_on_saying()
        except OSError:
            self._end()
            return False

    def _go_on_saying(self) -> bool:
        if self._flush():
            return True
        self.stuck_since = self.stuck_since or self._loop.time()
        self._loop.add_writer(self._outer, self._go_on_outward)
        return False

    def _flush(self) -> bool:
        """Send what TLS has for the other end; False: it does not accept everything now.

        Raises:
            OSError: it is gone.
        """
        data = self._outward + self._said.read()
        try:
            while data:
                data = data[self._outer.send(data) :]
                self.stuck_since = None
        except BlockingIOError:
            self._outward = data
            return False
        self._outward = b""
        return True

    def _go_on_outward(self) -> None:
        self._loop.remove_writer(self._outer)
        try:
            if self._go_on_saying() and self._inner is not None:
                self._loop.add_reader(self._inner, self._read_inner)
        except OSError:
            self._end()

    def _end(self) -> None:
        if self.stage is Stage.ENDED:
            return
        was_open, self.stage = self.stage is Stage.OPEN, Stage.ENDED
        for sock in (self._outer, self._inner):
            if sock is not None:
                self._loop.remove_reader(sock)
                self._loop.remove_writer(sock)
        if self._tls is not None:
            with contextlib.suppress(OSError, ValueError):
                if was_open:
                    self._tls.unwrap()  # announces the end, and does not wait
            with contextlib.suppress(OSError):
                self._flush()  # what TLS has to say about it
        self._outer.close()
        if self._inner is not None:
            self._inner.close()
        self._inward = self._outward = b""
        self._warden.forget(self)


def _has_shaken(tls: ssl.SSLObject) -> bool:
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _address(connection: socket.socket) -> str:
    try:
        return shown_address(connection.getpeername())
    except OSError:  # it left
        return ""
