"""One gRPC call on a Unix socket, from its headers to its outcome.

Decided here: which headers make a call, how long a message may be, what we answer to a broken message.
Not decided here: which calls run and for how long (`unixrpc`), what an exception of a method means (the doors' `translate`).

grpclib's own handler logs a traceback for every malformed request, never answers some of them, and has no limit for a message. So we have
our own, on top of its streams (ADR-0001); tests/unit/cognomen/gate/test_grpclib_pins.py pins the private names that it uses.
"""

import re
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeVar

import structlog
from google.protobuf.message import DecodeError, Message
from grpclib.const import Cardinality, Status
from grpclib.const import Handler as Method
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import _DispatchServerEvents
from grpclib.exceptions import GRPCError
from grpclib.exceptions import ProtocolError as MisusedStream
from grpclib.metadata import Deadline, decode_metadata
from grpclib.protocol import Stream as HTTPStream
from grpclib.server import Stream
from h2.exceptions import ProtocolError

__all__ = ["Call", "Headers", "Malformed", "begin", "only_request", "unary"]

log = structlog.get_logger(__name__)

Headers = list[tuple[str, str]]
RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT", bound=Message)

_MOST_DETAIL = 1024  # characters: a refusal may quote a text as long as a message, and clients accept 8 KiB of headers
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Call(Stream[Message, Message]):
    """A call of one method: grpclib's stream, with messages bounded before they are read."""

    def __init__(self, stream: HTTPStream, path: str, method: Method, message_bytes: int) -> None:
        super().__init__(
            stream,
            path,
            method.cardinality,
            method.request_type,
            method.reply_type,
            codec=ProtoCodec(),
            status_details_codec=None,
            dispatch=_DispatchServerEvents(),
        )
        self._message_bytes = message_bytes
        self.said: Callable[[], None] = _unheard
        """Called after a message or an outcome that the peer waits for was sent."""

    async def send_message(self, message: Message) -> None:
        """Send a message; on a stream, the next one may take long to come."""
        await super().send_message(message)
        if self._cardinality.server_streaming:
            self.said()

    async def recv_message(self) -> Message | None:
        """Receive the next message; None when the peer has sent its last.

        Raises:
            GRPCError: it is too long, compressed, cut off, or not of the method's type.
        """
        try:
            prefix = await self._stream.recv_data(5)
            if not prefix:
                return None
            compressed, size = struct.unpack(">BI", prefix)
            if compressed:
                raise GRPCError(Status.UNIMPLEMENTED, "message: compression is not supported")
            if size > self._message_bytes:
                raise GRPCError(
                    Status.RESOURCE_EXHAUSTED, f"message: expected at most {self._message_bytes} bytes, found {size}"
                )
            return self._recv_type.FromString(await self._stream.recv_data(size))
        except AssertionError as err:  # what grpclib raises for an early end
            raise GRPCError(
                Status.INVALID_ARGUMENT, "message: expected all the bytes its prefix promises, found fewer"
            ) from err
        except DecodeError as err:
            raise GRPCError(
                Status.INVALID_ARGUMENT, f"message: expected {self._recv_type.DESCRIPTOR.name}, found other bytes"
            ) from err

    async def finish(self, status: Status, detail: str | None) -> None:
        """Send the outcome, unless the method has done so or the peer has gone."""
        if self._send_trailing_metadata_done or self._cancel_done:
            return
        if detail is not None and len(detail) > _MOST_DETAIL:
            detail = f"{detail[:_MOST_DETAIL]}…"
        with suppress(ProtocolError):
            try:
                await self.send_trailing_metadata(status=status, status_message=detail)
            except MisusedStream:
                log.exception("call ended without an answer", method=self._method_name)
                await self.send_trailing_metadata(status=Status.INTERNAL, status_message="internal error")
        self.said()


def _unheard() -> None:
    """Do nothing, for a call without a listener."""


class Malformed(Exception):  # noqa: N818 - named for what the request is
    """The headers do not make a call that is served here.

    Attributes:
        headers: the whole answer.
    """

    def __init__(self, detail: str, status: Status, *, http_status: int = 200) -> None:
        super().__init__(detail)
        self.headers: Headers = [
            (":status", str(http_status)),
            ("content-type", "application/grpc"),
            ("grpc-status", str(status.value)),
            ("grpc-message", detail),
        ]


def begin(
    stream: HTTPStream, headers: Headers, methods: Mapping[str, Method], message_bytes: int
) -> tuple[Call, Method, float | None]:
    """Make the call that the headers request: the call, its method, and how many seconds it may take.

    Raises:
        Malformed: with the answer to send.

    Source: gRPC over HTTP/2, "Requests".
    """
    named = dict(headers)
    if named.get(":method") != "POST":
        raise Malformed("method: expected POST", Status.UNKNOWN, http_status=405)
    if named.get("content-type") not in {"application/grpc", "application/grpc+proto"}:
        raise Malformed("content-type: expected application/grpc", Status.UNKNOWN, http_status=415)
    path = named.get(":path", "")
    method = methods.get(path)
    if method is None:
        raise Malformed("method: not served on this socket", Status.UNIMPLEMENTED)
    seconds = _timeout(named.get("grpc-timeout"))
    call = Call(stream, path, method, message_bytes)
    call.deadline = None if seconds is None else Deadline.from_timeout(seconds)
    try:
        call.metadata = decode_metadata(headers)
    except ValueError as err:
        raise Malformed("metadata: expected base64 in a -bin key, found other text", Status.INVALID_ARGUMENT) from err
    return call, method, seconds


async def only_request(stream: Stream[RequestT, ReplyT]) -> RequestT:
    """Receive the single request of a method without request streaming.

    Raises:
        GRPCError: there is no message.
    """
    request = await stream.recv_message()
    if request is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "request: expected one message, found none")
    return request


def unary(
    answer: Callable[[RequestT], Awaitable[ReplyT]], request_type: type[RequestT], reply_type: type[ReplyT], /
) -> Method:
    """A method that answers one request with one reply."""

    async def method(stream: Stream[RequestT, ReplyT]) -> None:
        await stream.send_message(await answer(await only_request(stream)))

    return Method(method, Cardinality.UNARY_UNARY, request_type, reply_type)


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise Malformed("grpc-timeout: expected 1 to 8 digits and a unit, found other text", Status.INVALID_ARGUMENT)
    return int(found[1]) * _SECONDS[found[2]]
