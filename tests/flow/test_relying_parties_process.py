"""The life of the process that answers relying parties: a real one, stopped by real signals; the issuer's clock is the test's."""

import asyncio
import http.client
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec
import pytest

from bench.rig.daemons import free_port
from cognomen.daemon.troubles import Troubles
from issuer.config import IssuerConfig
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.metrics import Metrics
from issuer.queries import Queries
from issuer.web.openid import ServeRelyingParties, listen_for_relying_parties
from issuer.web.relyingparties import Document, Site, Word
from svid.spiffeid import TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.issuersurroundings import around
from tests.doubles.until import TURNS, pass_until, until
from tests.flow.twodaemons import World

_PROGRAM = "issuer.web.relyingparties"
_HOST = "oidc.example.org"
_TD = TrustDomain("example.org")
_HOUR = 3600.0


def ask(port: int, path: str = "/keys") -> int:
    """The status of an answer, as a proxy gets it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"host": _HOST, "x-forwarded-proto": "https"})
    status = connection.getresponse().status
    connection.close()
    return status


def answering(parent: int | str = "self") -> set[int]:
    """The pids of the processes that answer relying parties for that one."""
    found = set()
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in children.read_text().split():
            if _PROGRAM in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                found.add(int(pid))
    return found


def until_gone(pid: int) -> None:
    """Return once that process has ended; it may be nobody's child here."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        is_gone = bool(select.select([descriptor], [], [], 20)[0])
        if not is_gone:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert is_gone, "it still ran"
    finally:
        os.close(descriptor)


class Served:
    """What an issuer has for relying parties, running in this process, with a clock that the test moves."""

    def __init__(self, queries: Queries) -> None:
        self.port = free_port()
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.troubles = Troubles(self.clock)
        config = IssuerConfig(
            trust_domain=_TD,
            jwt_issuer=f"https://{_HOST}",
            web_address=f"127.0.0.1:{self.port}",
            web_behind_proxy=True,
        )
        listener = listen_for_relying_parties(config)
        assert listener is not None
        self.listener = listener
        surroundings = around(self.clock, troubles=self.troubles, metrics=self.metrics)
        self.serve = ServeRelyingParties(listener=listener, config=config, queries=queries, around=surroundings)

    def restarts(self) -> float:
        value = self.metrics.registry.get_sample_value("cognomen_issuer_web_restarts_total")
        assert value is not None
        return value

    def told(self) -> list[str]:
        return [f"{one.what}: {one.reason}" for one in self.troubles.all()]

    async def asked(self) -> int:
        return await asyncio.to_thread(ask, self.port)


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    store = await SQLiteDatastore.open(None)
    served = Served(Queries(store, _TD))
    task = asyncio.create_task(served.serve.run())
    try:
        yield served
    finally:
        task.cancel()
        await asyncio.wait([task])
        served.listener.close()
        await store.close()


async def test_a_process_that_was_stopped_is_noticed_and_replaced() -> None:
    async with serving() as served:
        assert await served.asked() == 200
        (stopped,) = answering()
        os.kill(stopped, signal.SIGSTOP)
        before = served.clock.monotonic()
        await pass_until(served.clock, lambda: bool(served.told()))
        assert served.clock.monotonic() - before >= 40
        assert served.told() == ["keys for relying parties: its process was silent for 40 s"]
        await pass_until(served.clock, lambda: len(answering() - {stopped}) == 1)
        assert stopped not in answering()
        assert await served.asked() == 200
        await until(lambda: not served.told())
        assert served.restarts() == 1


async def test_after_a_pause_of_this_process_or_of_the_machine_the_other_has_its_full_time() -> None:
    async with serving() as served:
        assert await served.asked() == 200
        before = answering()
        served.clock.advance(_HOUR)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert await served.asked() == 200
        assert (answering(), served.told(), served.restarts()) == (before, [], 0)


async def test_a_process_that_ended_is_replaced_and_the_trouble_is_over() -> None:
    async with serving() as served:
        assert await served.asked() == 200
        (killed,) = answering()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: bool(served.told()))
        assert served.told() == ["keys for relying parties: its process ended with -9"]
        await pass_until(served.clock, lambda: len(answering() - {killed}) == 1)
        assert await served.asked() == 200
        await until(lambda: not served.told())
        assert served.restarts() == 1


