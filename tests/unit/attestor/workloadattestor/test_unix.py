"""What the unix attestor vouches for, looked at on real processes."""
# ruff: noqa: ASYNC240 - the files of these tests are small and local

import asyncio
import grp
import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from structlog.testing import capture_logs

from attestor.workloadattestor.unix import UnixAttestor
from cognomen.gate.caller import Caller, Process
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.clock import FakeClock
from tests.doubles.threads import ThreadsDouble
from tests.doubles.until import until

DIGEST = "digest of the executable"  # as its threads are called
NOBODYS = 4294967294  # a number that no user and no group has
NEVER_DUMPED = "import ctypes, sys; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); print(flush=True); sys.stdin.read()"


class Run(Protocol):
    """Starts a program; it is ended with the test."""

    def __call__(self, *command: str | Path) -> Caller: ...


@pytest.fixture
def attestor() -> UnixAttestor:
    return UnixAttestor(FakeClock())


@pytest.fixture
def sleep(tmp_path: Path) -> Path:
    """A program of our own that runs until it is ended: a copy of sleep."""
    return Path(shutil.copy(shutil.which("sleep") or "/bin/sleep", tmp_path / "sleep"))


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs programs and gives them as callers."""
    with ExitStack() as ending:

        def start(*command: str | Path) -> Caller:
            child = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            ending.callback(child.communicate)
            ending.callback(child.kill)
            process = Process(os.pidfd_open(child.pid))
            ending.callback(process.close)
            wait_until_executed(child)
            return Caller(pid=child.pid, uid=os.getuid(), gid=os.getgid(), groups=frozenset(), process=process)

        yield start


def wait_until_executed(child: subprocess.Popen[bytes]) -> None:
    """Popen returns once exec(2) has succeeded; a shell that execs once more says so by an empty line."""
    if "-c" in child.args:  # type: ignore[operator]  # a list, as start makes it
        assert child.stdout is not None
        child.stdout.readline()


async def facts(attestor: UnixAttestor, caller: Caller, *needed: str) -> set[str]:
    found = await attestor.attest(caller, needed={f"unix:{key}" for key in needed})
    assert {selector.type for selector in found} == {attestor.name}
    return {selector.value for selector in found}


async def extra(attestor: UnixAttestor, caller: Caller, *needed: str) -> set[str]:
    """The facts beyond uid and gid."""
    return await facts(attestor, caller, *needed) - {f"uid:{caller.uid}", f"gid:{caller.gid}"}


def executable(caller: Caller) -> Path:
    return Path(f"/proc/{caller.pid}/exe").readlink()


def digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


async def test_uid_and_gid_are_always_given_and_nothing_else_unasked(
    attestor: UnixAttestor, run: Run, sleep: Path
) -> None:
    assert await facts(attestor, run(sleep, "60")) == {f"uid:{os.getuid()}", f"gid:{os.getgid()}"}


@pytest.mark.skipif(os.getuid() not in {one.pw_uid for one in pwd.getpwall()}, reason="needs a uid with a name")
async def test_the_name_of_the_user_is_given_where_needed(attestor: UnixAttestor, run: Run, sleep: Path) -> None:
    assert await extra(attestor, run(sleep, "60"), "user") == {f"user:{pwd.getpwuid(os.getuid()).pw_name}"}


async def test_the_name_of_the_group_is_given_where_needed(attestor: UnixAttestor, run: Run, sleep: Path) -> None:
    some = grp.getgrall()[0]
    caller = replace(run(sleep, "60"), gid=some.gr_gid)
    assert await extra(attestor, caller, "group") == {f"group:{some.gr_name}"}


async def test_supplementary_groups_are_given_by_number_and_by_name(
    attestor: UnixAttestor, run: Run, sleep: Path
) -> None:
    some = grp.getgrall()[0]
    caller = replace(run(sleep, "60"), groups=frozenset({some.gr_gid, NOBODYS}))
    assert await extra(attestor, caller, "supplementary_gid", "supplementary_group") == {
        f"supplementary_gid:{some.gr_gid}",
        f"supplementary_gid:{NOBODYS}",
        f"supplementary_group:{some.gr_name}",
    }


async def test_more_groups_than_are_remembered_still_have_their_names(
    attestor: UnixAttestor, run: Run, sleep: Path
) -> None:
    some = grp.getgrall()[0]
    many = frozenset(range(2_000_000_000, 2_000_001_100))
    caller = replace(run(sleep, "60"), groups=many | {some.gr_gid})
    assert await extra(attestor, caller, "supplementary_group") == {f"supplementary_group:{some.gr_name}"}


async def test_a_number_without_a_name_gives_no_selector(attestor: UnixAttestor, run: Run, sleep: Path) -> None:
    assert await extra(attestor, replace(run(sleep, "60"), gid=NOBODYS), "group") == set()


@pytest.fixture
def threads() -> ThreadsDouble:
    return ThreadsDouble()


async def test_names_are_looked_up_again_after_a_minute_and_not_before(
    run: Run, sleep: Path, threads: ThreadsDouble
) -> None:
    clock = FakeClock()
    attestor, caller = UnixAttestor(clock, start=threads), run(sleep, "60")
    for seconds, count in ((0, 1), (59, 1), (1, 2), (0, 2)):
        clock.advance(seconds)
        await facts(attestor, caller, "user")
        assert threads.count["user name"] == count


async def test_path_and_digest_are_the_executables(attestor: UnixAttestor, run: Run, sleep: Path) -> None:
    assert await extra(attestor, run(sleep, "60"), "path", "sha256") == {f"path:{sleep}", digest(sleep)}


@pytest.mark.parametrize("key", ["path", "sha256"])
async def test_only_the_fact_that_is_needed_is_given(attestor: UnixAttestor, run: Run, sleep: Path, key: str) -> None:
    (fact,) = await extra(attestor, run(sleep, "60"), key)
    assert fact.startswith(f"{key}:")


async def test_a_symbolic_link_is_no_path(attestor: UnixAttestor, run: Run, sleep: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(sleep)
    assert await extra(attestor, run(tmp_path / "link", "60"), "path") == {f"path:{sleep}"}


async def test_a_deleted_executable_has_no_path(attestor: UnixAttestor, run: Run, sleep: Path) -> None:
    caller, text = run(sleep, "60"), digest(sleep)
    sleep.unlink()
    assert await extra(attestor, caller, "path", "sha256") == {text}


async def test_a_deleted_executable_has_no_path_under_the_name_that_the_kernel_gives_it(
    attestor: UnixAttestor, run: Run, sleep: Path
) -> None:
    caller = run(sleep, "60")
    sleep.unlink()
    (sleep.parent / "sleep (deleted)").touch()
    assert await extra(attestor, caller, "path") == set()


async def test_an_executable_that_another_file_replaced_has_no_path(
    attestor: UnixAttestor, run: Run, sleep: Path, tmp_path: Path
) -> None:
    caller, text = run(sleep, "60"), digest(sleep)
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "other").rename(sleep)
    assert await extra(attestor, caller, "path", "sha256") == {text}


async def test_a_path_in_another_mount_namespace_is_not_believed(
    attestor: UnixAttestor, run: Run, sleep: Path, tmp_path: Path
) -> None:
    claimed = tmp_path / "claimed"
    shutil.copy(sleep, claimed)
    claim = f"mount --bind {sleep} {claimed} && echo && exec {claimed} 60"
    unshare = shutil.which("unshare") or ""
    if not unshare or subprocess.run([unshare, "-Urm", "true"], check=False, capture_output=True).returncode:  # noqa: ASYNC221
        pytest.skip("no user namespaces here")
    caller = run(unshare, "-Urm", "sh", "-c", claim)
    await until(lambda: executable(caller) == claimed)
    assert await extra(attestor, caller, "path", "sha256") == {digest(sleep)}


async def test_a_path_that_no_selector_can_hold_is_left_out(
    attestor: UnixAttestor, run: Run, sleep: Path, tmp_path: Path
) -> None:
    odd = Path(shutil.copy(sleep, tmp_path / "sl\neep"))
    assert await extra(attestor, run(odd, "60"), "path") == set()


async def test_another_program_of_the_same_process_is_seen(
    attestor: UnixAttestor, run: Run, sleep: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    caller = run("sh", "-c", f"echo; read line < {go}; exec {sleep} 60")
    assert await extra(attestor, caller, "path") == {f"path:{executable(caller)}"} != {f"path:{sleep}"}
    go.write_text("\n")
    await until(lambda: executable(caller) == sleep)
    assert await extra(attestor, caller, "path") == {f"path:{sleep}"}


async def test_a_program_on_a_local_file_system_is_seen_without_a_thread(
    run: Run, sleep: Path, threads: ThreadsDouble
) -> None:
    attestor, caller = UnixAttestor(FakeClock(), start=threads), run(sleep, "60")
    for _ in range(100):  # when mounts have changed somewhere, a thread reads them anew
        before = threads.count["executable"]
        assert await extra(attestor, caller, "path") == {f"path:{sleep}"}
        if threads.count["executable"] == before:
            return
    pytest.fail("each look took a thread")


async def test_a_digest_is_read_once_while_the_file_stays_as_it_is(
    run: Run, sleep: Path, threads: ThreadsDouble
) -> None:
    attestor = UnixAttestor(FakeClock(), start=threads)
    one, other = run(sleep, "60"), run(sleep, "60")
    await asyncio.gather(*(extra(attestor, caller, "sha256") for caller in (one, other, one)))
    assert await extra(attestor, other, "sha256") == {digest(sleep)}
    assert threads.count[DIGEST] == 1


async def test_a_digest_is_read_again_when_the_file_is_another(attestor: UnixAttestor, run: Run, sleep: Path) -> None:
    first = await extra(attestor, run(sleep, "60"), "sha256")
    changed = sleep.read_bytes() + b"\0"
    sleep.unlink()
    sleep.write_bytes(changed)
    sleep.chmod(0o755)
    second = await extra(attestor, run(sleep, "60"), "sha256")
    assert second == {digest(sleep)} != first


async def test_no_digest_of_a_larger_executable_is_taken(run: Run, sleep: Path) -> None:
    size = sleep.stat().st_size
    caller = run(sleep, "60")
    assert await extra(UnixAttestor(FakeClock(), max_executable_bytes=size - 1), caller, "sha256") == set()
    assert await extra(UnixAttestor(FakeClock(), max_executable_bytes=size), caller, "sha256") == {digest(sleep)}


async def test_a_digest_is_remembered_though_nobody_waited_for_it(
    run: Run, sleep: Path, threads: ThreadsDouble
) -> None:
    attestor = UnixAttestor(FakeClock(), start=threads)
    caller = run(sleep, "60")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await extra(attestor, caller, "sha256")
    assert await extra(attestor, caller, "sha256") == {digest(sleep)}
    assert threads.count[DIGEST] == 1


async def test_a_uid_has_one_digest_taken_at_a_time(run: Run, sleep: Path, tmp_path: Path) -> None:
    threads = ThreadsDouble(hold=DIGEST)
    attestor = UnixAttestor(FakeClock(), start=threads)
    programs = [Path(shutil.copy(sleep, tmp_path / f"sleep-{number}")) for number in range(3)]
    callers = [run(program, "60") for program in programs]
    async with asyncio.TaskGroup() as group:
        looks = [group.create_task(extra(attestor, caller, "sha256")) for caller in callers]
        for count in (1, 2, 3):
            await until(lambda: bool(threads.held))
            await asyncio.sleep(0)
            assert threads.count[DIGEST] == count
            threads.release()
    assert [look.result() for look in looks] == [{digest(sleep)}] * 3


@pytest.mark.skipif(os.getuid() == 0, reason="root reads every file")
async def test_a_program_that_may_be_run_but_not_read_shows_nothing(
    attestor: UnixAttestor, run: Run, sleep: Path
) -> None:
    sleep.chmod(0o111)  # its process is not dumpable, so the kernel shows the executable to nobody without privileges
    assert await extra(attestor, run(sleep, "60"), "path", "sha256") == set()


async def test_a_process_without_an_executable_gives_no_fact(attestor: UnixAttestor, run: Run) -> None:
    caller = run("true")
    await until(lambda: not caller.is_alive())  # a zombie, whose executable the kernel has let go
    double = replace(caller, process=Process(os.pidfd_open(os.getpid())))
    try:
        assert await extra(attestor, double, "path", "sha256") == set()
    finally:
        double.process.close()


@contextmanager
def without_privileges() -> Iterator[None]:
    """As root: look as somebody else."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_an_executable_that_may_not_be_seen_gives_no_fact_and_one_line_in_the_log(
    attestor: UnixAttestor, run: Run
) -> None:
    caller = run("python3", "-c", NEVER_DUMPED)
    with capture_logs() as logs, without_privileges():
        for _ in range(2):
            assert await extra(attestor, caller, "path", "sha256") == set()
    assert [line["log_level"] for line in logs] == ["warning"]
    assert "CAP_SYS_PTRACE" in logs[0]["hint"]


@pytest.mark.parametrize("needed", [(), ("path", "sha256", "user")], ids=["cheap", "all"])
async def test_a_caller_that_has_ended_is_refused(attestor: UnixAttestor, run: Run, needed: tuple[str, ...]) -> None:
    caller = run("true")
    await until(lambda: not caller.is_alive())
    with pytest.raises(Refused) as caught:
        await facts(attestor, caller, *needed)
    assert caught.value.kind is Kind.UNAUTHENTICATED


async def test_a_caller_without_a_status_is_refused(attestor: UnixAttestor, run: Run, sleep: Path) -> None:
    with pytest.raises(Refused) as caught:
        await facts(attestor, replace(run(sleep, "60"), pid=2**22 + 1))  # no process has a number above pid_max
    assert caught.value.kind is Kind.UNAUTHENTICATED


async def test_a_caller_that_runs_under_another_uid_than_it_connected_with_is_refused(
    attestor: UnixAttestor, run: Run, sleep: Path
) -> None:
    caller = replace(run(sleep, "60"), uid=os.getuid() + 1)
    with pytest.raises(Refused) as caught:
        await facts(attestor, caller)
    assert caught.value.kind is Kind.UNAUTHENTICATED
