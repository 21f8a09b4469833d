"""One POST to a provider's token endpoint: no redirect is followed, the answer is small, and everything ends in time.

Only https, except on loopback; a proxy of the environment is used as a tunnel, never for plain http. What an answer means:
svid/integrations/exchange.
"""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, Self
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from svid.clock import SystemClock
from svid.errors import ExchangeError, NotSentError, SVIDError
from svid.integrations.exchange_unanswered import Unanswered, no_answer_within, unanswered

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["MAX_ANSWER_BYTES", "Reply", "check_context", "check_url", "post"]

_CLOCK = SystemClock()
MAX_ANSWER_BYTES = 1 << 16
_MAX_BYTES = 4 * MAX_ANSWER_BYTES  # everything that comes: head, body, the lengths of chunks, trailers
_MAX_URL = 1024
_TOO_LONG = Unanswered(
    f"expected an answer of at most {_MAX_BYTES} bytes with its head, found more", "is the URL right?"
)
_LEAST_SECONDS = 0.001  # 0 would mean not to wait


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whatever its status; head and body may hold credentials, and are in no text of it."""

    status: int
    headers: Message = field(repr=False)
    body: bytes = field(repr=False)


def check_url(url: str) -> None:
    """Check the URL of a token endpoint.

    Raises:
        ExchangeError: it is neither https nor on loopback, or has a user, a query or a fragment.
    """
    if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise ExchangeError(f"url: expected at most {_MAX_URL} printable ASCII characters without spaces")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host:
        raise ExchangeError("url: expected https://, a host and a path")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ExchangeError("url: expected no user, no query and no fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ExchangeError(f"url: expected https, or http on loopback, found {parts.scheme}://{host}")


def check_context(context: ssl.SSLContext) -> None:
    """Refuse a context that would send the assertion to anybody; a LiveContext checks the SPIFFE ID in place of a host name.

    Raises:
        ExchangeError: it does not check the server.
    """
    from svid.tls.context import LiveContext  # noqa: PLC0415 - who gives no context need not load it

    if isinstance(context, LiveContext):
        return
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ExchangeError("context: expected one that checks the server's certificate and host name")


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, context: ssl.SSLContext | None, timeout: timedelta
) -> Reply:
    """Send a body, and return the answer, whatever its status.

    Args:
        context: the TLS to https; None means the system's authorities.
        timeout: how long everything together may take, once the host's address is known.

    Raises:
        NotSentError: there is no connection.
        ExchangeError: no whole answer came in time, or it is too long.
    """
    seconds, where = timeout.total_seconds(), urlsplit(url).netloc
    request = Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310 - `check_url` has seen it
    with _Deadline(seconds) as deadline:
        try:
            with _opener(url, context, deadline).open(request, timeout=seconds) as response:
                reply = _read(response, where)
        except (OSError, HTTPException) as e:
            is_late, why = _why(e)
        else:
            if not deadline.is_over:  # or what was read may have been cut off
                return reply
            is_late, why = True, _TOO_LONG
    if is_late or deadline.is_over:
        why = no_answer_within(seconds)
    kind = ExchangeError if deadline.is_connected else NotSentError
    raise kind(f"{where}: {why.reason}", is_temporary=why.is_temporary, hint=why.hint)


def _why(error: OSError | HTTPException) -> tuple[bool, Unanswered]:
    """Whether the time was over, and what happened otherwise; the error itself must go, because its frames hold the socket."""
    inner = error.reason if isinstance(error, URLError) else error
    return isinstance(inner, TimeoutError), _TOO_LONG if isinstance(inner, _TooLongError) else unanswered(error)


def _read(response: HTTPResponse, where: str) -> Reply:
    body = response.read(MAX_ANSWER_BYTES + 1)
    if len(body) > MAX_ANSWER_BYTES:
        status = response.status
        too_long = f"{where}: answer: expected at most {MAX_ANSWER_BYTES} bytes, found more"
        raise ExchangeError(too_long, status=status, hint="is the URL right?")
    if response.length:  # of the Content-Length, so much did not come
        raise IncompleteRead(b"", response.length)
    return Reply(response.status, response.headers, body)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Deadline:
    """Shuts a connection down when the time is over, even if bytes still trickle in.

    Attributes:
        is_over: whether the time was over before the end.
        is_connected: whether the connection was ready, so that the request may have left.
    """

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self.is_connected = False
        self._socket: socket.socket | None = None
        self._connection: HTTPConnection | None = None
        self._ends_at = _CLOCK.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def connect(self, address: tuple[str, int], *_settings: object) -> socket.socket:
        """Connect as socket.create_connection does, with all addresses of the host together in time; the last error is raised.

        Each address but the last has half of what is left, so that one that is dark leaves something to the others.
        """
        host, port = address
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        error: OSError = OSError("the host has no address")
        for number, (family, kind, protocol, _, where) in enumerate(found, start=1):
            if (left := self._left()) <= 0:
                raise TimeoutError
            try:
                one = socket.socket(family, kind, protocol)
            except OSError as e:
                error = e
                continue
            try:
                one.settimeout(left if number == len(found) else left / 2)
                one.connect(where)
                one.settimeout(max(self._left(), _LEAST_SECONDS))
            except OSError as e:
                one.close()
                error = e
            else:
                return one
        raise error

    def _left(self) -> float:
        return self._ends_at - _CLOCK.monotonic()

    def follow(self, connection: HTTPConnection) -> None:
        """Shut down what this connection has until `watch` is called: a proxy may take its time."""
        self._connection = connection

    def watch(self, one: socket.socket) -> None:
        """Shut down this socket."""
        self._socket = one
        if self.is_over:
            self._shut_down(one)

    def _end(self) -> None:
        self.is_over = True
        one = self._socket or (None if self._connection is None else self._connection.sock)
        if one is not None:
            self._shut_down(one)

    @staticmethod
    def _shut_down(one: socket.socket) -> None:
        try:
            socket.socket.shutdown(one, socket.SHUT_RDWR)  # not TLS's own: another thread may be within it
        except OSError:  # it is closed already
            return


class _TooLongError(HTTPException):
    """More came than `_MAX_BYTES`."""


class _Counted(RawIOBase):
    """Reads from a socket until more came than an answer may have, whatever length a reader asks for."""

    def __init__(self, raw: RawIOBase) -> None:
        self._raw, self._left = raw, _MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise _TooLongError
        return count

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()


@contextmanager
def _only_http_errors() -> Iterator[None]:
    """Make an HTTPException of what the library's parsers of lengths and headers raise: ValueError, TypeError and others."""
    try:
        yield
    except (OSError, HTTPException, SVIDError):
        raise
    except Exception as e:
        raise HTTPException from e


