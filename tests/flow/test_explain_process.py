"""`cognomen explain --pid`: the attestor says what a process shows, the issuer what its node shows, and the rules what it would be."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.doubles.passable import passable_directory
from tests.flow.twodaemons import World

UID = os.getuid()
RULES = f"""\
[agent.a]
owner = "ann"
purpose = "p"
nodes = "any"

[agent.a.component.mine]
kind = "other"
selectors = ["unix:uid:{UID}"]
allow = ["overlap"]

[agent.a.component.path]
kind = "other"
selectors = ["unix:uid:{UID}", "unix:path:/bin/db"]
allow = ["overlap"]

[agent.a.component.far]
kind = "other"
nodes = ["join_token:label:zone:far"]
selectors = ["unix:uid:{UID}"]
allow = ["overlap"]
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with passable_directory() as directory:
        world = World(directory)
        with world.running():
            yield world


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    return file


def explain(world: World, rules: Path, *more: str) -> tuple[int, Sequence[str]]:
    done = world.run("explain", str(rules), f"--socket={world.workload}", f"--pid={os.getpid()}", *more)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_process_is_explained_by_rules_that_nobody_applied(world: World, rules: Path) -> None:
    code, lines = explain(world, rules)
    assert code == 0
    assert lines[0].startswith("it shows unix:gid:")
    assert f"unix:uid:{UID}, on /cognomen/node/join_token/" in lines[0]
    far, path = (
        next(number for number, line in enumerate(lines) if f"it is not a/{name} " in line) for name in ("far", "path")
    )
    assert lines[1] == f"it is a/mine ({rules})"
    assert lines[far].endswith("its node lacks join_token:label:zone:far; no node shows join_token:label:zone:far")
    assert lines[far + 1].startswith("  cognomen node invite --label zone=far, and join")
    assert lines[far + 2].startswith(f"  or, if the rule is wrong: {rules}:18: nodes = ")
    assert lines[path].endswith(f"a/path ({rules}): it lacks unix:path:/bin/db")
    assert lines[path + 1].startswith(
        "  the attestor did not look at unix:path, because no entry of its node asks for that"
    )


def test_what_is_given_beside_the_pid_counts_too(world: World, rules: Path) -> None:
    _, lines = explain(world, rules, "--selector=unix:path:/bin/db")
    assert f"it is a/path ({rules})" in lines
    _, lines = explain(world, rules, "--node=join_token:label:zone:far")
    assert f"it is a/far ({rules})" in lines


def test_a_rule_that_names_a_link_is_told_where_it_leads(world: World, rules: Path, tmp_path: Path) -> None:
    real, link = tmp_path.resolve() / "python3.11", tmp_path.resolve() / "python"
    real.touch()
    link.symlink_to(real.name)
    rules.write_text(RULES.replace("/bin/db", str(link)))
    _, lines = explain(world, rules, f"--selector=unix:path:{real}")
    assert f"  {link} is a link to {real}: name that, or make the venv with --copies" in lines


def test_without_the_issuer_the_node_may_show_anything(world: World, rules: Path, tmp_path: Path) -> None:
    _, lines = explain(world, rules, f"--admin-socket={tmp_path / 'none'}")
    assert f"it is a/far ({rules}), if its node shows join_token:label:zone:far" in lines
    assert lines[lines.index(f"it is a/mine ({rules})") + 1].startswith("  unless it is suspended beside the rules:")


@pytest.fixture
def applied(world: World, rules: Path, tmp_path: Path) -> Iterator[None]:
    nothing = tmp_path / "nothing.toml"
    nothing.write_text("")
    assert world.run("apply", str(rules)).returncode == 0
    yield
    assert world.run("apply", str(nothing)).returncode == 0


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize("held", ["a", "a/mine"])
def test_what_is_suspended_beside_the_rules_gets_nothing(world: World, rules: Path, held: str) -> None:
    assert world.run("agent", "suspend", held).returncode == 0
    try:
        code, lines = explain(world, rules)
        why = json.loads(world.run("why", f"--socket={world.workload}", f"--pid={os.getpid()}", "-o", "json").stdout)
    finally:
        assert world.run("agent", "resume", held).returncode == 0
    at = lines.index(f"it is a/mine ({rules})")
    assert lines[at + 1 : at + 3] == [
        f"  but {held} is suspended beside the rules: it gets nothing",
        f"  cognomen agent resume {held}",
    ]
    assert code == 1
    told = {one["spiffe_id"]: (one["suspended"], one["actor"], one["not_looked_at"]) for one in why["suspended"]}
    assert told.pop("spiffe://example.org/agent/a/mine") == (held, f"uid:{UID}", [])
    whole = {"spiffe://example.org/agent/a/path": ("a", f"uid:{UID}", ["unix:path"])}
    assert told == (whole if held == "a" else {})
    assert explain(world, rules)[0] == 0


def test_the_document_has_what_the_lines_say(world: World, rules: Path) -> None:
    code, lines = explain(world, rules, "-o", "json")
    found = json.loads("\n".join(lines))
    assert code == 0
    assert [one["component"] for one in found["matches"]] == ["a/mine"]
    near = {one["component"]: one for one in found["near"]}
    assert near["a/far"]["missing_parent"] == "no node shows join_token:label:zone:far"
    assert near["a/far"]["mends"][0].startswith("cognomen node invite --label zone=far")
    assert f"unix:uid:{UID}" in found["selectors"]
    assert (found["unseen"], found["withdrawn"]) == ([], "")


def test_nobody_is_explained_without_a_process_or_selectors(world: World, rules: Path) -> None:
    done = world.run("explain", str(rules))
    assert done.returncode == 2
    assert "expected --pid or --selector, found neither" in done.stderr
