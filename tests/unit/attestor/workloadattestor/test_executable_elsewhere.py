"""Executables on file systems that are somebody's program: nobody waits for it, and nothing that it says is believed."""
# ruff: noqa: ASYNC240, ASYNC221 - the files of these tests are small and local

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from attestor.workloadattestor.unix import UnixAttestor
from cognomen.gate.caller import process_of
from svid.clock import SystemClock
from tests.doubles.fuse import PROGRAM, fuse_of, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

SLEEP = Path(shutil.which("sleep") or "/bin/sleep")
DIGEST = f"sha256:{hashlib.sha256(SLEEP.read_bytes()).hexdigest()}"


LOOK = """
import asyncio, sys
from attestor.workloadattestor.executable import Executables
from cognomen.gate.caller import process_of
from svid.clock import SystemClock
from tests.doubles.threads import ThreadsDouble

async def main(pid, first):
    threads = ThreadsDouble()
    executables = Executables(SystemClock(), start=threads, first_process=first)
    for _ in range(100):  # when mounts have changed somewhere, a thread reads them anew
        before = threads.count["executable"]
        found = await executables.look(process_of(pid), path=True, digest=False)
        if threads.count["executable"] == before:
            break
    print(dict(found)["path"], threads.count["executable"] == before)

asyncio.run(main(*map(int, sys.argv[1:])))
"""


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    path = tmp_path / "mount"
    path.mkdir()
    return path


async def extra(ending: ExitStack, *command: str | Path) -> set[str]:
    """The facts beyond uid and gid of a program that runs."""
    return await shown_by(started(ending, *command))


def started(ending: ExitStack, *command: str | Path) -> int:
    child = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    ending.callback(child.communicate)
    ending.callback(child.kill)
    if command[0] != SLEEP and "-c" in command:  # a shell says so by an empty line
        assert child.stdout is not None
        child.stdout.readline()
    return child.pid


async def shown_by(pid: int) -> set[str]:
    caller = process_of(pid)
    try:
        found = await UnixAttestor(SystemClock()).attest(caller, needed={"unix:path", "unix:sha256"})
    finally:
        caller.process.close()
    return {one.value for one in found} - {f"uid:{os.geteuid()}", f"gid:{os.getegid()}"}


@pytest.mark.parametrize("seconds", [0, 3600], ids=["asked each time", "remembered"])
async def test_a_program_on_a_file_system_that_answers_nothing_is_not_asked_about(
    ending: ExitStack, mount: Path, seconds: int
) -> None:
    fuse = ending.enter_context(fuse_of(SLEEP, mount, remembered_seconds=seconds))
    pid = started(ending, mount / PROGRAM, "60")
    fuse.freeze()
    assert await shown_by(pid) == set()
    assert fuse.questions() == 0


@pytest.mark.parametrize("seconds", [0, 3600], ids=["asked each time", "remembered"])
async def test_a_program_on_a_file_system_that_answers_has_neither_path_nor_digest(
    ending: ExitStack, mount: Path, seconds: int
) -> None:
    ending.enter_context(fuse_of(SLEEP, mount, remembered_seconds=seconds))
    assert await extra(ending, mount / PROGRAM, "60") == set()


async def test_a_path_that_leads_into_such_a_file_system_is_not_followed(ending: ExitStack, mount: Path) -> None:
    hidden = Path(shutil.copy(SLEEP, mount / PROGRAM))
    pid = started(ending, hidden, "60")
    fuse = ending.enter_context(fuse_of(SLEEP, mount))  # over the directory of the program that runs
    fuse.freeze()
    assert await shown_by(pid) == {DIGEST}
    assert fuse.questions() == 0


async def test_an_overlay_that_only_the_caller_sees_is_not_asked(
    ending: ExitStack, mount: Path, tmp_path: Path
) -> None:
    over, empty = tmp_path / "over", tmp_path / "empty"
    over.mkdir()
    empty.mkdir()
    fuse = ending.enter_context(fuse_of(SLEEP, mount))
    program = over / PROGRAM
    script = f"mount -t overlay -o lowerdir={mount}:{empty} overlay {over} && echo && exec {program} 60"
    pid = started(ending, "unshare", "--mount", "sh", "-c", script)
    while Path(f"/proc/{pid}/exe").readlink() != program:
        pass
    fuse.freeze()
    assert await shown_by(pid) == set()
    assert fuse.questions() == 0


async def test_a_program_in_a_mount_namespace_of_its_own_has_path_and_digest(ending: ExitStack, tmp_path: Path) -> None:
    program = Path(shutil.copy(SLEEP, tmp_path / "program"))
    pid = started(ending, "unshare", "--mount", "sh", "-c", f"echo; exec {program} 60")
    while Path(f"/proc/{pid}/exe").readlink() != program:
        pass
    assert await shown_by(pid) == {f"path:{program}", DIGEST}


async def test_a_program_on_a_file_system_that_only_the_caller_sees_has_a_digest(
    ending: ExitStack, mount: Path
) -> None:
    program = mount / PROGRAM
    script = f"mount -t tmpfs tmpfs {mount} && cp {SLEEP} {program} && echo && exec {program} 60"
    pid = started(ending, "unshare", "--mount", "sh", "-c", script)
    while Path(f"/proc/{pid}/exe").readlink() != program:
        pass
    assert await shown_by(pid) == {DIGEST}


async def test_a_program_on_an_overlay_that_we_see_has_path_and_digest(ending: ExitStack, tmp_path: Path) -> None:
    lower, empty, over = tmp_path / "lower", tmp_path / "empty", tmp_path / "over"
    for directory in (lower, empty, over):
        directory.mkdir()
    shutil.copy(SLEEP, lower / PROGRAM)
    subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={lower}:{empty}", "overlay", over], check=True)
    ending.callback(lambda: subprocess.run(["umount", "--lazy", over], check=True))
    assert await extra(ending, over / PROGRAM, "60") == {f"path:{over / PROGRAM}", DIGEST}


@pytest.mark.parametrize("known", [True, False], ids=["seen", "not seen"])
def test_an_attestor_with_a_mount_namespace_of_its_own_sees_the_machine_s_programs_without_a_thread(
    ending: ExitStack,
    tmp_path: Path,
    known: bool,  # noqa: FBT001 - a column
) -> None:
    program = Path(shutil.copy(SLEEP, tmp_path / "program"))
    pid = started(ending, program, "60")
    first = os.getpid() if known else 2**22 + 1  # no process has a number above pid_max
    command = ["unshare", "--mount", sys.executable, "-c", LOOK, str(pid), str(first)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == (f"{program} {known}\n", "")
