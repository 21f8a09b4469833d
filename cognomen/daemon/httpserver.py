"""Answer requests of HTTP/1.1 on one connection: without bodies, within bounds. h11 parses.

Not decided here: what is answered, who may connect, and how many (webserver, issuer/web).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

import h11

__all__ = ["MOST_REQUESTS", "REQUEST_BYTES", "MakeAnswer", "Page", "answer_requests", "fault"]

REQUEST_BYTES = 8 * 1024
"""The longest head of a request."""

MOST_REQUESTS = 1000
"""How many requests of one connection are answered; the last answer says that the connection closes."""

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer.

    Args:
        headers: beside its type, its length, and what the connection needs.
    """

    status: HTTPStatus = HTTPStatus.OK
    content_type: str = _TEXT
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("cache-control", "no-store"),)


MakeAnswer = Callable[[h11.Request], Awaitable[Page]]
"""Answers a request of GET or HEAD; whoever asks with HEAD gets the head of the answer."""


def fault(status: HTTPStatus) -> Page:
    """An answer that says no more than its status."""
    return Page(status=status, body=f"{status.phrase.lower()}\n".encode())


async def answer_requests(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    make: MakeAnswer,
    *,
    seconds: float,
    idle_seconds: float = 0,
    tell: Callable[[HTTPStatus], None] = lambda _: None,
) -> None:
    """Answer one request after the other, until either side has had enough; the caller closes the connection.

    After each answer all others have their turn, even if the next request is here already.

    Args:
        seconds: how long a peer may take to send its first request, and to read an answer.
        idle_seconds: how long it may take from an answer to the end of its next request; 0: one request for each connection.
        tell: called with the status of each answer.

    Raises:
        OSError, TimeoutError: the peer has gone, or is too slow.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_BYTES)
    patience = seconds
    for left in range(MOST_REQUESTS - 1, -1, -1):
        async with asyncio.timeout(patience):
            request = await _request(connection, reader)
        if request is None or writer.is_closing():  # asyncio logs each write after the peer has gone
            return
        page = request if isinstance(request, Page) else await _made(request, make)
        tell(page.status)
        lasts = bool(left and idle_seconds) and page.status is not HTTPStatus.BAD_REQUEST and _is_over(connection)
        writer.write(_answer(connection, request, page, lasts=lasts))
        async with asyncio.timeout(seconds):
            await writer.drain()
        if not lasts or connection.our_state is not h11.DONE:
            return
        connection.start_next_cycle()
        patience = idle_seconds
        await asyncio.sleep(0)  # neither a read of what is buffered nor a drain with room gives others their turn


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | Page | None:
    """Read the head of a request, and nothing after it; returns an error page if it is invalid, and None if the peer has left."""
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(REQUEST_BYTES))
    except h11.RemoteProtocolError as e:
        return fault(HTTPStatus(e.error_status_hint))
    if isinstance(event, h11.ConnectionClosed):  # it connected and left, like a TCP probe
        return None
    return event if isinstance(event, h11.Request) else fault(HTTPStatus.BAD_REQUEST)


def _has_two_lengths(request: h11.Request) -> bool:
    """Whether a proxy before us may take another place for the end of this request than we do (RFC 9112, 6.1)."""
    return {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}


async def _made(request: h11.Request, make: MakeAnswer) -> Page:
    if _has_two_lengths(request):
        return fault(HTTPStatus.BAD_REQUEST)
    if request.method not in {b"GET", b"HEAD"}:
        refused = fault(HTTPStatus.METHOD_NOT_ALLOWED)
        return Page(status=refused.status, body=refused.body, headers=(*refused.headers, ("allow", "GET, HEAD")))
    return await make(request)


def _is_over(connection: h11.Connection) -> bool:
    """Whether the request has ended with its head, and the peer will listen to more than one answer."""
    try:
        ended = isinstance(connection.next_event(), h11.EndOfMessage)
    except h11.RemoteProtocolError:
        return False
    return ended and connection.their_state is h11.DONE


def _answer(connection: h11.Connection, request: h11.Request | Page, page: Page, *, lasts: bool) -> bytes:
    about_body = [("content-type", page.content_type), ("content-length", str(len(page.body)))]
    headers = [
        ("date", formatdate(usegmt=True)),
        *([] if page.status is HTTPStatus.NOT_MODIFIED else about_body),
        *page.headers,
        *([] if lasts else [("connection", "close")]),
    ]
    head = h11.Response(status_code=page.status, headers=headers, reason=page.status.phrase)
    sent = connection.send(head) or b""
    if isinstance(request, Page) or request.method != b"HEAD":
        sent += connection.send(h11.Data(data=page.body)) or b""
    return sent + (connection.send(h11.EndOfMessage()) or b"") if lasts else sent
