"""gRPC on a gated Unix socket: one set of services for each connection, made with its caller.

Decided here: which calls run, for how long, and how the server ends. Not decided here: who connects and how much they may send (`gate`),
what a call looks like (`call`), what an exception means to the peer (the doors' `translate`), what a method does (the doors).

It uses parts of grpclib, but not its server, which has no limits (ADR-0001); tests/unit/cognomen/gate/test_grpclib_pins.py pins them.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
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

from cognomen.gate.accounts import AccountID
from cognomen.gate.call import Call, Headers, Malformed, begin
from cognomen.gate.caller import Caller, peer
from cognomen.gate.fields import fault_of_request, fault_of_trailers
from cognomen.gate.gate import Gate, HoldsIdentity, Identify, Limits
from cognomen.gate.meter import Misbehaved
from cognomen.gate.outbox import Outbox
from cognomen.gate.shares import Places, Share
from cognomen.gate.turnedaway import TurnedAway
from cognomen.process.exceptions import forget_frames, telling_cancellations_apart

__all__ = ["Server", "Service", "Translate", "serve"]

log = structlog.get_logger(__name__)

_GRACE_SECONDS = 1.0
_SMALLEST_WINDOW, _LARGEST_WINDOW = 2**16 - 1, 2**20
_HEADER_TABLE_BYTES = 4096  # HTTP/2's default
_H2_CONFIG = h2.config.H2Configuration(
    client_side=False,
    header_encoding="latin-1",  # every byte is valid in it: h2 would not catch a decoding error
    validate_inbound_headers=False,  # `fields` does that: h2 would end the connection
    validate_outbound_headers=False,
    normalize_inbound_headers=False,
    normalize_outbound_headers=False,
)
_CONFIGURATION = Configuration().__for_server__()  # made once: it costs a twentieth of a connection


class Service(Protocol):
    """Methods of gRPC services, as in grpclib's generated classes."""

    def __mapping__(self) -> Mapping[str, Method]:
        """Shape: {"/package.Service/Method": grpclib.const.Handler(func, cardinality, request type, reply type)}."""


MakeServices = Callable[[Caller], Sequence[Service]]
Translate = Callable[[Exception], tuple[Status, str]]


