"""Who the kernel says connected: each rule with a real process."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.rig.child import Child
from cognomen.gate.caller import Caller, Program, peer, process_of, program_of
from cognomen.protocol.errors import Kind, Refused

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another uid needs root")

CONNECT = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
{before}
sock.connect(sys.argv[1])
{after}
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        yield sock


@contextmanager
def connecting(
    listener: socket.socket, *, before: str = "", after: str = ""
) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """A process that has connected, and our side of the connection."""
    command = [sys.executable, "-c", CONNECT.format(before=before, after=after), listener.getsockname()]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        accepted, _ = listener.accept()
        with accepted:
            yield process, accepted


def boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextmanager
def identified(sock: socket.socket) -> Iterator[Caller]:
    caller = peer(sock, accepted_at=boot_seconds())
    with closing(caller.process):
        yield caller


@pytest.mark.clause("WE-13", "WA-04")
def test_the_caller_is_the_process_that_connected(listener: socket.socket) -> None:
    with connecting(listener) as (process, sock), identified(sock) as caller:
        assert (caller.pid, caller.uid, caller.gid) == (process.pid, os.geteuid(), os.getegid())
        assert caller.groups == frozenset(os.getgroups())
        assert caller.is_alive()


def test_the_caller_is_dead_once_its_process_has_ended(listener: socket.socket) -> None:
    with connecting(listener) as (process, sock), identified(sock) as caller:
        process.kill()
        process.wait()
        assert not caller.is_alive()


def test_a_closed_process_counts_as_dead_and_closes_once_only(listener: socket.socket) -> None:
    with connecting(listener) as (_, sock):
        caller = peer(sock, accepted_at=boot_seconds())
        caller.process.close()
        caller.process.close()
        assert not caller.is_alive()


def test_a_process_that_ended_before_it_was_asked_for_is_refused(listener: socket.socket) -> None:
    with connecting(listener) as (process, sock):
        process.kill()
        process.wait()
        with pytest.raises(Refused, match="the process that connected has ended") as refused:
            peer(sock, accepted_at=boot_seconds())
        assert refused.value.kind is Kind.DENIED


def test_a_zombie_is_refused(listener: socket.socket) -> None:
    with connecting(listener) as (process, sock):
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
        with pytest.raises(Refused, match="has ended"):
            peer(sock, accepted_at=boot_seconds())


def test_a_child_that_speaks_on_its_dead_parents_socket_is_refused(listener: socket.socket) -> None:
    fork = "if os.fork() == 0:\n    print('connected', flush=True)\n    sys.stdin.read()\n    os._exit(0)\nos._exit(0)"
    with connecting(listener, after=fork) as (process, sock):
        process.wait()
        with pytest.raises(Refused, match="the process that connected has ended"):
            peer(sock, accepted_at=boot_seconds())


@needs_root
def test_uid_gid_and_groups_are_those_at_the_moment_of_connecting(listener: socket.socket) -> None:
    before = "os.setgroups([7001, 7002]); os.setgid(7003); sock.close(); sock = socket.socket(socket.AF_UNIX)"
    with connecting(listener, before=before) as (_, sock), identified(sock) as caller:
        assert (caller.gid, caller.groups) == (7003, frozenset({7001, 7002}))


class Credentials(socket.socket):
    """A socket whose peer the kernel describes by these bytes."""

    shown = b""

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> bytes:  # type: ignore[override]  # the overload we use
        return self.shown if optname == socket.SO_PEERCRED else super().getsockopt(level, optname, buflen)


@contextmanager
def shown_as(sock: socket.socket, *, pid: int, uid: int, gid: int) -> Iterator[socket.socket]:
    with Credentials(fileno=os.dup(sock.fileno())) as double:
        double.shown = b"".join(number.to_bytes(4, sys.byteorder) for number in (pid, uid, gid))
        yield double


@pytest.mark.parametrize("number", [0, 2**31 - 1, 2**31, 3_000_000_000, 2**32 - 2])
def test_a_gid_is_read_without_a_sign(listener: socket.socket, number: int) -> None:
    with (
        connecting(listener) as (process, sock),
        shown_as(sock, pid=process.pid, uid=os.geteuid(), gid=number) as double,
        identified(double) as caller,
    ):
        assert caller.gid == number


@pytest.mark.parametrize("number", [2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1])
def test_a_uid_is_read_without_a_sign_and_must_still_be_the_process_s(listener: socket.socket, number: int) -> None:
    with (
        connecting(listener) as (process, sock),
        shown_as(sock, pid=process.pid, uid=number, gid=os.getegid()) as double,
        pytest.raises(Refused, match=rf"expected uid {number}, .* found {os.geteuid()}$"),
    ):
        peer(double, accepted_at=boot_seconds())


def test_the_program_of_a_caller_is_named_with_its_start_until_it_has_ended(listener: socket.socket) -> None:
    with connecting(listener) as (process, sock), identified(sock) as caller:
        program = program_of(caller.pid, caller.process)
        assert program.executable == str(Path(sys.executable).resolve())
        assert 0 < program.started / os.sysconf("SC_CLK_TCK") <= boot_seconds()
        process.kill()
        process.wait()
        assert program_of(caller.pid, caller.process) == Program(started=0, executable="")


@needs_root
@pytest.mark.parametrize("number", [2**31, 3_000_000_000, 2**32 - 2])
def test_a_process_with_a_uid_and_groups_above_2_to_the_31_is_a_caller(listener: socket.socket, number: int) -> None:
    path = Path(listener.getsockname())
    path.chmod(0o777)
    path.parent.chmod(0o755)
    before = f"os.chdir({str(path.parent)!r}); sys.argv[1] = {path.name!r}"  # from there no other directory is asked
    before += f"; os.setgroups([{number}]); os.setgid({number}); os.setuid({number})"
    before += "; sock.close(); sock = socket.socket(socket.AF_UNIX)"
    with connecting(listener, before=before) as (_, sock), identified(sock) as caller:
        assert (caller.uid, caller.gid, caller.groups) == (number, number, frozenset({number}))
        named = process_of(caller.pid)
        with closing(named.process):
            assert (named.uid, named.gid, named.groups) == (number, number, frozenset({number}))


@needs_root
def test_more_groups_than_pythons_getsockopt_can_hold_are_read(listener: socket.socket) -> None:
    with connecting(listener, before="os.setgroups(range(10_000, 11_000))") as (_, sock), identified(sock) as caller:
        assert caller.groups == frozenset(range(10_000, 11_000))


@needs_root
def test_a_process_whose_uid_changed_since_is_refused(listener: socket.socket) -> None:
    with (
        connecting(listener, after="os.setuid(65533)") as (_, sock),
        pytest.raises(Refused, match=r"expected uid 0, .* found 65533"),
    ):
        peer(sock, accepted_at=boot_seconds())


def test_a_refused_caller_leaves_no_descriptor_behind(listener: socket.socket) -> None:
    with connecting(listener) as (process, sock):
        process.kill()
        process.wait()
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counts
        for _ in range(5):
            with pytest.raises(Refused):
                peer(sock, accepted_at=boot_seconds())
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - counts


class WithoutPeerPidfd(socket.socket):
    """A socket of a kernel before 6.5."""

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> bytes:  # type: ignore[override]  # the overload we use
        if optname == 77:
            raise OSError(92, "Protocol not available")
        return super().getsockopt(level, optname, buflen)


def old(sock: socket.socket) -> socket.socket:
    return WithoutPeerPidfd(fileno=os.dup(sock.fileno()))


def test_an_old_kernels_caller_is_found_by_pid_and_shown_as_degraded(listener: socket.socket) -> None:
    with connecting(listener) as (process, sock), old(sock) as degraded, identified(degraded) as caller:
        assert caller.degraded
        assert caller.pid == process.pid
        process.kill()
        process.wait()
        assert not caller.is_alive()


def test_an_old_kernels_process_that_started_after_the_connection_is_refused(listener: socket.socket) -> None:
    with (
        connecting(listener) as (_, sock),
        old(sock) as degraded,
        pytest.raises(Refused, match="the process that connected has ended"),
    ):
        peer(degraded, accepted_at=boot_seconds() - 3600)


def test_an_old_kernels_process_that_has_ended_is_refused(listener: socket.socket) -> None:
    with connecting(listener) as (process, sock), old(sock) as degraded:
        process.kill()
        process.wait()
        with pytest.raises(Refused, match="the process that connected has ended"):
            peer(degraded, accepted_at=boot_seconds())


class FromOutside(socket.socket):
    """A socket whose peer is in a pid namespace that ours cannot see: the kernel shows such a pid as 0."""

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> bytes:  # type: ignore[override]  # the overload we use
        found = super().getsockopt(level, optname, buflen)
        return bytes(4) + found[4:] if optname == socket.SO_PEERCRED else found


def test_a_process_outside_our_pid_namespace_is_refused(listener: socket.socket) -> None:
    with (
        connecting(listener) as (_, sock),
        FromOutside(fileno=os.dup(sock.fileno())) as outside,
        pytest.raises(Refused, match="pid namespace"),
    ):
        peer(outside, accepted_at=boot_seconds())
