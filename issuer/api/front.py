"""The front of a network door: it listens, terminates TLS, and passes the data to gRPC, which cannot do three things that we need.

Only TLS 1.3, and no session is ever resumed: gRPC's Python API cannot enforce either. Room for nodes even with many strangers: gRPC
counts connections, not whose they are. And what TLS proved of the peer, in the form in which gRPC takes it: docs/adr/0018.
"""

import asyncio
import os
import socket
import ssl
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import grpc
import structlog

from cognomen.protocol.addresses import host_and_port
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from issuer.api.crowd import Crowd, CrowdLimits, FullError, KnownAddresses, address_of
from issuer.api.handshakes import Handshakes
from issuer.api.passage import Passage, Proof, Stage
from issuer.metrics import Metrics

__all__ = ["Front", "FrontLimits", "check_addresses_free", "check_names"]

log = structlog.get_logger(__name__)

_BACKLOG = 4096  # the most that Linux allows
_ACCEPTS_PER_TURN = 64
_REST_SECONDS = 0.1
_LOOK_SECONDS = 0.5
_WORD_SECONDS = 10.0
_PEER = "unix-abstract:"  # how gRPC names peers from such a socket


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontLimits:
    """What a front allows.

    Args:
        door: its name in the log and in metrics.
        hello_seconds: how long a connection may be silent at first.
        handshake_seconds: how long the rest of its handshake may take: four round trips of 2 s, and a slow link.
        stranger_seconds: how long a connection that has not proved a node may be open.
        stranger_bytes: how much such a connection may send, because everybody shares the loop that carries it.
        stuck_seconds: how long a node may accept nothing of what waits for it; gRPC may have given it up without telling anybody.
        handover_seconds: how long calls may last on a certificate that has been replaced, as in issuer/decisions/admission.
    """

    door: str
    crowd: CrowdLimits
    hello_seconds: float = 5.0
    handshake_seconds: float = 10.0
    stranger_seconds: float
    stranger_bytes: int = 256 * 1024
    stuck_seconds: float = 60.0
    handover_seconds: float = 60.0