class Server:
    """Serves gRPC on a listening Unix socket while its `async with` block runs.

    Args:
        listener: owned from now on.
        make_services: makes the services for one connection; if it raises Refused, the connection is turned away.
        translate: what to answer if a method raises anything but a GRPCError; also logs what is our fault.
        identify: identifies a peer; only tests use another than the kernel's answer.
        holds_identity: whose connections end last, when there are too many.
        turned_away: as for Gate.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_services: MakeServices,
        limits: Limits,
        *,
        translate: Translate,
        identify: Identify = peer,
        holds_identity: HoldsIdentity = lambda _: False,
        turned_away: TurnedAway | None = None,
    ) -> None:
        self.limits = limits
        self._listener = listener
        self.unary: set[asyncio.Task[None]] = set()  # the calls that end on their own
        self._make_services = make_services
        self._translate = translate
        self._gate = Gate(
            listener,
            limits,
            self._welcome,
            identify=identify,
            holds_identity=holds_identity,
            turned_away=turned_away,
        )
        self._calls: Places[HTTPStream] = Places(Share.CALLS, limits.calls, each=limits.calls_per_uid)
        self._closing = False

    @property
    def calls(self) -> int:
        """How many calls are in flight."""
        return len(self._calls)

    async def __aenter__(self) -> Self:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._gate_task = self._group.create_task(self._gate.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
        await self._group.__aexit__(None, None, None)  # what the block raised propagates unchanged

    def move_to(self, listener: socket.socket) -> None:
        """Serve another listener from now on, which is then owned, and close the one before; the existing connections stay."""
        before, self._listener = self._listener, listener
        self._gate.move_to(listener)
        before.close()

    async def close(self, grace: float = _GRACE_SECONDS) -> None:
        """Stop accepting, give unary calls some seconds to end, then end every connection."""
        self._closing = True
        self._gate.stop_accepting()
        if self.unary:
            await asyncio.wait(self.unary, timeout=grace)
        self._gate.end_connections("server: shutting down")
        await asyncio.sleep(0)  # lets us write what can be written at once
        self._gate_task.cancel()
        await asyncio.wait([self._gate_task])
        self._listener.close()

    def admit(self, account: AccountID, stream: HTTPStream, end: Callable[[], None]) -> bool:
        """Admit a call of that account, if it may have one more; `end` is called if another account needs the place."""
        return not self._closing and self._calls.take(account, stream, end)

    def dismiss(self, account: AccountID, stream: HTTPStream) -> None:
        """Give back the place of a call."""
        self._calls.give_back(account, stream)

    async def run(self, method: Method, call: Call, seconds: float | None) -> None:
        """Run a method, and send its outcome."""
        status, detail = Status.OK, None
        try:
            async with asyncio.timeout(seconds) as deadline:
                with telling_cancellations_apart():
                    await method.func(call)
        except GRPCError as err:
            status, detail = err.status, err.message
        except ProtocolError:  # the peer has gone
            return
        except Exception as err:  # noqa: BLE001 - passed to the status.py of a door, which handles all of them
            status, detail = (
                (Status.DEADLINE_EXCEEDED, "deadline exceeded") if deadline.expired() else self._translate(err)
            )
            forget_frames(err)
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
        self._account = caller.account
        self._server = server
        self._tasks: dict[HTTPStream, asyncio.Task[None]] = {}
        self.answered: Callable[[], None] = _unheard
        self.flush: Callable[[], None] = _unheard

    @property
    def is_idle(self) -> bool:
        """Whether no call is in flight."""
        return not self._tasks

    def accept(self, stream: HTTPStream, headers: Headers, release_stream: Callable[[], None]) -> None:
        """Begin a call, or end its stream and no other.

        Raises:
            Misbehaved: there are so many fields that reading them again and again would cost too much.
        """
        most = self._server.limits.header_fields
        if len(headers) > most:
            raise Misbehaved(
                f"headers: expected at most {most} fields, found {len(headers)}", ErrorCodes.ENHANCE_YOUR_CALM
            )
        if fault := fault_of_request(headers):
            log.debug("request refused", reason=fault, account=self._account)
            _reset(stream, ErrorCodes.PROTOCOL_ERROR)
            release_stream()
            return
        if self._has_one_too_many(stream) or not self._server.admit(
            self._account, stream, partial(self._make_way, stream)
        ):
            _reset(stream, ErrorCodes.REFUSED_STREAM)
            release_stream()
            return

        def ended(task: asyncio.Task[None]) -> None:  # a task cancelled before its first step has no finally
            del self._tasks[stream]
            self._server.unary.discard(task)
            self._server.dismiss(self._account, stream)
            if stream.data_sent:
                self.answered()
            _reset(stream, ErrorCodes.NO_ERROR)  # if the peer holds it open, we want no more of it: RFC 9113 8.1
            release_stream()
            if not task.cancelled() and (err := task.exception()) is not None:
                log.error("call failed", exc_info=err)

        task = asyncio.get_running_loop().create_task(
            self._answer(stream, headers)
        )  # held here, awaited by wait_closed
        self._tasks[stream] = task
        task.add_done_callback(ended)

    def _has_one_too_many(self, stream: HTTPStream) -> bool:
        """Whether the peer has more streams open than it may; calls that are just ending do not count."""
        most = self._server.limits.calls_per_connection
        return len(self._tasks) >= most and stream._h2_connection.open_inbound_streams > most  # noqa: SLF001 - pinned

    def _flush_if_alone(self) -> None:
        """Send the answer now if only one call is in flight; the answers of several calls share a write at the end of the turn."""
        if len(self._tasks) == 1:
            self.flush()

    def cancel(self, stream: HTTPStream) -> None:
        """End a call that was reset."""
        if stream in self._tasks:
            self._tasks[stream].cancel()

    def _make_way(self, stream: HTTPStream) -> None:
        """End a call whose place another account needs."""
        log.debug("call ended for another account", account=self._account)
        _reset(stream, ErrorCodes.ENHANCE_YOUR_CALM)
        self.cancel(stream)

    def close(self) -> None:
        """End all calls; the connection is over."""
        self.answered = self.flush = _unheard
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
        call.said = self._flush_if_alone
        if not method.cardinality.server_streaming:
            self._server.unary.add(self._tasks[stream])
        try:
            await self._server.run(method, call, seconds)
        except (
            asyncio.CancelledError
        ) as err:  # from `cancel` or `close`; a task that kept it would be a cycle with its frames
            forget_frames(err)


def _reset(stream: HTTPStream, code: ErrorCodes) -> None:
    if stream.closable:  # not ended, nor reset by the peer at the same time
        stream.reset_nowait(code)


def _unheard() -> None:
    """Do nothing: there is no connection yet, or no longer."""


class _Encoder(hpack.Encoder):
    """hpack's encoder, with a table that a peer cannot enlarge.

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
    """h2's connection, which remembers fewer streams that have ended."""

    MAX_CLOSED_STREAMS = 1024

    def __init__(self) -> None:
        super().__init__(config=_H2_CONFIG)
        self.encoder = _Encoder()


class _Events(EventsProcessor):
    """grpclib's events, without those that it would fail on (frames of unknown types, which RFC 9113 4.1 tells us to ignore)."""

    def process(self, event: h2.events.Event) -> None:
        """Handle an event, if it is one of ours."""
        if type(event) in getattr(self, "processors", {}):
            super().process(event)

    def process_trailers_received(self, event: h2.events.TrailersReceived) -> None:
        """End the stream whose trailers are malformed."""
        stream = self.streams.get(event.stream_id)
        if stream is not None and fault_of_trailers(event.headers):  # type: ignore[arg-type]  # header_encoding makes them text
            _reset(stream, ErrorCodes.PROTOCOL_ERROR)
            self.handler.cancel(stream)
        else:
            super().process_trailers_received(event)


class _HTTPConnection:
    """HTTP/2 for one connection behind the gate."""

    def __init__(self, calls: _Calls, limits: Limits) -> None:
        self._calls = calls
        self._limits = limits

    @property
    def is_idle(self) -> bool:
        return self._calls.is_idle

    def connection_made(self, transport: Outbox, answered: Callable[[], None]) -> None:
        self._calls.answered, self._calls.flush = answered, transport.flush
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
        # The peer knows the limit now; for one stream too many, h2 would end the connection, while `_Calls` ends only that stream.
        del conn.local_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS]
        if window > _SMALLEST_WINDOW:
            conn.increment_flow_control_window(window - _SMALLEST_WINDOW)
        self._connection = Connection(conn, transport, config=_CONFIGURATION)
        self._events = _Events(self._calls, self._connection)
        self._connection.flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._connection.feed(data)
        except ProtocolError:
            self._connection.flush()  # sends h2's GOAWAY
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
