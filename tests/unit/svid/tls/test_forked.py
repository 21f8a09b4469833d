"""What goes on in a process that was forked, where nobody hears of denials: nothing; and its parent goes on as ever."""

import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from svid.errors import SVIDError
from svid.tls.authorize import matching
from svid.tls.connections import peer_id
from svid.tls.context import LiveContext, client_context, server_context
from svid.tls.refusals import OrphanedPeerError
from svid.x509svid import X509SVID
from tests.doubles.identity import CLIENT, Identity, KnowingIdentity

ANYBODY = matching(lambda _: True)
_SECONDS = 10


def connected(near: LiveContext, far: LiveContext) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    one, other = socket.socketpair()
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(far.wrap_socket, other, server_side=True)
        ends = near.wrap_socket(one), accepted.result()
    for end in ends:
        end.settimeout(_SECONDS)
    return ends


def error_in_a_child(do: Callable[[], object]) -> str:
    """Which of our errors that raises in a child."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS)
        try:
            do()
        except SVIDError as e:
            os.write(writing, type(e).__name__.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        name = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return name


@pytest.mark.parametrize("use", [lambda end: end.recv(1), lambda end: end.sendall(b"x"), lambda end: end.read(1)])
def test_nothing_passes_in_a_child_and_the_parent_goes_on(
    client: Identity, knowing: KnowingIdentity, use: Callable[[ssl.SSLSocket], object]
) -> None:
    mine, theirs = connected(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    with mine, theirs:
        mine.sendall(b"question")
        assert error_in_a_child(lambda: use(theirs)) == OrphanedPeerError.__name__
        assert theirs.recv(64) == b"question"
        theirs.sendall(b"answer")
        assert mine.recv(64) == b"answer"
        assert peer_id(theirs) == CLIENT


def test_a_child_goes_on_where_nobody_hears_of_denials_in_the_parent_either(client: Identity, server: Identity) -> None:
    mine, theirs = connected(client_context(client, ANYBODY), server_context(server, ANYBODY))
    with mine, theirs:
        assert error_in_a_child(lambda: theirs.sendall(b"answer")) == ""
        assert mine.recv(64) == b"answer"


@pytest.fixture
def knowing(server: Identity) -> KnowingIdentity:
    return KnowingIdentity(server.svid, *server.bundles.values())


class Slow:
    """Something that is asked in the midst of a lock, and answers when it may."""

    def __init__(self) -> None:
        self.asked, self.may_answer = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.asked.set()
        assert self.may_answer.wait(_SECONDS)


class SlowSVID:
    """An X509-SVID that takes its time to be written, for an inner context."""

    def __init__(self, svid: X509SVID, slow: Slow) -> None:
        self._svid, self._slow = svid, slow

    def __getattr__(self, name: str) -> object:
        return getattr(self._svid, name)

    def chain_pem(self) -> bytes:
        self._slow.wait()
        return self._svid.chain_pem()


class SlowHeld:
    """Something open that takes its time to be known."""

    peer, address = None, ""

    def __init__(self, slow: Slow) -> None:
        self._slow = slow

    def __hash__(self) -> int:
        self._slow.wait()
        return id(self)

    def revoke(self) -> None: ...

    outlive = orphan = dismiss = hang_up = why_ended = revoke


@pytest.mark.parametrize("source", ["server", "knowing"])
def test_a_child_does_not_wait_for_a_lock_that_a_thread_of_its_parent_held(
    source: str, request: pytest.FixtureRequest
) -> None:
    identity: Identity = request.getfixturevalue(source)
    svid, slow = identity.svid, Slow()
    context = server_context(identity, ANYBODY)
    identity.change(cast("X509SVID", SlowSVID(svid, slow)), *identity.bundles.values())

    def shake() -> None:
        identity.change(svid, *identity.bundles.values())
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)

    with ThreadPoolExecutor(2) as pool:
        shaking = pool.submit(context.wrap_bio, ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
        assert slow.asked.wait(_SECONDS)
        slow.asked.clear()
        holding = pool.submit(context.enforcement.hold, SlowHeld(slow))
        assert slow.asked.wait(_SECONDS)
        try:
            assert error_in_a_child(shake) == ""
            assert error_in_a_child(context.enforcement.open.all) == ""
        finally:
            slow.may_answer.set()
        shaking.result()
        holding.result()
