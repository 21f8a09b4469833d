"""The keys of our JWT authorities, where relying parties of OpenID Connect look for them: one process beside the issuer's answers them.

cognomen/protocol/openid writes the documents; relyingparties is that process. We start it again whenever it ends.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import structlog

import issuer
from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.process.privatefile import read_given
from cognomen.protocol.addresses import host_and_port
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.openid import DISCOVERY_PATH, KEYS_PATH, check_issuer_url, discovery_document, keys_document
from issuer.config import IssuerConfig
from issuer.queries import Queries
from issuer.surroundings import Surroundings
from issuer.web.relyingparties import MAX_LINE_BYTES, Document, Site, Word, tls_context
from svid.backoff import Backoff
from svid.bundle import Bundle

__all__ = ["ServeRelyingParties", "check_certificate", "listen_for_relying_parties"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=100), maximum=timedelta(seconds=30))
_LEAST_BETWEEN = 0.25  # seconds between two looks at the bundle: entries change the store far more often
_LONGEST_KEPT = timedelta(minutes=5)
_END_SECONDS = 2.0
_MAX_PEM_BYTES = 64 * 1024
_PROGRAM = "issuer.web.relyingparties"
_OWN_CODE = os.pathsep.join(filter(None, [str(Path(issuer.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
_UNREAD = "certificate of web_address"


def listen_for_relying_parties(config: IssuerConfig) -> socket.socket | None:
    """Take web_address, and check the files that are to be served there; None: it is not set.

    Raises:
        Refused: UNAVAILABLE when the address is taken; INVALID when a file is no PEM of its kind, or the key is open to others.
    """
    if not config.web_address:
        return None
    if config.web_certificate_file:
        check_certificate(config)
    host, port = host_and_port(config.web_address)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as e:
        raise Refused(
            Kind.UNAVAILABLE,
            f"web_address: cannot bind {config.web_address}: {(e.strerror or str(e)).lower()}",
            hint="name another web_address",
        ) from e


def check_certificate(config: IssuerConfig) -> None:
    """Check the files with which web_address is served over HTTPS.

    Raises:
        Refused: as listen_for_relying_parties.
    """
    read_given(Path(config.web_key_file), "web_key_file", max_bytes=_MAX_PEM_BYTES)
    try:
        tls_context(config.web_certificate_file, config.web_key_file)
    except OSError as e:
        raise Refused(
            Kind.INVALID,
            f"web_certificate_file: cannot serve {config.web_certificate_file} with {config.web_key_file}:"
            f" {(e.strerror or str(e)).lower()}",
            hint="a PEM chain, the listener's own certificate first, and the PEM of its key without a password",
        ) from e


class ServeRelyingParties:
    """Keeps that process running, and tells it what to serve.

    Args:
        listener: where relying parties come; we keep it while the process is started again.
    """

    def __init__(
        self, *, listener: socket.socket, config: IssuerConfig, queries: Queries, around: Surroundings
    ) -> None:
        self._listener = listener
        self._config = config
        self._queries = queries
        self._around = around
        self.pulse = Pulse()
        self._attempts = Attempts(
            log,
            around.clock,
            pulse=self.pulse,
            troubles=around.troubles,
            trouble="keys for relying parties",
            over="keys served to relying parties again",
            failure=Failure(event="keys not served to relying parties", again=_BACKOFF),
            jitter=around.jitter,
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            with self._attempts.trying():
                await self._serve()
            await self._attempts.rest()

    async def _serve(self) -> None:
        """Serve until that process ends.

        Raises:
            Refused: UNAVAILABLE when it has ended.
        """
        async with self._process() as process, asyncio.TaskGroup() as group:
            feeding = group.create_task(self._feed(process))
            hearing = group.create_task(self._hear(process))
            self.pulse.rest()
            await hearing
            feeding.cancel()
        raise Refused(Kind.UNAVAILABLE, f"its process ended with {process.returncode}")

    @contextlib.asynccontextmanager
    async def _process(self) -> AsyncIterator[asyncio.subprocess.Process]:
        descriptor = self._listener.fileno()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _PROGRAM, str(descriptor)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(descriptor,),
                env={**os.environ, "PYTHONPATH": _OWN_CODE},
                limit=MAX_LINE_BYTES,
            )
        except OSError as e:
            raise Refused(Kind.UNAVAILABLE, f"its process cannot be started: {(e.strerror or str(e)).lower()}") from e
        try:
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _feed(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None  # noqa: S101 - it was started with a pipe
        seen, sent = 0, None
        while True:
            try:
                bundle = await self._queries.get_bundle()
                if (site := self._site(bundle)) != sent:
                    process.stdin.write(msgspec.json.encode(site) + b"\n")
                    await process.stdin.drain()
                    sent = site
                    log.info(
                        "keys served to relying parties",
                        issuer=self._config.jwt_issuer,
                        keys=sorted(bundle.jwt_authorities),
                    )
                seen = await self._queries.wait_for_change(seen)
            except Refused:  # the store's own watch reports it; what was served last is still right
                pass
            except ConnectionError:  # it has ended, as `_hear` finds out
                return
            await self._around.clock.sleep(_LEAST_BETWEEN)

    def _site(self, bundle: Bundle) -> Site:
        config, parts = self._config, check_issuer_url(self._config.jwt_issuer)
        documents = {
            f"{parts.path}{DISCOVERY_PATH}": discovery_document(config.jwt_issuer),
            f"{parts.path}{KEYS_PATH}": keys_document(bundle),
        }
        return Site(
            documents={path: _document(body) for path, body in documents.items()},
            host=parts.netloc,
            max_age=max(1, min(config.authority_spread / 2, _LONGEST_KEPT) // timedelta(seconds=1)),
            behind_proxy=config.web_behind_proxy,
            certificate=config.web_certificate_file,
            key=config.web_key_file,
        )

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was started with a pipe
        metrics, troubles = self._around.metrics, self._around.troubles
        while line := await process.stdout.readline():
            word = msgspec.json.decode(line, type=Word)
            for status, count in word.answers.items():
                metrics.web_answers.labels(status).inc(count)
            metrics.web_connections_refused.inc(word.turned_away)
            if word.unread:
                troubles.note(_UNREAD, word.unread, hint="the one that was there before is still served")
            else:
                troubles.over(_UNREAD)


def _document(body: bytes) -> Document:
    return Document(body=body.decode(), etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"')
