"""The process that answers relying parties of OpenID Connect: it serves a few documents, and holds no key that signs.

Strangers of the whole Internet come here, so that they cost the issuer's own process nothing, and find nothing there that they could use.
issuer/web/openid starts this process, gives it the listener and the documents, and reads from it what it has to tell.

Standard input: one JSON object (`Site`) a line; each replaces the one before. At its end the process ends.
Standard output: one JSON object (`Word`) a line, at least every few seconds, so that the issuer notices if this process hangs. While nobody
reads them, what they would count is kept for the next one.
"""

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import re
import signal
import socket
import ssl
import sys
import threading
from asyncio.sslproto import SSLProtocol
from collections import Counter
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn

import h11
import msgspec

from cognomen.daemon.httpserver import REQUEST_BYTES, Page, answer_requests, fault
from cognomen.protocol.errors import Refused
from issuer.api.crowd import address_of
from issuer.web.pemfiles import check_regular, own_certificate, pem_files, tls_context
from svid.clock import SystemClock

__all__ = [
    "MAX_LINE_BYTES",
    "MAX_SILENCE_SECONDS",
    "Document",
    "Site",
    "Word",
]

MAX_LINE_BYTES = 8 * 1024 * 1024
"""The longest line between the two processes."""

MAX_SILENCE_SECONDS = 5.0
"""How long this process waits for something to tell; then it says a word all the same, as a sign of life."""

_SECONDS = 5.0
_IDLE_SECONDS = 20.0
_CONNECTIONS = 512
_PER_ADDRESS = 64
_TELL_SECONDS = 1.0
_READ_SECONDS = 2.0
_REST_SECONDS = 0.1
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # prctl(2)
_PORT = re.compile(r":[0-9]*$")
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What one path answers."""

    body: str
    etag: str


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """All that is served.

    Args:
        documents: by path.
        host: the only one whose documents these are, with its port if it is not 443.
        max_age: how long a relying party may keep them, in seconds.
        behind_proxy: who connects is a proxy, which says for each request that it came over HTTPS.
        certificate, key: paths of PEM files; empty: no TLS.
    """

    documents: dict[str, Document]
    host: str
    max_age: int
    behind_proxy: bool = False
    certificate: str = ""
    key: str = ""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What this process tells the issuer.

    Args:
        answers: how many since the last word, by status.
        unread: why the files of the certificate cannot be used; empty: the certificate that is served is the one in them.
        unable: why no further connection can be taken; empty: one can.
        turned_away: how many connections found no room since the last word.
        served: the certificate that is served, DER, the listener's own; empty: none, or one that we cannot take out of its file.
    """

    answers: dict[str, int] = {}
    unread: str = ""
    unable: str = ""
    turned_away: int = 0
    served: bytes = b""

    @property
    def counts(self) -> bool:
        """Whether it counts anything, so that an equal one would not say the same again."""
        return bool(self.answers or self.turned_away)