class _Response(HTTPResponse):
    """Reads a bounded answer; the library alone would read without end for a chunk of the length -1."""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp = BufferedReader(_Counted(self.fp.detach()))

    def begin(self) -> None:
        with _only_http_errors():
            super().begin()

    def read(self, amt: int | None = None) -> bytes:
        with _only_http_errors():
            return super().read(amt)


class _Plain(HTTPConnection):
    response_class = _Response

    def __init__(self, host: str, *, timeout: float, deadline: _Deadline) -> None:
        super().__init__(host, timeout=timeout)
        self._deadline, self._create_connection = deadline, deadline.connect

    def connect(self) -> None:
        super().connect()
        self._deadline.watch(self.sock)
        self._deadline.is_connected = True


class _TLS(HTTPSConnection):
    response_class = _Response

    def __init__(self, host: str, *, timeout: float, context: ssl.SSLContext, deadline: _Deadline) -> None:
        super().__init__(host, timeout=timeout, context=context)
        self._deadline, self._tls, self._server = deadline, context, self.host
        self._create_connection = deadline.connect
        deadline.follow(self)

    def set_tunnel(self, host: str, port: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().set_tunnel(host, port, None if headers is None else dict(headers))
        self._server = urlsplit(f"//{host}").hostname or host

    def connect(self) -> None:
        HTTPConnection.connect(self)  # the way to the server, through a tunnel if there is a proxy
        tls = self._tls.wrap_socket(self.sock, server_hostname=self._server, do_handshake_on_connect=False)
        self.sock = tls
        self._deadline.watch(tls)
        tls.do_handshake()
        self._deadline.is_connected = True


class _PlainHandler(HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Plain, req, deadline=self._deadline)  # type: ignore[arg-type]  # the protocol has more parameters


class _TLSHandler(HTTPSHandler):
    def __init__(self, context: ssl.SSLContext, deadline: _Deadline) -> None:
        super().__init__(context=context)
        self._tls, self._deadline = context, deadline

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_TLS, req, context=self._tls, deadline=self._deadline)  # type: ignore[arg-type]  # as above


def _opener(url: str, context: ssl.SSLContext | None, deadline: _Deadline) -> OpenerDirector:
    """An opener that returns every answer as it is: nothing in it follows a redirect or makes an error of a status."""
    parts = urlsplit(url)
    opener = OpenerDirector()
    if parts.scheme == "http":
        opener.add_handler(_PlainHandler(deadline))
        return opener
    if not _is_loopback(parts.hostname or ""):
        opener.add_handler(ProxyHandler())
    opener.add_handler(_TLSHandler(context or ssl.create_default_context(), deadline))
    return opener
