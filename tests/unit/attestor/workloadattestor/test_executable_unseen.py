"""Why a process cannot show the path or digest of its executable; and that want of descriptors costs nobody an identity."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attestor.workloadattestor.unix import UnixAttestor
from bench.rig.child import Child
from cognomen.gate.caller import Caller, process_of
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.clock import FakeClock

BOTH = {"unix:path", "unix:sha256"}


@contextmanager
def running(program: Path) -> Iterator[Caller]:
    with Child([program, "60"], stdout=subprocess.DEVNULL) as child:
        caller = process_of(child.pid)
        try:
            yield caller
        finally:
            caller.process.close()


def remove(program: Path) -> None:
    program.unlink()


def replace(program: Path) -> None:
    Path(shutil.copy2("/bin/sleep", program.with_name("new"))).rename(program)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return Path(shutil.copy2("/bin/sleep", tmp_path / "db"))


async def test_a_replaced_executable_is_named_and_what_to_do(program: Path) -> None:
    attestor = UnixAttestor(FakeClock())
    with running(program) as caller:
        assert await attestor.unseen(caller, needed=BOTH) == []
        before = await attestor.attest(caller, needed=BOTH)
        replace(program)
        shown = await attestor.attest(caller, needed=BOTH)
        assert {selector.value.partition(":")[0] for selector in before - shown} == {"path"}
        assert await attestor.unseen(caller, needed=BOTH) == [
            f"unix:path: {program} was replaced or removed after the process had started (an upgrade does that): restart the process"
        ]
        assert await attestor.unseen(caller, needed={"unix:sha256", "unix:uid"}) == []


async def test_what_no_entry_needs_is_not_missed(program: Path) -> None:
    with running(program) as caller:
        remove(program)
        assert await UnixAttestor(FakeClock()).unseen(caller, needed={"unix:uid"}) == []


async def test_an_executable_too_large_for_a_digest_is_told(program: Path) -> None:
    with running(program) as caller:
        found = await UnixAttestor(FakeClock(), max_executable_bytes=10).unseen(caller, needed=BOTH)
    assert found == ["unix:sha256: its executable has more than 10 bytes"]


async def test_an_executable_that_may_not_be_looked_at_is_told() -> None:
    with running(Path("/bin/sleep")) as caller:
        pass
    assert await UnixAttestor(FakeClock()).unseen(caller, needed=BOTH) == [
        f"unix:path and unix:sha256: the attestor may not look at its executable ({os.strerror(errno.ENOENT)})"
    ]


async def test_without_descriptors_a_caller_is_told_later_and_not_that_it_is_nobody(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attestor = UnixAttestor(FakeClock())

    def open_nothing(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with running(program) as caller:
        monkeypatch.setattr(os, "open", open_nothing)
        with pytest.raises(Refused) as refused:
            await attestor.attest(caller, needed=BOTH)
        monkeypatch.undo()
    assert refused.value.kind is Kind.UNAVAILABLE