class _Server:
    """Everything that one connection shares with the others."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.answers: Counter[str] = Counter()
        self.turned_away = 0
        self.unable = ""
        self.tls = _Certificate(site.certificate, site.key) if site.certificate else None
        self._room = _Room(_CONNECTIONS, of_one=_CONNECTIONS if site.behind_proxy else _PER_ADDRESS)

        self._unserved: set[socket.socket] = set()

    async def accept(self, listener: socket.socket) -> NoReturn:
        """Serve who connects, forever. Each counts from the moment it connects, before TLS costs anything."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, (host, *_) = await loop.sock_accept(listener)
            except OSError as e:  # it has gone already, or there is no descriptor for it
                self.unable = (e.strerror or str(e)).lower() if e.errno in _EXHAUSTED else ""
                await asyncio.sleep(_REST_SECONDS)
                continue
            self.unable = ""
            self._unserved.add(connection)
            task = loop.create_task(self._serve(connection))
            task.add_done_callback(self._room.leave)
            task.add_done_callback(partial(self._close_unserved, connection))
            if (gone := self._room.enter(task, address_of(host))) is not None:
                self.turned_away += 1
                gone.cancel()
            await asyncio.sleep(0)  # the others' turn: an accept that finds somebody does not wait

    def _close_unserved(self, connection: socket.socket, _: asyncio.Task[None]) -> None:
        """Close a connection whose task was cancelled before it began; any other belongs to a transport, which alone may close it."""
        if connection in self._unserved:
            self._unserved.remove(connection)
            connection.close()

    async def _serve(self, connection: socket.socket) -> None:
        self._unserved.remove(connection)
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=REQUEST_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        tls = None if self.tls is None else self.tls.context
        with contextlib.suppress(OSError, TimeoutError):  # the peer has gone, is too slow, or speaks no TLS
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else _SECONDS,
                ssl_shutdown_timeout=None if tls is None else _REST_SECONDS,
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            try:
                await answer_requests(
                    reader, writer, self._answer, seconds=_SECONDS, idle_seconds=_IDLE_SECONDS, tell=self._count
                )
            finally:
                transport.abort() if transport.get_write_buffer_size() else transport.close()

    async def _answer(self, request: h11.Request) -> Page:
        return _page(request, self.site)

    def _count(self, status: HTTPStatus) -> None:
        self.answers[str(status.value)] += 1

    def word(self) -> Word:
        """What there is to tell since the last word."""
        word = Word(
            answers=dict(self.answers),
            unread="" if self.tls is None else self.tls.unread,
            unable=self.unable,
            turned_away=self.turned_away,
            served=b"" if self.tls is None else self.tls.served,
        )
        self.answers.clear()
        self.turned_away = 0
        return word


class _Room:
    """Who is connected. One more than there is room for ends the oldest of the same address, or of the address with the most.

    Args:
        of_one: how many of one address.
    """

    def __init__(self, most: int, *, of_one: int) -> None:
        self._most = most
        self._of_one = of_one
        self._of: dict[bytes, dict[asyncio.Task[None], None]] = {}  # the oldest first
        self._addresses: dict[asyncio.Task[None], bytes] = {}

    def enter(self, one: asyncio.Task[None], address: bytes) -> asyncio.Task[None] | None:
        """Let it in; returns the one that has to go for it."""
        own = self._of.get(address, {})
        crowded = own if len(own) >= self._of_one else None
        if crowded is None and len(self._addresses) >= self._most:
            crowded = max(self._of.values(), key=len)
        gone = None if crowded is None else next(iter(crowded))
        if gone is not None:
            self.leave(gone)
        self._of.setdefault(address, {})[one] = None
        self._addresses[one] = address
        return gone

    def leave(self, one: asyncio.Task[None]) -> None:
        """Forget it, if it is there."""
        if (address := self._addresses.pop(one, None)) is not None:
            own = self._of[address]
            del own[one]
            if not own:
                del self._of[address]


def _page(request: h11.Request, site: Site) -> Page:
    headers = dict(request.headers)
    schemes = {value.lower() for name, value in request.headers if name == b"x-forwarded-proto"}
    if site.behind_proxy and schemes != {b"https"}:  # one of two may be the client's own
        return Page(status=HTTPStatus.FORBIDDEN, body=b"forbidden: expected X-Forwarded-Proto: https\n")
    host, path = _target(request.target.decode("latin-1"), headers.get(b"host", b"").decode("latin-1"))
    if host != site.host:
        return fault(HTTPStatus.MISDIRECTED_REQUEST)
    document = site.documents.get(path)
    if document is None:
        return fault(HTTPStatus.NOT_FOUND)
    caching = (("cache-control", f"public, max-age={site.max_age}"), ("etag", document.etag))
    wanted = headers.get(b"if-none-match", b"").decode("latin-1")
    if wanted.strip() == "*" or document.etag in {one.strip().removeprefix("W/") for one in wanted.split(",")}:
        return Page(status=HTTPStatus.NOT_MODIFIED, headers=caching)
    return Page(
        content_type="application/json",
        body=document.body.encode(),
        headers=(*caching, ("x-content-type-options", "nosniff")),
    )


