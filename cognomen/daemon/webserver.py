"""A few pages over HTTP/1.1 for probes and collectors: GET and HEAD, one request for each connection, on loopback only.

The pages and their contents are in the daemons' web/.
"""

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus

import h11
import msgspec
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from cognomen.daemon.config import check_loopback
from cognomen.daemon.httpserver import REQUEST_BYTES, MakeAnswer, Page, answer_requests, fault
from cognomen.protocol.errors import Kind, Refused

__all__ = ["MakePage", "WantsJSON", "alive", "check_address_free", "metrics_page", "readiness", "serve_pages"]

log = structlog.get_logger(__name__)

_SECONDS = 5.0
_MOST_CONNECTIONS = 16
_TURNS_TO_HAND_ON = 3  # turns of the loop from an accepted connection to `came`, at most
_HOST = re.compile(r"(\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[^\[\]:]+))(:[0-9]{0,5})?")


WantsJSON = bool
MakePage = Callable[[WantsJSON], Awaitable[Page]]


async def alive(wants_json: WantsJSON) -> Page:
    """Say that the event loop runs: this answer shows it."""
    return readiness((), wants_json)


def readiness(missing: Sequence[str], wants_json: WantsJSON) -> Page:
    """Say that nothing is missing, or answer 503 with what is missing.

    Shape: "ok" or a line for each missing thing; as JSON {"ready": bool, "missing": [text, …]}.
    """
    status = HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK
    if wants_json:
        body = msgspec.json.encode({"ready": not missing, "missing": missing})
        return Page(status=status, content_type="application/json", body=body + b"\n")
    return Page(status=status, body="".join(f"{line}\n" for line in missing or ["ok"]).encode())


def metrics_page(registry: CollectorRegistry) -> Page:
    """Write all metrics in the format of Prometheus."""
    return Page(content_type=CONTENT_TYPE_LATEST, body=generate_latest(registry))


def check_address_free(key: str, address: str) -> None:
    """Check that `serve_pages` could bind there; an empty address is accepted.

    Raises:
        Refused: as serve_pages.
    """
    if not address:
        return
    host, port = check_loopback(key, address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as e:
        raise _taken(key, address, e) from e


@contextlib.asynccontextmanager
async def serve_pages(
    pages: Mapping[str, MakePage], key: str, address: str, *, seconds: float = _SECONDS
) -> AsyncIterator[None]:
    """Serve pages by their paths while the block runs; serve nothing if the address is empty.

    At most 16 connections are open: a new one closes the oldest, so that nobody can shut out a probe by holding them.

    Args:
        key: the key of the configuration that holds the address.
        seconds: how long a peer may take to send its request, and to read the answer; also how long a page may take, else 503.

    Raises:
        Refused: UNAVAILABLE, naming the key, when the address is taken.
    """
    if not address:
        yield
        return
    host, port = check_loopback(key, address)
    make = partial(_page, pages=pages, seconds=seconds)
    open_now: dict[asyncio.Task[None], None] = {}  # oldest first

    def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(open_now) >= _MOST_CONNECTIONS:
            oldest = next(iter(open_now))
            del open_now[oldest]
            oldest.cancel()
        task = asyncio.create_task(_answer_or_leave(reader, writer, make, seconds))
        open_now[task] = None

        def gone(task: asyncio.Task[None]) -> None:  # also called for a task that was cancelled before it began
            open_now.pop(task, None)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

        task.add_done_callback(gone)

    try:
        server = await asyncio.start_server(came, host, port, limit=REQUEST_BYTES)
    except OSError as e:
        raise _taken(key, address, e) from e
    try:
        log.info("pages served", address=address, paths=sorted(pages))
        yield
    finally:
        await _stop_accepting(server)
        for task in (left := list(open_now)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # the turn in which asyncio closes their sockets


async def _stop_accepting(server: asyncio.Server) -> None:
    """Close the server once it has handed on each connection that it has accepted: asyncio would leave the others open."""
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(_TURNS_TO_HAND_ON):
        await asyncio.sleep(0)
    server.close()


def _taken(key: str, address: str, error: OSError) -> Refused:
    return Refused(
        Kind.UNAVAILABLE,
        f"{key}: cannot bind {address}: {os.strerror(error.errno or 0).lower()}",
        hint=f"name another {key}",
    )


async def _answer_or_leave(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, make: MakeAnswer, seconds: float
) -> None:
    with contextlib.suppress(OSError, TimeoutError):  # the peer has gone, or is too slow
        await answer_requests(reader, writer, make, seconds=seconds)


async def _page(request: h11.Request, pages: Mapping[str, MakePage], seconds: float) -> Page:
    if not all(_is_loopback(value) for name, value in request.headers if name == b"host"):
        return fault(HTTPStatus.MISDIRECTED_REQUEST)
    path = request.target.decode("latin-1").partition("?")[0]
    make = pages.get(path)
    if make is None:
        return fault(HTTPStatus.NOT_FOUND)
    accepted = b",".join(value for name, value in request.headers if name == b"accept")
    try:
        async with asyncio.timeout(seconds):
            return await make(b"application/json" in accepted)
    except TimeoutError:
        log.warning("page took too long", path=path, seconds=seconds)
        return fault(HTTPStatus.SERVICE_UNAVAILABLE)
    except Exception:  # as at every door: logged here, and not shown to the peer
        log.exception("page failed", path=path)
        return fault(HTTPStatus.INTERNAL_SERVER_ERROR)


def _is_loopback(host: bytes) -> bool:
    """Whether a Host header names loopback; a website whose DNS name points here (DNS rebinding) sends its own name."""
    match = _HOST.fullmatch(host.decode("latin-1"))
    if match is None:
        return False
    name = match["six"] or match["name"]
    if name.lower() in {"localhost", "localhost."}:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
