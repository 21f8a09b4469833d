"""What strangers send to the process that answers relying parties, and what lies where its certificate should be."""

import contextlib
import json
import os
import signal
import socket
import ssl
import struct
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from bench.rig.webca import WebAuthority
from cognomen.protocol.errors import Refused
from issuer.web.pemfiles import pem_files, read_chain
from tests.doubles.fuse import PROGRAM, fuse_of, why_not
from tests.flow.published import Published
from tests.flow.test_relying_parties_process import alone, answering, until_gone

_OWN = b"GET /keys HTTP/1.1\r\nHost: oidc.example.org\r\n"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends a reset


def said(port: int, sent: bytes) -> bytes:
    """All that is answered until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one, one.makefile("rb") as answers:
        one.sendall(sent)
        return answers.read()


@pytest.mark.parametrize(
    ("schemes", "expected"),
    [
        (("https",), b"200"),
        (("HTTPS", "https"), b"200"),
        (("http", "https"), b"403"),
        (("https", "http"), b"403"),
        (("https, http",), b"403"),
        (("",), b"403"),
    ],
)
def test_a_proxy_is_believed_only_if_all_that_it_says_is_https(schemes: tuple[str, ...], expected: bytes) -> None:
    told = b"".join(b"X-Forwarded-Proto: %b\r\n" % one.encode() for one in schemes)
    with alone() as (_, port):
        assert said(port, _OWN + told + b"Connection: close\r\n\r\n").split(b" ")[1] == expected


def test_two_lengths_end_the_connection() -> None:
    both = b"X-Forwarded-Proto: https\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with alone() as (_, port):
        answer = said(port, _OWN + both + _OWN + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_strangers_that_send_many_requests_and_reset_write_nothing_into_the_log(tmp_path: Path) -> None:
    authority, log = WebAuthority(tmp_path), tmp_path / "log"
    authority.identity.chmod(0o600)
    trusting = ssl.create_default_context(cafile=str(authority.path))
    with log.open("wb") as file, alone(errors=file.fileno(), certificate=str(authority.identity)) as (process, port):
        for _ in range(50):
            raw = socket.create_connection(("127.0.0.1", port), timeout=20)
            with trusting.wrap_socket(raw, server_hostname="localhost") as one, contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 600)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    assert log.read_text() == ""


def resident(pid: int) -> int:
    """The memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_strangers_that_begin_with_tls_and_go_no_further_cost_little_memory(tmp_path: Path) -> None:
    authority, most = WebAuthority(tmp_path), 64
    authority.identity.chmod(0o600)
    trusting = ssl.create_default_context(cafile=str(authority.path))
    with alone(certificate=str(authority.identity)) as (process, port), contextlib.ExitStack() as held:
        with trusting.wrap_socket(
            socket.create_connection(("127.0.0.1", port), timeout=20), server_hostname="localhost"
        ):
            before = resident(process.pid)
        for _ in range(most):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            with contextlib.suppress(ssl.SSLWantReadError):
                trusting.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
            one = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            one.sendall(outgoing.read())
            assert one.recv(1), "its answer has come"
        assert resident(process.pid) - before < most * 160 * 1024


def test_a_key_that_all_may_read_or_a_pipe_in_its_place_is_told_and_the_one_before_is_served(tmp_path: Path) -> None:
    world = Published(tmp_path)
    with world.issuer:
        assert world.ask("/keys")[0] == 200
        world.identity.chmod(0o644)
        assert "found mode 0644" in world.until_told("certificate of web_address")
        assert world.ask("/keys")[0] == 200
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe, 0o600)
        pipe.rename(world.identity)
        while "expected a regular file" not in world.until_told("certificate of web_address"):
            pass  # pytest's timeout ends it
        assert world.ask("/keys")[0] == 200
        world.present(world.authority)
        while json.loads(world.run("status", "--output=json").stdout)["troubles"]:
            pass
        assert world.ask("/keys")[0] == 200