def _target(target: str, host: str) -> tuple[str, str]:
    """The host and the path that a request means: a target that is a whole URL counts, whatever its Host is (RFC 9112, section 3.2.2)."""
    if target.lower().startswith(("http://", "https://")):
        host, _, path = target.partition("://")[2].partition("/")
        target = f"/{path}"
    bare = host.removesuffix(":443")
    return (host if _PORT.search(bare) else bare).lower(), target.partition("?")[0]


class _Certificate:
    """The certificate of the listener, as it is in its files; while they are half-written or cannot be read, the one before.

    A thread reads them: a file system may never answer, and what was read from it before is served meanwhile.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._files = (certificate, key)
        self._seen: object = None
        self._now: ssl.SSLContext | None = None
        self.unread = ""
        self.served = b""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._choose
        self._looking: asyncio.Event | None = None

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        if self._now is None:
            return ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._now
        return None

    async def look(self) -> None:
        """Read the files if they have changed, or who may read them, since they were last read well; for a moment at most."""
        if self._looking is None:
            loop, self._looking = asyncio.get_running_loop(), asyncio.Event()
            threading.Thread(target=self._look, args=(loop, self._looking), name="certificate", daemon=True).start()
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await self._looking.wait()
        except TimeoutError:
            self.unread = "the file system does not answer"
        else:
            self._looking = None

    def _look(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        try:
            seen = [_state(Path(one)) for one in self._files]
            if seen != self._seen:
                chain, key = pem_files(*self._files)
                self._now = tls_context(chain, key)
                self.served = own_certificate(chain)
                self._seen = seen
            self.unread = ""
        except OSError as e:
            self.unread = (getattr(e, "reason", None) or e.strerror or str(e)).lower()
        except Refused as e:
            self.unread = e.detail
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(ended.set)


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat()
    check_regular(path, found)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode, found.st_uid


async def _serve(listener: socket.socket, own: asyncio.StreamReader, issuer: asyncio.WriteTransport) -> None:
    server = _Server(msgspec.json.decode(await own.readline(), type=Site))
    if server.tls is not None:
        await server.tls.look()
    async with asyncio.TaskGroup() as tasks:
        helpers = [tasks.create_task(server.accept(listener)), tasks.create_task(_tell(server, issuer))]
        while line := await own.readline():
            server.site = msgspec.json.decode(line, type=Site)
        for one in helpers:
            one.cancel()


async def _tell(server: _Server, issuer: asyncio.WriteTransport) -> NoReturn:
    clock, told, told_at = SystemClock(), None, 0.0
    while True:
        if server.tls is not None:
            await server.tls.look()
        if (
            not issuer.get_write_buffer_size()
        ):  # else the issuer has stopped reading, and relying parties must not wait for it
            word, now = server.word(), clock.monotonic()
            if word.counts or word != told or now - told_at >= MAX_SILENCE_SECONDS:
                issuer.write(msgspec.json.encode(word) + b"\n")
                told, told_at = word, now
        await asyncio.sleep(_TELL_SECONDS)


async def _main() -> None:
    own, loop = asyncio.StreamReader(limit=MAX_LINE_BYTES), asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(own), sys.stdin.buffer)
    issuer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout.buffer)
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        listener.setblocking(False)
        await _serve(listener, own, issuer)


def _restrict_ourselves() -> None:
    """End with the issuer, take no privilege from a program that we would start, and hold nothing open that is not ours.

    If the issuer were killed while this process is stopped, this process would otherwise keep the address from the next issuer.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = int(sys.argv[1])
    os.closerange(3, listener)  # what the issuer was started with may be anything
    os.closerange(listener + 1, os.sysconf("SC_OPEN_MAX"))


if __name__ == "__main__":
    _restrict_ourselves()
    for number in (signal.SIGINT, signal.SIGHUP):  # of the terminal: the issuer decides when this process ends
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # its warnings are of strangers, and go to the issuer's log
    SSLProtocol.max_size = REQUEST_BYTES  # the buffer of each connection, 256 KiB otherwise
    asyncio.run(_main())
