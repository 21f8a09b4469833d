"""`cognomen plan` asks the nodes who would gain or lose an identity: a real issuer, a real attestor, and real programs with streams."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.house import copy_of_interpreter, environment_of_copy
from bench.rig.child import Child
from tests.flow.twodaemons import World

pytestmark = pytest.mark.timeout(180)

_PROGRAM = """
import sys
from svid import X509Source
with X509Source(sys.argv[1]):
    print("holds", flush=True)
    sys.stdin.read()
"""
_BOOK = """
[agent.shop]
owner   = "shop@example.org"
purpose = "sells things"
nodes   = ["join_token:label:{label}"]

[agent.shop.component.{name}]
kind      = "connector"
selectors = ["unix:uid:{uid}", "unix:path:{program}"]
"""
_UNSEEN = "a program that has not called its attestor within the last 10 minutes is not known to it"


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A world in which a program holds a stream; it is /web, and the rules are about its path."""

    world: World
    rules: Path
    program: Path
    pid: int
    node: str

    def book(self, name: str = "till", label: str = "a:b") -> None:
        self.rules.write_text(_BOOK.format(label=label, name=name, uid=os.getuid(), program=self.program))

    def plan(self, *options: str) -> list[str]:
        """The lines of a plan that are about the nodes."""
        done = self.world.run("plan", str(self.rules), *options)
        assert done.returncode in {0, 2}, done.stderr
        lines = done.stdout.splitlines()
        (summary,) = (number for number, line in enumerate(lines) if line.startswith("entries: "))
        return [line for line in lines[summary + 1 :] if " revoked at once" not in line and not line.startswith("  /")]

    def apply(self) -> None:
        done = self.world.run("apply", str(self.rules), "--no-ask")
        assert done.returncode == 0, done.stderr

    @property
    def who(self) -> str:
        return f"node {self.node}: pid {self.pid} (uid {os.getuid()}, {self.program})"


@contextmanager
def holding(world: World, program: Path) -> Iterator[int]:
    """A process of this program that holds a stream."""
    with Child[str](
        [str(program), "-c", _PROGRAM, f"unix://{world.workload}"],
        env=environment_of_copy(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "holds\n"
        yield child.pid


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    world, program = World(tmp_path), copy_of_interpreter(tmp_path)
    with world.running(), holding(world, program) as pid:
        (node,) = world.listed("node", "nodes")
        yield Shop(world=world, rules=tmp_path / "rules.toml", program=program, pid=pid, node=str(node["name"]))


def test_who_gains_and_who_loses_is_said_and_nobody_is_asked_about_what_does_not_change(shop: Shop) -> None:
    shop.book()
    assert shop.plan() == [f"{shop.who} gains /agent/shop/till", "1 of 1 node answered", _UNSEEN]
    assert shop.plan("--no-ask") == []
    shop.apply()
    assert shop.plan() == []
    shop.book("counter")
    both = f"{shop.who} gains /agent/shop/counter; loses /agent/shop/till"
    assert shop.plan() == [both, "1 of 1 node answered", _UNSEEN]
    shop.book(label="another:team")
    assert shop.plan() == [f"{shop.who} loses /agent/shop/till", "1 of 1 node answered", _UNSEEN]
    shop.apply()
    shop.book("counter", label="another:team")
    assert shop.plan() == []


def test_a_node_that_does_not_answer_is_named_and_the_plan_does_not_wait_longer(shop: Shop) -> None:
    shop.book()
    os.kill(shop.world.attestor.pid, signal.SIGSTOP)
    try:
        assert shop.plan() == [f"0 of 1 node answered; silent: {shop.node}", _UNSEEN]
        (found,) = json.loads(shop.world.run("plan", str(shop.rules), "-o", "json").stdout)["nodes"]
        assert (found["outcome"], found["programs"]) == ("silent", [])
    finally:
        os.kill(shop.world.attestor.pid, signal.SIGCONT)
    for _ in range(10):  # the questions of before come first, and nobody waits for their answers
        if (lines := shop.plan())[0].startswith("node "):
            break
    assert lines == [f"{shop.who} gains /agent/shop/till", "1 of 1 node answered", _UNSEEN]
