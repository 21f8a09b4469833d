"""`cognomen why`: what a process shows, what matches, what it lacks, and who may ask about whom."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import pytest

from cognomen.daemon.caller import process_of
from cognomen.daemon.errors import Kind, Refused
from tests.flow.twodaemons import World

NOBODY = 65534
ME = f"unix:uid:{os.getuid()}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("why"))
    with world.running():
        world.command(
            "entry",
            "create",
            "--spiffe-id=/near",
            "--parent=/nodes",
            f"--selector={ME}",
            "--selector=unix:path:/bin/db",
        )
        world.entry("/nobody", "/nodes", f"unix:uid:{NOBODY}")
        world.entry("/elsewhere", "/other-nodes", ME)
        while len(why(world)["near"]) < 1:  # until the feed has brought it
            pass
        yield world


class Document(TypedDict):
    """What is printed as JSON."""

    pid: int
    selectors: list[str]
    matches: list[dict[str, object]]
    near: list[dict[str, object]]
    elsewhere: list[dict[str, object]]


def why(world: World, *arguments: str) -> Document:
    done = world.run("why", f"--socket={world.workload}", "--output=json", *arguments)
    assert done.returncode == 0, done.stderr
    found: Document = json.loads(done.stdout)
    return found


def test_a_process_is_told_what_it_is_what_it_lacks_and_what_belongs_to_other_nodes(world: World) -> None:
    found = why(world)
    assert ME in found["selectors"]
    assert [one["spiffe_id"] for one in found["matches"]] == ["spiffe://example.org/web"]
    assert [(one["spiffe_id"], one["lacks"]) for one in found["near"]] == [
        ("spiffe://example.org/near", ["unix:path:/bin/db"]),
        ("spiffe://example.org/nobody", [f"unix:uid:{NOBODY}"]),  # shares nothing, so it comes last
    ]
    assert [(one["spiffe_id"], one["parent_id"]) for one in found["elsewhere"]] == [
        ("spiffe://example.org/elsewhere", "spiffe://example.org/other-nodes")
    ]


def test_another_process_of_ones_own_is_looked_at_by_its_pid(world: World) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        found = why(world, f"--pid={other.pid}")
        other.kill()
    assert found["pid"] == other.pid
    assert f"unix:path:{Path('/bin/sleep').resolve()}" in found["selectors"]


def test_people_read_the_same_in_tables(world: World) -> None:
    done = world.run("why", f"--socket={world.workload}")
    assert done.returncode == 0
    for text in ("its identities, the default one first:", "near, but it lacks:", "but not this node's"):
        assert text in done.stdout


def test_no_such_process_is_not_found(world: World) -> None:
    done = world.run("why", "--pid=2147483647", f"--socket={world.workload}")
    assert (done.returncode, done.stderr) == (
        4,
        "error: pid: expected a process that runs, found none with 2147483647\n",
    )


@pytest.mark.parametrize("pid", [0, -1, 2**40])
def test_a_number_that_is_no_pid_is_not_found(pid: int) -> None:
    with pytest.raises(Refused, match="expected a process that runs") as refused:
        process_of(pid)
    assert refused.value.kind is Kind.NOT_FOUND


def test_a_process_is_held_with_its_effective_ids_and_groups() -> None:
    found = process_of(os.getpid())
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert found.groups == frozenset(os.getgroups())
    assert found.is_alive()
    found.process.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another uid needs root")
def test_another_user_is_told_of_itself_and_of_nobody_else(world: World) -> None:
    open_to_all(world)
    refused = ask_as_nobody(world, f"--pid={os.getpid()}")
    assert refused.returncode == 5
    assert "expected a process of uid 65534, found one of another" in refused.stderr
    told = ask_as_nobody(world)
    assert told.returncode == 0, told.stderr
    assert "spiffe://example.org/nobody" in told.stdout
    assert "/near" not in told.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another uid needs root")
def test_a_process_without_an_identity_is_told_which_parent_an_entry_needs(world: World) -> None:
    open_to_all(world)
    done = ask_as_nobody(world, uid=NOBODY - 1)
    assert done.returncode == 1
    assert "no identity: an entry matches when the process shows all of its selectors" in done.stdout
    assert "spiffe://example.org/cognomen/node/join_token/" in done.stdout


def open_to_all(world: World) -> None:
    for directory in (world.directory, *world.directory.parents):
        if directory.stat().st_uid == os.geteuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    world.workload.parent.chmod(0o755)


def ask_as_nobody(world: World, *arguments: str, uid: int = NOBODY) -> "subprocess.CompletedProcess[str]":
    asked = ["why", f"--socket={world.workload}", *arguments]
    program = (
        "import os, sys, cognomen.cli.main, cognomen.cli.why\n"
        f"os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"
        f"sys.exit(cognomen.cli.main.run({asked!r}))"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
