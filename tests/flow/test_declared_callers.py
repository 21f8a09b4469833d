"""From the rulebook to the handshake: both daemons, three components over mutual TLS, and who of them may call the third."""

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from svid.clock import SystemClock
from svid.errors import AuthorizationError
from svid.spiffeid import SpiffeID
from svid.tls.authorize import any_in
from svid.tls.connections import CheckedSocket
from svid.tls.context import LiveContext, client_context, server_context
from svid.tls.declared import declared
from svid.tls.refusals import OutdatedHandshakeError, UnwantedPeerError
from svid.tls.reports import Reason, Refusal
from svid.workloadapi.sources import X509Source
from svid.x509svid import X509SVID
from tests.doubles.project import ROOT
from tests.flow.twodaemons import World

pytestmark = pytest.mark.timeout(120)

RULES = """\
[agent.shop]
owner = "shop@example.org"
purpose = "sells things"
nodes = ["join_token:label:a:b"]

[agent.shop.component.front]
kind = "orchestrator"
selectors = ["unix:uid:{uid}"]
allow = ["overlap"]
may_call = ["stock"]

[agent.shop.component.adviser]
kind = "reasoning"
selectors = ["unix:uid:{uid}"]
allow = ["overlap"]
may_call = [{calls}]

[agent.shop.component.stock]
kind = "connector"
selectors = ["unix:uid:{uid}"]
allow = ["overlap"]
"""


class Ahead:
    """The system's clock, of which a test may say that more time has passed."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.by = timedelta()

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.by.total_seconds()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


class Changed:
    """Wakes a test when an authorizer's answers may have changed."""

    def __init__(self, subscribe: Callable[[Callable[[], None]], object]) -> None:
        self._rung = threading.Semaphore(0)
        subscribe(self._rung.release)

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self._rung.acquire(timeout=20)


def component(name: str) -> Callable[[Sequence[X509SVID]], X509SVID]:
    """All three are this user's: each program picks its own identity."""
    return lambda svids: next(one for one in svids if one.spiffe_id.path == f"/agent/shop/{name}")


class Shop:
    """The running daemons, and the three components."""

    def __init__(self, world: World, rules: Path) -> None:
        self._world, self._rules = world, rules
        self.apply()
        self.clock = Ahead()
        self.refusals: list[Refusal] = []
        with ExitStack() as leaving:
            self.front, self.adviser, self.stock = (
                leaving.enter_context(X509Source(f"unix://{world.workload}", pick=component(name), clock=self.clock))
                for name in ("front", "adviser", "stock")
            )
            self.authorize = declared(self.stock)
            self.changed = Changed(self.authorize.subscribe)
            self.authorize.wait()
            self.door = server_context(self.stock, self.authorize, on_refused=self.refusals.append)
            self.close = leaving.pop_all().close

    def apply(self, *called_by_the_adviser: str) -> None:
        calls = ", ".join(f'"{one}"' for one in called_by_the_adviser)
        self._rules.write_text(RULES.format(uid=os.getuid(), calls=calls))
        done = self._world.run("apply", str(self._rules))
        assert done.returncode == 0, done.stderr

    def call(self, source: X509Source) -> "Call":
        return Call(self.door, client_context(source, any_in("example.org")))

    def knows(self, source: X509Source) -> bool:
        return not self.authorize.is_unwanted(source.svid.spiffe_id)


class Call:
    """One connection to the door, whose two ends are in this process; raises what the door's end raises."""

    def __init__(self, door: LiveContext, ours: LiveContext) -> None:
        near, far = socket.socketpair()
        near.settimeout(20)
        far.settimeout(20)
        with ThreadPoolExecutor(1) as pool, ExitStack() as on_error:
            on_error.callback(near.close)
            on_error.callback(far.close)
            accepted = pool.submit(door.wrap_socket, far, server_side=True)
            self.near = ours.wrap_socket(near)
            on_error.callback(self.near.close)
            self.far = accepted.result(20)
            on_error.pop_all()

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("w"))
    with world.running():
        yield world


@pytest.fixture
def shop(world: World, tmp_path: Path) -> Iterator[Shop]:
    with closing(Shop(world, tmp_path / "shop.toml")) as shop:
        yield shop


def test_only_a_declared_caller_is_admitted_and_an_apply_changes_that_in_both_ways(shop: Shop) -> None:
    with closing(shop.call(shop.front)) as call:
        call.near.sendall(b"hello")
        assert call.far.recv(5) == b"hello"
    with pytest.raises(UnwantedPeerError, match=r"expected a declared caller of .*/agent/shop/stock, found .*/adviser"):
        shop.call(shop.adviser)
    assert [(one.reason, one.peer) for one in shop.refusals] == [
        (Reason.NOT_ALLOWED, SpiffeID.parse("spiffe://example.org/agent/shop/adviser"))
    ]
    before = shop.adviser.svid.serial, shop.stock.svid.serial
    shop.apply("stock")
    shop.changed.until(lambda: shop.knows(shop.adviser))
    with closing(shop.call(shop.adviser)) as call, closing(shop.call(shop.front)) as others:
        call.near.sendall(b"hello")
        assert call.far.recv(5) == b"hello"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(call.far.recv, 1)
            shop.apply()
            with pytest.raises(AuthorizationError, match="adviser is no longer a declared caller"):
                waiting.result(20)
        assert isinstance(others.far, CheckedSocket)
        assert not others.far.revoked
        others.near.sendall(b"still")
        assert others.far.recv(5) == b"still"
    with pytest.raises(UnwantedPeerError):
        shop.call(shop.adviser)
    assert shop.stock.svid.serial == before[1]  # who may call it is in no certificate


def test_the_code_of_how_to_protect_a_service_admits_whom_the_rulebook_declares(
    world: World, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "how-to" / "protect-a-service.md").read_text()
    (code,) = re.findall(
        r"```python\n(.*?)```", page.partition("## Only who is declared")[2].partition("\n## ")[0], re.DOTALL
    )
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", f"unix://{world.workload}")
    names: dict[str, object] = {"ours": component("stock")}  # the others are this user's as well, and so is /web
    exec(code.replace("X509Source()", "X509Source(pick=ours)"), names)  # noqa: S102 - our own page
    source, context = names["source"], names["context"]
    assert isinstance(source, X509Source)
    assert isinstance(context, LiveContext)
    with source:
        for caller in (shop.front, shop.adviser, shop.stock):
            with ExitStack() as leaving:
                if caller is not shop.front:
                    leaving.enter_context(pytest.raises(UnwantedPeerError))
                leaving.enter_context(closing(Call(context, client_context(caller, any_in("example.org")))))


def test_everybody_is_refused_while_the_attestor_is_silent_and_what_is_open_goes_on(world: World, shop: Shop) -> None:
    with closing(shop.call(shop.front)) as open_before:
        os.kill(world.attestor.pid, signal.SIGSTOP)
        try:
            shop.call(shop.front).close()  # for a while
            shop.clock.by += timedelta(seconds=25)
            with pytest.raises(OutdatedHandshakeError, match="expected word from the attestor within 15 s, found none"):
                shop.call(shop.front)
            assert shop.refusals[-1].reason is Reason.UNAVAILABLE
            open_before.near.sendall(b"still")
            assert open_before.far.recv(5) == b"still"
        finally:
            os.kill(world.attestor.pid, signal.SIGCONT)
        followed = shop.stock.declared_callers()
        for _ in range(400):
            silent = followed.silent_for()
            if silent is not None and silent < timedelta(seconds=15):
                break
            threading.Event().wait(0.05)
        shop.call(shop.front).close()