@contextmanager
def alone(
    *, output: int = subprocess.PIPE, errors: int | None = None, certificate: str = "", more: tuple[int, ...] = ()
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """That process with nobody but the test; and its port.

    Args:
        certificate: the PEM file of both its certificate and its key; empty: no TLS.
        more: descriptors that it inherits.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-m", _PROGRAM, str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            pass_fds=(listener.fileno(), *more),
        )
        try:
            assert process.stdin is not None
            site = Site(
                documents={"/keys": Document(body="{}", etag='"1"')},
                host=_HOST,
                max_age=1,
                behind_proxy=True,
                certificate=certificate,
                key=certificate,
            )
            process.stdin.write(msgspec.json.encode(site) + b"\n")
            process.stdin.flush()
            yield process, listener.getsockname()[1]
        finally:
            process.kill()
            process.wait()
            for end in (process.stdin, process.stdout):
                if end is not None:
                    end.close()


def test_it_ends_with_its_standard_input() -> None:
    with alone() as (process, port):
        assert ask(port) == 200
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0


def test_it_says_a_word_now_and_then_though_nobody_asks_for_anything() -> None:
    with alone() as (process, _):
        assert process.stdout is not None
        assert [msgspec.json.decode(process.stdout.readline(), type=Word) for _ in range(2)] == [Word(), Word()]


def test_answers_are_counted_although_as_many_were_counted_before() -> None:
    with alone() as (process, port):
        assert process.stdout is not None
        counted: Counter[str] = Counter()
        for number in range(1, 4):
            assert ask(port) == 200
            while counted["200"] < number:  # pytest's timeout ends it
                counted.update(msgspec.json.decode(process.stdout.readline(), type=Word).answers)


def test_it_says_when_it_has_no_descriptor_for_another_connection_and_when_it_has_again() -> None:
    with alone() as (process, port), ExitStack() as held:
        assert process.stdout is not None
        assert ask(port) == 200
        used = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 4, used + 4))
        for _ in range(8):
            held.callback(socket.create_connection(("127.0.0.1", port)).close)
        until_word(process.stdout, "too many open files")
        held.close()
        until_word(process.stdout, "")
        assert ask(port) == 200


def until_word(words: IO[bytes], unable: str) -> None:
    """Return at the first word that says this; pytest's timeout ends it."""
    while msgspec.json.decode(words.readline(), type=Word).unable != unable:
        pass


def test_it_has_only_what_it_needs_of_the_environment_and_can_gain_no_privilege(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "of the issuer alone")
    port = free_port()
    world = World(
        tmp_path, f"--web-address=127.0.0.1:{port}", "--web-behind-proxy=true", f"--jwt-issuer=https://{_HOST}"
    )
    with world.issuer:
        assert ask(port) == 200
        (process,) = answering(world.issuer.pid)
        assert b"PGPASSWORD" not in Path(f"/proc/{process}/environ").read_bytes()
        assert "NoNewPrivs:\t1\n" in Path(f"/proc/{process}/status").read_text()


def test_what_is_open_where_it_was_started_is_not_open_there(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of whoever started the issuer")
    with (tmp_path / "secret").open() as secret, alone(more=(secret.fileno(),)) as (process, port):
        assert ask(port) == 200
        found = [str(one.resolve()) for one in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert str(tmp_path / "secret") not in found


def fill(pipe: int) -> None:
    """Leave no room in it."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b"\n" * 4096)
    os.set_blocking(pipe, True)


def test_relying_parties_do_not_wait_for_an_issuer_that_reads_no_words() -> None:
    reading, writing = os.pipe()
    try:
        fill(writing)
        with alone(output=writing) as (_, port), os.fdopen(os.dup(reading), "rb") as words:
            assert [ask(port, "/keys" if n % 2 else "/none") for n in range(100)] == [404, 200] * 50
            counted: Counter[str] = Counter()
            while counted.total() < 100:  # pytest's timeout ends it
                if line := words.readline().strip():
                    counted.update(msgspec.json.decode(line, type=Word).answers)
            assert counted == {"200": 50, "404": 50}
    finally:
        os.close(reading)
        os.close(writing)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[World, int]]:
    port = free_port()
    world = World(
        tmp_path, f"--web-address=127.0.0.1:{port}", "--web-behind-proxy=true", f"--jwt-issuer=https://{_HOST}"
    )
    with world.issuer:
        assert ask(port) == 200
        yield world, port


def test_while_the_issuer_is_stopped_its_keys_are_served(world: tuple[World, int]) -> None:
    both, port = world
    os.kill(both.issuer.pid, signal.SIGSTOP)
    try:
        assert [ask(port) for _ in range(20)] == [200] * 20
    finally:
        os.kill(both.issuer.pid, signal.SIGCONT)
    assert json.loads(both.run("status", "--output=json").stdout)["troubles"] == []


@pytest.mark.parametrize("is_stopped", [False, True])
def test_it_ends_with_an_issuer_that_is_killed_even_while_it_is_stopped(
    world: tuple[World, int], *, is_stopped: bool
) -> None:
    (process,) = answering(world[0].issuer.pid)
    if is_stopped:
        os.kill(process, signal.SIGSTOP)
    world[0].issuer.kill()
    until_gone(process)
    socket.create_server(("127.0.0.1", world[1])).close()  # so that the next issuer finds the address free
