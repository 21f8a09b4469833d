"""What goes on in a process that was forked, where nobody hears of denials: nothing; and its parent goes on as ever."""

import os
import signal
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from svid.errors import SVIDError
from svid.tls.authorize import matching
from svid.tls.connections import peer_id
from svid.tls.context import LiveContext, client_context, server_context
from svid.tls.refusals import OrphanedPeerError
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
