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
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

import msgspec
import structlog

import issuer
from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.waiting import first_of
from cognomen.protocol.addresses import host_and_port
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.openid import DISCOVERY_PATH, KEYS_PATH, check_issuer_url, discovery_document, keys_document
from issuer.config import IssuerConfig
from issuer.decisions.webcertificate import certificate_faults
from issuer.queries import Queries
from issuer.surroundings import Surroundings
from issuer.web.pemfiles import own_certificate, pem_files, read_chain, tls_context
from issuer.web.relyingparties import MAX_LINE_BYTES, Document, Site, Word
from svid.backoff import Backoff
from svid.bundle import Bundle

__all__ = ["ServeRelyingParties", "check_certificate", "listen_for_relying_parties", "web_warnings"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=100), maximum=timedelta(seconds=30))
_LEAST_BETWEEN = 0.25  # seconds between two looks at the bundle: entries change the store far more often
_LONGEST_KEPT = timedelta(minutes=5)
_END_SECONDS = 2.0
_PROGRAM = "issuer.web.relyingparties"
_OWN_CODE = os.pathsep.join(filter(None, [str(Path(issuer.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
_KEPT_NAMES = ("LANG", "LC_", "LD_LIBRARY_PATH", "OPENSSL_", "PATH", "PYTHON", "TZ")
_LOOK_SECONDS = 10.0
_MOST_LOOKS = 4  # without a word, which comes every 5 s: a busy machine may delay some
_HEALTHY_SECONDS = 60.0
_UNREAD = "certificate of web_address"
_STILL_SERVED = "the one that was there before is still served"
_NONE_SERVED = "relying parties cannot connect until web_certificate_file and web_key_file can be used"
_UNABLE = "connections of relying parties"
_UNFIT = "certificate served at web_address"
_NO_KEYS = (
    "jwt_issuer: without web_address, relying parties find no keys unless `cognomen bundle export` hands them over,"
    " again before each next authority signs"
)
_UNFIT_HINT = "put one for the host of jwt_issuer into web_certificate_file; it is served from then on"


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
            f"web_address: cannot bind {config.web_address}: {(e.strerror or str(e)).partition(' (while')[0].lower()}",
            hint="name another web_address",
        ) from e


def check_certificate(config: IssuerConfig) -> None:
    """Check the files with which web_address is served over HTTPS.

    Raises:
        Refused: as listen_for_relying_parties.
    """
    try:
        tls_context(*pem_files(config.web_certificate_file, config.web_key_file))
    except OSError as e:
        raise Refused(
            Kind.INVALID,
            f"web_certificate_file: cannot serve {config.web_certificate_file} with {config.web_key_file}:"
            f" {(e.strerror or str(e)).lower()}",
            hint="a PEM chain, the listener's own certificate first, and the PEM of its key without a password",
        ) from e


def web_warnings(config: IssuerConfig, *, now: datetime) -> Sequence[str]:
    """What is allowed, and leaves relying parties without keys.

    Raises:
        OSError, Refused: the certificate cannot be read.
    """
    if config.jwt_issuer and not config.web_address:
        return [_NO_KEYS]
    if not config.web_certificate_file:
        return []
    served = own_certificate(read_chain(config.web_certificate_file))
    return [f"web_certificate_file: {fault}" for fault in _faults(served, config, now)]


def _faults(served: bytes, config: IssuerConfig, now: datetime) -> Sequence[str]:
    return certificate_faults(served, check_issuer_url(config.jwt_issuer).hostname or "", now=now) if served else []


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
            failures=around.metrics.web_restarts,
        )
        self._words = 0
        self._told: tuple[str, ...] = ()
        self._unread = ""

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            with self._attempts.trying():
                await self._serve()
            await self._attempts.rest()

    async def _serve(self) -> None:
        """Serve until that process ends, or hangs.

        Raises:
            Refused: UNAVAILABLE then.
        """
        async with self._process() as process:
            self.pulse.rest()
            await first_of(self._feed(process), self._hear(process), self._until_silent(process))
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
                env=_reduced_environment(),
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
        """Take its words until it ends.

        Raises:
            Refused: UNAVAILABLE when it says something else.
        """
        assert process.stdout is not None  # noqa: S101 - it was started with a pipe
        metrics = self._around.metrics
        while line := await process.stdout.readline():
            try:
                word = msgspec.json.decode(line, type=Word)
            except (msgspec.MsgspecError, UnicodeDecodeError) as e:
                raise Refused(Kind.UNAVAILABLE, f"its process said something that is no word: {e}") from e
            self._words += 1
            self._attempts.well()
            for status, count in word.answers.items():
                metrics.web_answers.labels(status).inc(count)
            metrics.web_connections_refused.inc(word.turned_away)
            self._tell_of_connections(word)
            self._tell_of_certificate(word)

    def _tell_of_connections(self, word: Word) -> None:
        if word.unable:
            self._around.troubles.note_lasting(
                _UNABLE, word.unable, hint="no further one is taken; see the limits of the issuer's unit"
            )
        else:
            self._around.troubles.over(_UNABLE)

    def _tell_of_certificate(self, word: Word) -> None:
        troubles = self._around.troubles
        hint = _STILL_SERVED if word.served else _NONE_SERVED
        if word.unread:
            troubles.note_lasting(_UNREAD, word.unread, hint=hint)
        else:
            troubles.over(_UNREAD)
        if word.unread != self._unread:
            self._unread = word.unread
            if word.unread:
                log.warning("certificate for relying parties not read", reason=word.unread, hint=hint)
            else:
                log.info("certificate for relying parties read again")
        faults = tuple(_faults(word.served, self._config, self._around.clock.now()))
        if faults:
            troubles.note_lasting(_UNFIT, "; ".join(faults), hint=_UNFIT_HINT)
        else:
            troubles.over(_UNFIT)
        if faults != self._told:
            self._told = faults
            if faults:
                log.warning("relying parties may refuse the certificate", faults=faults, hint=_UNFIT_HINT)
            else:
                log.info("certificate for relying parties is good again")

    async def _until_silent(self, process: asyncio.subprocess.Process) -> NoReturn:
        """Wait until that process says nothing for too long, and end it then.

        We count looks rather than time, so that it gets its full time after this process was stopped, or after the machine slept.

        Raises:
            Refused: UNAVAILABLE
        """
        clock = self._around.clock
        began, words, looks = clock.monotonic(), self._words, 0
        while looks < _MOST_LOOKS:
            await clock.sleep(_LOOK_SECONDS)
            before, words = words, self._words
            looks = looks + 1 if words == before else 0
            if not looks and clock.monotonic() - began >= _HEALTHY_SECONDS:
                self._attempts.begin_anew()
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # it may be stopped, and would not notice that its standard input ends
        raise Refused(Kind.UNAVAILABLE, f"its process was silent for {looks * _LOOK_SECONDS:.0f} s")


def _reduced_environment() -> dict[str, str]:
    """What Python and OpenSSL need; the issuer's own may hold secrets."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT_NAMES)}
    return {**kept, "PYTHONPATH": _OWN_CODE}


def _document(body: bytes) -> Document:
    return Document(body=body.decode(), etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"')
