"""Real servers on loopback that note what they are asked: a web server, and a proxy in front of one."""

import asyncio
import contextlib
import gc
import ssl
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator

__all__ = ["Seen", "proxy", "web_server"]

_SECONDS = 20
_TURNS = 4  # of the loop, in which asyncio closes what was aborted


class Seen:
    """Where a server listens, and the heads of the requests that it was sent."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heads: list[str] = []

    @property
    def tunnels(self) -> list[str]:
        """Where a proxy was asked to dial."""
        return [head.split()[1] for head in self.heads if head.startswith("CONNECT ")]


@contextlib.contextmanager
def web_server(context: ssl.SSLContext | None = None, *, location: str = "") -> Iterator[Seen]:
    """Answer every request 200 and `hello`, or with a redirection that keeps method and body.

    Args:
        context: its TLS; None: plain http.
        location: where to, if anywhere.
    """
    status = f"307 Temporary Redirect\r\nlocation: {location}" if location else "200 OK"
    answer = f"HTTP/1.1 {status}\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello".encode()

    async def serve(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(answer)
        await writer.drain()

    with _running(serve, context) as seen:
        yield seen


@contextlib.contextmanager
def proxy(context: ssl.SSLContext | None = None) -> Iterator[Seen]:
    """Dial where CONNECT says, and carry bytes; answer every other request by itself, as a proxy does that forwards.

    Args:
        context: the TLS to the proxy itself; None: none.
    """

    async def serve(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.heads.append(head)
        method, target, *_ = head.split()
        if method != "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nproxy")
            await writer.drain()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            carrying = [
                asyncio.ensure_future(_carry(reader, far_writer)),
                asyncio.ensure_future(_carry(far_reader, writer)),
            ]
            await asyncio.wait(carrying, return_when=asyncio.FIRST_COMPLETED)
            for one in carrying:
                one.cancel()
            await asyncio.gather(*carrying, return_exceptions=True)
        finally:
            far_writer.close()

    with _running(serve, context) as seen:
        yield seen


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()


@contextlib.contextmanager
def _running(
    serve: Callable[[Seen, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    context: ssl.SSLContext | None,
) -> Iterator[Seen]:
    """Serve on a free port of loopback, in a thread of its own."""
    loop, stop, started, seen = asyncio.new_event_loop(), asyncio.Event(), threading.Event(), Seen(0)

    open_now: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):  # whoever called has left, as it should
            async with asyncio.timeout(_SECONDS):
                await serve(seen, reader, writer)

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = loop.create_task(answer(reader, writer))
        open_now.add(task)

        def gone(task: asyncio.Task[None]) -> None:  # also one that was cancelled before it began
            open_now.discard(task)
            writer.transport.abort() if task.cancelled() else writer.close()

        task.add_done_callback(gone)

    async def main() -> None:
        async with await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context) as listening:
            seen.port = listening.sockets[0].getsockname()[1]
            started.set()
            await stop.wait()
        for _ in range(_TURNS):  # for what was accepted just now: cancelled before it begins, it is closed by nobody
            await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}  # those that asyncio accepts connections by, too
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        transports: list[asyncio.WriteTransport] = [*loop._transports.values()]  # type: ignore[attr-defined]  # of handshakes
        for transport in transports:
            transport.abort()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    loop.set_exception_handler(lambda _, __: None)  # of connections that were cut
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    assert started.wait(_SECONDS)
    try:
        yield seen
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        with (
            warnings.catch_warnings()
        ):  # a handshake that was cut leaves its socket to the collector, in this double alone
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
