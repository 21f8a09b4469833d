"""gRPC on a gated Unix socket: one set of services for each connection, made with its caller.

Decided here: which calls run, for how long, and how the server ends. Not decided here: who connects and how much they may send (`gate`),
what a call looks like (`call`), what an exception means to the peer (the doors' `translate`), what a method does (the doors).

It stands on parts of grpclib, not on its server, which knows no limits (ADR-0001); tests/unit/test_gate_grpclib_pins.py pins them.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, Self

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import structlog
from grpclib.config import Configuration
from grpclib.const import Handler as Method
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import AbstractHandler, Connection, EventsProcessor
from grpclib.protocol import Stream as HTTPStream
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from cognomen.daemon.call import Call, Headers, Malformed, begin
from cognomen.daemon.caller import Caller, peer
from cognomen.daemon.gate import Gate, Identify, Limits
from cognomen.daemon.waiting import telling_cancellations_apart

__all__ = ["Server", "Service", "Translate", "serve"]

log = structlog.get_logger(__name__)

_GRACE_SECONDS = 1.0
_SMALLEST_WINDOW, _LARGEST_WINDOW = 2**16 - 1, 2**20
_HEADER_TABLE_BYTES = 4096  # HTTP/2's default
_H2_CONFIG = h2.config.H2Configuration(
    client_side=False,
    header_encoding="latin-1",  # every byte means something in it: h2 would not catch a decoding error
    validate_inbound_headers=False,  # call.begin looks at those that matter
    validate_outbound_headers=False,
    normalize_inbound_headers=False,
    normalize_outbound_headers=False,
)


class Service(Protocol):
    """Methods of gRPC services, as grpclib's generated classes have them."""

    def __mapping__(self) -> Mapping[str, Method]:
        """Shape: {"/package.Service/Method": grpclib.const.Handler(func, cardinality, request type, reply type)}."""


MakeServices = Callable[[Caller], Sequence[Service]]
Translate = Callable[[Exception], tuple[Status, str]]


class Server:
    """Serves gRPC on a listening Unix socket while its `async with` block runs.

    Args:
        listener: owned from now on.
        make_services: the services for one connection; may raise Refused, and the connection is turned away.
        translate: what to answer for an exception of a method that is no GRPCError: sent as it is; logs what is our fault.
        identify: who a peer is; another than the kernel's word is for tests.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_services: MakeServices,
        limits: Limits,
        *,
        translate: Translate,
        identify: Identify = peer,
    ) -> None:
        self.limits = limits
        self._listener = listener
        self.unary: set[asyncio.Task[None]] = set()  # the calls that end by themselves
        self._make_services = make_services
        self._translate = translate
        self._gate = Gate(listener, limits, self._welcome, identify=identify)
        self._calls_of: Counter[int] = Counter()
        self._closing = False

    async def __aenter__(self) -> Self:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._gate_task = self._group.create_task(self._gate.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
        await self._group.__aexit__(None, None, None)  # what the block raised goes on as it is

    async def close(self, grace: float = _GRACE_SECONDS) -> None:
        """Accept nothing more, give unary calls some seconds to end, then end every connection."""
        self._closing = True
        self._gate.stop_accepting()
        if self.unary:
            await asyncio.wait(self.unary, timeout=grace)
        self._gate.end_connections("server: shutting down")
        await asyncio.sleep(0)  # what can be written at once is
        self._gate_task.cancel()
        await asyncio.wait([self._gate_task])
        self._listener.close()

    def admit(self, uid: int) -> bool:
        """Count a call of that uid in, if it may have one more."""
        if self._closing or self._calls_of[uid] >= self.limits.calls_per_uid:
            return False
        self._calls_of[uid] += 1
        return True

    def dismiss(self, uid: int) -> None:
        """Count it out."""
        self._calls_of[uid] -= 1
        if not self._calls_of[uid]:
            del self._calls_of[uid]

    async def run(self, method: Method, call: Call, seconds: float | None) -> None:
        """Run a method to its outcome, and send that."""
        status, detail = Status.OK, None
        try:
            async with asyncio.timeout(seconds) as deadline:
                with telling_cancellations_apart():
                    await method.func(call)
        except GRPCError as err:
            status, detail = err.status, err.message
        except ProtocolError:  # the peer has gone
            return
        except Exception as err:  # noqa: BLE001 - where a door's status.py gets to see them all
            status, detail = (
                (Status.DEADLINE_EXCEEDED, "deadline exceeded") if deadline.expired() else self._translate(err)
            )
        await call.finish(status, detail)

    def _welcome(self, caller: Caller) -> "_HTTPConnection":
        methods = {
            path: method for service in self._make_services(caller) for path, method in service.__mapping__().items()
        }
        return _HTTPConnection(_Calls(methods, caller, self), self.limits)


serve = Server  # async with serve(...) as server


class _Calls(AbstractHandler):
    """The calls of one connection."""

    def __init__(self, methods: Mapping[str, Method], caller: Caller, server: Server) -> None:
        self._methods = methods
        self._uid = caller.uid
        self._server = server
        self._tasks: dict[HTTPStream, asyncio.Task[None]] = {}
        self.answered: Callable[[], None] = lambda: None

    def accept(self, stream: HTTPStream, headers: Headers, release_stream: Callable[[], None]) -> None:
        """Begin a call."""
        if not self._server.admit(self._uid):
            if stream.closable:  # not reset by the peer in the same breath
                stream.reset_nowait(ErrorCodes.REFUSED_STREAM)
            release_stream()
            return

        def ended(task: asyncio.Task[None]) -> None:  # a task cancelled before its first step has no finally
            del self._tasks[stream]
            self._server.unary.discard(task)
            self._server.dismiss(self._uid)
            if stream.data_sent:
                self.answered()
            release_stream()
            if not task.cancelled() and (err := task.exception()) is not None:
                log.error("call failed", exc_info=err)

        task = asyncio.get_running_loop().create_task(
            self._answer(stream, headers)
        )  # held here, awaited by wait_closed
        self._tasks[stream] = task
        task.add_done_callback(ended)

    def cancel(self, stream: HTTPStream) -> None:
        """End a call that was reset."""
        if stream in self._tasks:
            self._tasks[stream].cancel()

    def close(self) -> None:
        """End all calls."""
        for task in self._tasks.values():
            task.cancel()

    async def wait_closed(self) -> None:
        """Return once no call is in flight."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _answer(self, stream: HTTPStream, headers: Headers) -> None:
        try:
            call, method, seconds = begin(stream, headers, self._methods, self._server.limits.message_bytes)
        except Malformed as err:
            with suppress(ProtocolError):
                await stream.send_headers(err.headers, end_stream=True)
            return
        task = asyncio.current_task()
        if task and not method.cardinality.server_streaming:
            self._server.unary.add(task)
        await self._server.run(method, call, seconds)


