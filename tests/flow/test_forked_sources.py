"""Sources, clients and channels in processes that fork, at a real attestor's socket; each program is in forking.py."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doubles.project import ROOT
from tests.doubles.workloadside import WorkloadSide, entry, serving

MINE = entry("a", f"unix:uid:{os.geteuid()}")
MINE = replace(MINE, callers=(MINE.spiffe_id,))


class Program:
    """A program that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    async def end(self) -> int:
        return await self._process.wait()


@asynccontextmanager
async def program(name: str, side: WorkloadSide, directory: Path) -> AsyncIterator[Program]:
    """Run it at the socket of an attestor with this cache; it ends well."""
    path = directory / "api.sock"
    side.synchronise(MINE)
    async with (
        asyncio.timeout(50),
        serving(side.flow(), path, denials=side.denials_flow(), callers=side.callers_flow()),
    ):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.flow.forking",
            name,
            f"unix://{path}",
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        running = Program(process)
        try:
            yield running
            assert await running.end() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_a_source_begins_anew_in_a_child_and_the_parents_goes_on(tmp_path: Path) -> None:
    side = WorkloadSide()
    async with program("follows", side, tmp_path) as running:
        assert await running.line() == "child"
        side.mint(MINE)
        running.go_on()
        child, parent = await running.line(), await running.line()
        assert child == parent


async def test_what_is_denied_before_and_after_a_fork_is_denied_in_the_child(tmp_path: Path) -> None:
    side = WorkloadSide()
    async with program("denied", side, tmp_path) as running:
        assert await running.line() == "ready"
        side.deny_numbers(7)
        running.go_on()
        assert await running.line() == "child"
        side.deny_numbers(8)
        running.go_on()
        assert [await running.line(), await running.line()] == ["told", "done"]


@pytest.mark.parametrize("name", ["workers", "closed", "client", "busy", "channel", "file", "called"])
async def test_a_program_that_forks(name: str, tmp_path: Path) -> None:
    said = []
    async with program(name, WorkloadSide(), tmp_path) as running:
        while line := await running.line():
            said.append(line)
    assert said[-1] == "done"