class Front:
    """One door. Bind it, start it, and close it once the gRPC server behind it has stopped.

    Args:
        context: returns the current context; each handshake asks for it.
        identify: returns which node a certificate (DER) proves; None: no node's.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        identify: Callable[[bytes], str | None],
        limits: FrontLimits,
        known: KnownAddresses,
        metrics: Metrics,
    ) -> None:
        door = limits.door
        self._door = door
        self._context = context
        self._identify = identify
        self._limits = limits
        self._crowd: Crowd[Passage] = Crowd(limits.crowd, known)
        self._handshakes = Handshakes()
        self._introduced: dict[str, tuple[Passage, Proof]] = {}
        self._names: dict[Passage, str] = {}
        self._listeners: list[socket.socket] = []
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._refusals = metrics.connections_refused.labels(door)
        self._failures = metrics.handshakes_failed.labels(door)
        self._cuts = metrics.connections_cut.labels(door)
        self._untold: Counter[str] = Counter()
        self._inner = -1

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        return self._context()

    @property
    def inner(self) -> str:
        """The only path to gRPC's socket."""
        return f"/proc/self/fd/{self._inner}"

    def proof(self, peer: str) -> Proof | None:
        """What TLS proved about one of gRPC's peers, by gRPC's name for it; None: not one of our connections."""
        found = self._find(peer)
        return None if found is None else found[1]

    def address(self, peer: str) -> bytes | None:
        """The address of one of gRPC's peers, as crowd counts addresses; None: not one of our connections."""
        found = self._find(peer)
        return None if found is None else found[0].address

    def note_use(self, peer: str) -> None:
        """Note that a node's call was admitted: its connections with other certificates end once their calls have had their time."""
        found = self._find(peer)
        if found is None:
            return
        used, now = found[0], asyncio.get_running_loop().time()
        self._crowd.note_admitted(used)
        for passage in self._crowd.of_node(used):
            if passage.certificate == used.certificate:
                passage.superseded_since = None
            elif passage.superseded_since is None:
                passage.superseded_since = now

    def _find(self, peer: str) -> tuple[Passage, Proof] | None:
        return self._introduced.get(peer.removeprefix(_PEER)) if peer.startswith(_PEER) else None

    def bind(self, server: grpc.aio.Server, address: str, *, key: str) -> str:
        """Bind host:port, and a server behind it; returns the bound address (port 0: a free one).

        Args:
            key: the configuration key that holds the address.

        Raises:
            Refused: INVALID for a malformed address, UNAVAILABLE for one that cannot be bound.
        """
        self._listeners = _listen(address, key)
        self._inner = _bind_behind(server)
        host = address.rpartition(":")[0]
        return f"{host}:{self._listeners[0].getsockname()[1]}"

    def start(self) -> None:
        """Begin to accept connections."""
        for listener in self._listeners:
            self._accept_from(listener)
        self._look()

    def close(self) -> None:
        """Stop accepting connections, and end all of them."""
        loop = asyncio.get_running_loop()
        for timer in self._timers.values():
            timer.cancel()
        self._handshakes.close()
        for listener in self._listeners:
            loop.remove_reader(listener)
            listener.close()
        for passage in (*self._crowd.waiting, *self._crowd.proved):
            passage.cut()
        if self._inner >= 0:
            os.close(self._inner)
            self._inner = -1

    def await_turn(self, passage: Passage, step: Callable[[], None]) -> None:
        """Run this step of the handshake when its turn comes."""
        self._handshakes.join(passage.address, step, is_known=self._crowd.is_known(passage.address))

    def admit(self, passage: Passage, proof: Proof) -> bool:
        """Note what the handshake proved; returns whether there is room."""
        identity = None if proof.certificate is None else self._identify(proof.certificate)
        if identity is None:
            passage.allowance = self._limits.stranger_bytes
            return True  # for a while
        try:
            gone = self._crowd.prove(passage, identity)
        except FullError as full:
            self._refuse(passage.address, str(full))
            return False
        if gone is not None:
            gone.cut()
        return True

    def note_failure(self, passage: Passage, error: Exception) -> None:
        """Note that its handshake failed: an old TLS version, an expired certificate, or no certificate."""
        self._failures.inc()
        self._tell("handshake failed", passage.address, getattr(error, "reason", None) or str(error))

    def note_excess(self, passage: Passage, reason: str) -> None:
        """Note that it is cut because it sent more than it may: a stranger's bytes, or anybody's KeyUpdates and the like."""
        self._cuts.inc()
        self._tell("connections cut", passage.address, reason)

    def introduce(self, passage: Passage, name: str, proof: Proof) -> None:
        """Note the name by which gRPC knows it."""
        self._names[passage] = name
        self._introduced[name] = passage, proof

    def forget(self, passage: Passage) -> None:
        """Note that it has ended."""
        self._crowd.leave(passage)
        self._introduced.pop(self._names.pop(passage, ""), None)

    def _accept_from(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, name = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as e:  # no more descriptors, most likely: rest until some come back
                self._tell("accept failed", b"", e.strerror or str(e))
                self._rest(listener)
                return
            sock.setblocking(False)
            self._welcome(sock, address_of(name[0]))

    def _rest(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._timers[f"rest {listener.fileno()}"] = loop.call_later(_REST_SECONDS, self._accept_from, listener)

    def _welcome(self, sock: socket.socket, address: bytes) -> None:
        passage = Passage(self, sock, address)
        try:
            gone = self._crowd.enter(passage, address)
        except FullError as full:
            self._refuse(address, str(full))
            passage.cut()
            return
        if gone is not None:
            self._refuse(gone.address, "expected fewer from this address, now that others have no room")
            gone.cut()
        passage.begin()

    def _look(self) -> None:
        """End connections that take too long."""
        loop, limits = asyncio.get_running_loop(), self._limits
        allowed = {
            Stage.SILENT: limits.hello_seconds,
            Stage.SHAKING: limits.handshake_seconds,
            Stage.OPEN: limits.stranger_seconds,
        }
        self._timers["look"], now = loop.call_later(_LOOK_SECONDS, self._look), loop.time()
        for passage in self._crowd.waiting:
            if now - passage.since >= allowed[passage.stage]:
                passage.cut()
        for passage in self._crowd.proved:
            if _is_due(passage.stuck_since, limits.stuck_seconds, now) or _is_due(
                passage.superseded_since, limits.handover_seconds, now
            ):
                passage.cut()

    def _refuse(self, address: bytes, reason: str) -> None:
        self._refusals.inc()
        self._tell("connections refused", address, f"connections: {reason}")

    def _tell(self, event: str, address: bytes, reason: str) -> None:
        """Log the first at once, and then one every ten seconds with their number, because strangers can cause any number of them."""
        self._untold[event] += 1
        if event not in self._timers:
            self._say(event, address, reason)

    def _say(self, event: str, address: bytes, reason: str) -> None:
        log.warning(
            event,
            door=self._door,
            count=self._untold.pop(event),
            reason=printable(reason),
            **({"address": _shown(address)} if address else {}),
        )
        self._timers[event] = asyncio.get_running_loop().call_later(_WORD_SECONDS, self._say_on, event, address, reason)

    def _say_on(self, event: str, address: bytes, reason: str) -> None:
        del self._timers[event]
        if self._untold[event]:
            self._say(event, address, reason)


def check_addresses_free(addresses: Mapping[str, str]) -> None:
    """Check that doors could be bound there, all of them at once.

    Args:
        addresses: host:port by the configuration key that holds it.

    Raises:
        Refused: as Front.bind does.
    """
    with ExitStack() as leaving:
        for key, address in addresses.items():
            for listener in _listen(address, key):
                leaving.callback(listener.close)


_IPV4 = 4
_Place: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]  # as getaddrinfo gives it


def _shown(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET, address) if len(address) == _IPV4 else f"{address.hex(':', 2)}::/64"


def _is_due(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since >= seconds


def _listen(address: str, key: str) -> list[socket.socket]:
    places = _places(address, key)
    listeners: list[socket.socket] = []
    try:
        for family, place in places:
            chosen = listeners[0].getsockname()[1] if listeners else place[1]
            is_every = family == socket.AF_INET6 and place[0] == "::"
            listener = socket.create_server(
                (str(place[0]), chosen),
                family=family,
                backlog=_BACKLOG,
                dualstack_ipv6=is_every and socket.has_dualstack_ipv6(),
            )
            listener.setblocking(False)
            listeners.append(listener)
    except OSError as e:
        for listener in listeners:
            listener.close()
        raise Refused(
            Kind.UNAVAILABLE,
            f"{key}: cannot bind {address}",
            hint=f"is another issuer running? choose a different {key}",
        ) from e
    return listeners


def check_names(addresses: Mapping[str, str]) -> None:
    """Check that each host is an address or a name that is known here.

    Args:
        addresses: host:port by the configuration key that holds it.

    Raises:
        Refused: INVALID
    """
    for key, address in addresses.items():
        _places(address, key)


def _places(address: str, key: str) -> Sequence[tuple[socket.AddressFamily, _Place]]:
    try:
        host, port = host_and_port(address)
    except ValueError as e:
        raise Refused(Kind.INVALID, f"{key}: {e}") from e
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as e:
        raise Refused(
            Kind.INVALID,
            f"{key}: the name {host} is unknown here: {(e.strerror or str(e)).lower()}",
            hint="correct the name, or use an IP address",
        ) from e
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


def _bind_behind(server: grpc.aio.Server) -> int:
    """Bind a server to a Unix socket and remove its path, so that it can only be reached through a descriptor; returns that descriptor.

    Raises:
        Refused: UNAVAILABLE
    """
    try:
        with _directory() as descriptor:
            server.add_insecure_port(f"unix:/proc/self/fd/{descriptor}/door")  # for paths of any length
            inner = os.open("door", os.O_PATH | os.O_CLOEXEC, dir_fd=descriptor)
    except (OSError, RuntimeError) as e:
        raise Refused(
            Kind.UNAVAILABLE,
            f"doors: cannot bind a socket in the directory for temporary files: {e}",
            hint="choose another with TMPDIR",
        ) from e
    return inner


@contextmanager
def _directory() -> Iterator[int]:
    """A directory of ours alone, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="cognomen-") as path:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