class _Encoder(hpack.Encoder):
    """hpack's encoder, whose memory of what it sent grows with no wish of the peer.

    Source: RFC 7541 4.2: an encoder may use less than it is allowed, and signals the smallest and the last size.
    """

    @property
    def header_table_size(self) -> int:
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        size = min(value, _HEADER_TABLE_BYTES)
        self.header_table.maxsize = size
        if self.header_table.resized:
            self.table_size_changes = [min([size, *self.table_size_changes]), size]


class _H2(h2.connection.H2Connection):
    """h2's connection, with a shorter memory for the streams that are over."""

    MAX_CLOSED_STREAMS = 1024

    def __init__(self) -> None:
        super().__init__(config=_H2_CONFIG)
        self.encoder = _Encoder()


class _Events(EventsProcessor):
    """grpclib's events, without the ones it would fail on (frames of unknown types, which RFC 9113 4.1 has us ignore)."""

    def process(self, event: h2.events.Event) -> None:
        """Handle an event, if it is one of ours."""
        if type(event) in getattr(self, "processors", {}):
            super().process(event)


class _HTTPConnection:
    """HTTP/2 for one connection behind the gate."""

    def __init__(self, calls: _Calls, limits: Limits) -> None:
        self._calls = calls
        self._limits = limits

    def connection_made(self, transport: asyncio.Transport, answered: Callable[[], None]) -> None:
        self._calls.answered = answered
        window = min(max(self._limits.message_bytes, _SMALLEST_WINDOW), _LARGEST_WINDOW)
        conn = _H2()
        conn.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self._limits.calls_per_connection,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: self._limits.header_bytes,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
            },
        )
        conn.decoder.max_header_list_size = self._limits.header_bytes
        conn.initiate_connection()
        if window > _SMALLEST_WINDOW:
            conn.increment_flow_control_window(window - _SMALLEST_WINDOW)
        self._connection = Connection(conn, transport, config=Configuration().__for_server__())
        self._events = _Events(self._calls, self._connection)
        self._connection.flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._connection.feed(data)
        except ProtocolError:
            self._connection.flush()  # h2's goodbye
            self._events.close("protocol error")
            return
        for event in events:
            self._events.process(event)
        if not self._connection.is_closing():
            self._connection.flush()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._events.close("connection lost")

    async def wait_closed(self) -> None:
        await self._calls.wait_closed()
