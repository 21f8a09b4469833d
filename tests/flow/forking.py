"""Programs that fork, for test_forked_sources: `python -m tests.flow.forking NAME ADDRESS`; what one says is lines on standard output."""

import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import grpc

from svid import JWTSource, X509Source, client_context, declared, server_context
from svid.errors import SVIDError, WorkloadAPIError
from svid.integrations.grpc_checks import PeerCheck
from svid.integrations.grpc_client import grpc_channel
from svid.integrations.grpc_server import grpc_server
from svid.workloadapi.client import WorkloadAPIClient

SECONDS = 40
SOON = timedelta(seconds=10)


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def heed() -> None:
    """Wait for the test."""
    sys.stdin.readline()


def in_a_child(do: Callable[[], object]) -> int:
    """Fork, do it there, and leave as an ordinary program does; its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(SECONDS)
    do()
    gc.collect()
    sys.exit(0)


def error_of(ask: Callable[[], object]) -> str:
    try:
        ask()
    except WorkloadAPIError as e:
        return str(e)
    return ""


def serial(source: X509Source) -> str:
    return f"{source.svid.serial:x}"


def until_new(source: X509Source, old: str) -> str:
    while (now := serial(source)) == old:
        time.sleep(0.01)
    return now


def follows(address: str) -> None:
    """The child's source hears of each renewal and denial, and so does its parent's."""
    with X509Source(address) as source:
        first = serial(source)

        def child() -> None:
            assert serial(source) == first
            say("child")
            heed()
            say(until_new(source, first))
            source.close()
            assert [one for one in threading.enumerate() if one.name.startswith("svid-")] == []

        assert in_a_child(child) == 0
        say(until_new(source, first))


def workers(address: str) -> None:
    """As a server that forks its workers once it has read its configuration, and them again when they end."""
    source, tokens = X509Source(address), JWTSource(address)
    server, client = server_context(source, lambda _: True), client_context(source, lambda _: True)

    def work(number: int) -> None:
        near, far = socket.socketpair()
        with ThreadPoolExecutor(1) as pool:
            accepted = pool.submit(server.wrap_socket, far, server_side=True)
            with client.wrap_socket(near) as mine, accepted.result() as theirs:
                mine.sendall(b"x")
                assert theirs.recv(1) == b"x"
        assert tokens.verify(tokens.fetch("db").token, "db").audiences == ("db",)
        assert number >= 0

    assert [in_a_child(partial(work, number)) for number in range(8)] == [0] * 8
    context = multiprocessing.get_context("fork")
    pool = [context.Process(target=work, args=(number,)) for number in range(4)]
    for one in pool:
        one.start()
    for one in pool:
        one.join(SECONDS)
    assert [one.exitcode for one in pool] == [0] * 4
    work(0)
    source.close()
    tokens.close()
    say("done")


def called(address: str) -> None:
    """A server that was made before its workers admits its declared callers in each of them, from the first handshake on."""
    with X509Source(address) as source, X509Source(address) as peer:
        authorize = declared(source)
        authorize.wait()
        server, client = server_context(source, authorize), client_context(peer, lambda _: True)

        def work() -> None:
            near, far = socket.socketpair()
            with ThreadPoolExecutor(1) as pool:
                accepted = pool.submit(server.wrap_socket, far, server_side=True)
                with client.wrap_socket(near), accepted.result():
                    pass

        def child() -> None:
            for _ in range(3):
                work()
            source.close()
            peer.close()
            assert [one for one in threading.enumerate() if one.name.startswith("svid-")] == []

        assert [in_a_child(child) for _ in range(4)] == [0] * 4
        work()
    say("done")


def file(address: str) -> None:
    """A child reads its parent's file of a token, but neither renews nor removes it; it may have its own."""
    with JWTSource(address) as source:
        parents = source.file("db")
        token = parents.path.read_text()

        def child() -> None:
            assert parents.path.read_text() == token
            with source.file("db") as own:
                assert own.read_text() != token
            parents.close()
            source.close()
            for one in threading.enumerate():
                if one.name.startswith("svid-"):  # the thread of a file that was closed ends a moment later
                    one.join(SECONDS)
                    assert not one.is_alive()

        assert [in_a_child(child), in_a_child(lambda: None)] == [0, 0]
        assert parents.path.read_text() == token
    assert not parents.path.parent.exists()
    say("done")


def denied(address: str) -> None:
    """What was denied before the fork stays denied, and a point that was registered there is told in the child."""
    told: list[int] = []
    with X509Source(address) as source:
        domain = source.svid.spiffe_id.trust_domain
        source.on_denied(lambda _, numbers: told.extend(numbers), point="a")
        say("ready")
        heed()
        while not source.is_denied(domain, 7):
            time.sleep(0.01)

        def child() -> None:
            assert source.is_denied(domain, 7)
            told.clear()
            serial(source)
            say("child")
            heed()
            while not source.is_denied(domain, 8):
                time.sleep(0.01)
            assert 8 in told
            say("told")

        assert in_a_child(child) == 0
        while not source.is_denied(domain, 8):
            time.sleep(0.01)
        say("done")


def closed(address: str) -> None:
    """Closing in a child is over at once, whether its source began anew or not; the parent's goes on."""
    source = X509Source(address)

    def child() -> None:
        source.close()
        source.close()
        assert "already closed" in error_of(lambda: source.svid)

    assert in_a_child(child) == 0
    serial(source)
    source.close()
    say("done")


def client(address: str) -> None:
    """A client that was used before the fork works in the child, too; so does a grandchild's."""
    with WorkloadAPIClient(address, timeout=SOON) as one:
        one.fetch_x509_context()
        assert in_a_child(lambda: in_a_child(one.fetch_x509_context) and sys.exit(1)) == 0
        assert in_a_child(one.fetch_x509_context) == 0
        one.fetch_x509_context()
    say("done")


def busy(address: str) -> None:
    """A thread that is within a call at the fork leaves the child without gRPC, and the child says so at once."""
    with X509Source(address) as source:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(f"{address.removeprefix('unix://')}.silent")
            silent.listen()
            slow = WorkloadAPIClient(f"{address}.silent", timeout=timedelta(seconds=5))
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(slow.fetch_jwt_svid, "db")
                time.sleep(0.5)

                def child() -> None:
                    for ask in (lambda: source.svid, lambda: X509Source(address), lambda: JWTSource(address)):
                        said = error_of(ask)
                        assert "forked while gRPC was in use" in said, said
                        assert "post_fork" in said
                    say("said")
                    os._exit(0)

                assert in_a_child(child) == 0
                assert isinstance(waiting.exception(), SVIDError)
        serial(source)
    say("done")


def channel(address: str) -> None:
    """A channel of the parent's survives a child that leaves its block."""
    with X509Source(address) as source:
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(lambda _, __: b"hello")
        handlers = [grpc.method_handlers_generic_handler("test.Who", {"Say": handler})]
        check = PeerCheck(source, lambda _: True)
        server, port = grpc_server("127.0.0.1:0", check, ThreadPoolExecutor(2), handlers=handlers)
        server.start()
        with grpc_channel(f"127.0.0.1:{port}", source, lambda _: True) as one:
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = one.unary_unary("/test.Who/Say")
            assert ask(b"", timeout=10) == b"hello"
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                assert ask(b"", timeout=10) == b"hello"
        if not child:
            os._exit(0)
        server.stop(0).wait()
    say("done")


if __name__ == "__main__":
    signal.alarm(SECONDS)
    globals()[sys.argv[1]](sys.argv[2])