def test_while_there_is_no_certificate_it_is_told_that_none_is_served(tmp_path: Path) -> None:
    world = Published(tmp_path)
    with world.issuer:
        assert world.ask("/keys")[0] == 200
        world.identity.unlink()
        (process,) = answering(world.issuer.pid)
        os.kill(process, signal.SIGKILL)
        until_gone(process)
        while "relying parties cannot connect until" not in world.until_told("certificate of web_address"):
            pass  # pytest's timeout ends it
        world.present(world.authority)
        while json.loads(world.run("status", "--output=json").stdout)["troubles"]:
            pass
        assert world.ask("/keys")[0] == 200


def test_nobody_waits_for_a_pipe_that_is_given_as_a_certificate_or_a_key(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(Refused, match="expected a regular file"):
        read_chain(str(pipe))
    with pytest.raises(Refused, match="expected a regular file"):
        pem_files(str(pipe), str(pipe))


@pytest.mark.parametrize("stream", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_a_stream_of_one_process_is_no_certificate_and_no_key(stream: str, tmp_path: Path) -> None:
    identity = WebAuthority(tmp_path).identity
    identity.chmod(0o600)
    with pytest.raises(
        Refused, match=f"web_key_file: expected a file that can be read again after a change, found {stream}"
    ):
        pem_files(str(identity), stream)
    with pytest.raises(Refused, match=f"web_certificate_file: .* found {stream}"):
        pem_files(stream, str(identity))


@pytest.mark.parametrize("target", [b"https://oidc.example.org/keys", b"HTTP://oidc.example.org/keys?x", b"/keys?x"])
def test_a_target_may_be_a_whole_url(target: bytes) -> None:
    own = _OWN.replace(b"/keys", target) + b"X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
    with alone() as (_, port):
        assert said(port, own).split(b" ")[1] == b"200"


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"https://evil.example.org/keys", b"oidc.example.org"),
        (b"/keys", b"oidc.example.org:443:443"),
        (b"/keys", b"oidc.example.org:9617:443"),
    ],
)
def test_the_host_is_that_of_a_whole_url_and_a_port_of_https_counts_once(target: bytes, host: bytes) -> None:
    request = b"GET %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n" % (target, host)
    with alone() as (_, port):
        assert said(port, request).split(b" ")[1] == b"421"
        good = said(port, request.replace(target, b"https://oidc.example.org:443/keys"))
    assert good.split(b" ")[1] == b"200"
    date = next(line for line in good.split(b"\r\n") if line.lower().startswith(b"date: "))
    assert parsedate_to_datetime(date[6:].decode()).tzinfo is not None


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_file_system_that_does_not_answer_leaves_the_certificate_of_before(tmp_path: Path) -> None:
    world, mount = Published(tmp_path), tmp_path / "mount"
    mount.mkdir()
    with world.issuer, fuse_of(world.identity, mount) as fuse:
        assert world.ask("/keys")[0] == 200
        fuse.freeze()
        (tmp_path / "link").symlink_to(mount / PROGRAM)
        (tmp_path / "link").rename(world.identity)
        while "the file system does not answer" not in world.until_told("certificate of web_address"):
            pass  # pytest's timeout ends it
        assert world.ask("/keys")[0] == 200
    assert "certificate for relying parties not read" in (tmp_path / "issuer.log").read_text()


def test_a_private_key_among_certificates_that_others_may_read_is_refused(tmp_path: Path) -> None:
    identity = WebAuthority(tmp_path).identity
    identity.chmod(0o600)
    assert b"PRIVATE KEY" in read_chain(str(identity))
    identity.chmod(0o644)
    with pytest.raises(Refused, match="expected certificates alone, found a private key that others may read"):
        read_chain(str(identity))


def test_a_certificate_file_is_not_read_without_end(tmp_path: Path) -> None:
    file = tmp_path / "chain.pem"
    file.write_bytes(b"-" * 70_000)
    with pytest.raises(Refused, match="expected at most 65536 bytes"):
        read_chain(str(file))
