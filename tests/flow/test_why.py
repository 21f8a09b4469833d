"""`cognomen why`: what a process shows, what matches, what it lacks, and who may ask about whom."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypedDict

import pytest

from attestor.flows.explain_identity import ExplainIdentity
from attestor.workloadattestor.port import WorkloadAttestor
from bench.rig.child import Child
from cognomen.gate.caller import Caller, process_of
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector
from svid.clock import SystemClock
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.fuse import PROGRAM, fuse_of, why_not
from tests.doubles.passable import passable_directory
from tests.doubles.until import until
from tests.doubles.workloadattestor import WorkloadAttestorDouble
from tests.doubles.workloadside import WorkloadSide, entry
from tests.flow.twodaemons import World

NOBODY = 65530  # no uid of anybody, least of all the one that runs the tests
ME = f"unix:uid:{os.getuid()}"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with passable_directory() as directory:
        world = World(directory)
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
            world.entry("/other-nodes", "/cognomen/issuer", "join_token:label:other:nodes")
            world.entry("/elsewhere", "/other-nodes", ME)
            world.entry("/stray", "/no-nodes", ME)
            while len(why(world)["near"]) < 1:  # until the feed has brought it
                pass
            yield world


class Document(TypedDict):
    """What is printed as JSON."""

    pid: int
    selectors: list[str]
    matches: list[dict[str, object]]
    near: list[dict[str, object]]
    blocked: list[dict[str, object]]
    expired: list[dict[str, object]]
    here: list[dict[str, object]]
    elsewhere: list[dict[str, object]]
    nowhere: list[dict[str, object]]
    unseen: list[str]
    near_more: bool
    blocked_more: bool
    elsewhere_more: bool


def why(world: World, *arguments: str) -> Document:
    done = world.run("why", f"--socket={world.workload}", "--output=json", *arguments)
    assert done.returncode == 0, done.stderr
    found: Document = json.loads(done.stdout)
    return found


def ask(world: World) -> Document:
    """As `why`, also where nothing matches."""
    found: Document = json.loads(world.run("why", f"--socket={world.workload}", "--output=json").stdout)
    return found


def test_a_process_is_told_what_it_is_what_it_lacks_and_what_belongs_to_other_nodes(world: World) -> None:
    found = why(world)
    assert ME in found["selectors"]
    assert [one["spiffe_id"] for one in found["matches"]] == ["spiffe://example.org/web"]
    assert [(one["spiffe_id"], one["lacks"]) for one in found["near"]] == [
        ("spiffe://example.org/near", ["unix:path:/bin/db"]),
        ("spiffe://example.org/nobody", [f"unix:uid:{NOBODY}"]),  # shares nothing, so it comes last
    ]
    assert [one["selectors"] for one in found["near"]] == [["unix:path:/bin/db", ME], [f"unix:uid:{NOBODY}"]]
    assert [(one["spiffe_id"], one["parent_id"]) for one in found["elsewhere"]] == [
        ("spiffe://example.org/elsewhere", "spiffe://example.org/other-nodes")
    ]
    assert [one["spiffe_id"] for one in found["nowhere"]] == ["spiffe://example.org/stray"]
    assert (found["here"], found["blocked"]) == ([], [])


def test_what_is_of_a_banned_node_is_not_called_that_of_others() -> None:
    with passable_directory() as directory:
        world = World(directory)
        with world.running():
            (node,) = world.listed("node", "nodes")
            world.entry("/its", str(node["spiffe_id"]), ME)
            world.entry("/of-its-group", "/nodes", ME)
            world.command("node", "ban", str(node["id"]))

            def told() -> tuple[int, Document]:
                done = world.run("why", f"--socket={world.workload}", "--output=json")
                return done.returncode, json.loads(done.stdout)

            while (found := told())[0] == 0:
                pass  # until the attestor has heard of it
            here = {one["spiffe_id"] for one in found[1]["here"]}
            assert {"spiffe://example.org/its", "spiffe://example.org/of-its-group"} <= here
            assert (found[1]["elsewhere"], found[1]["nowhere"]) == ([], [])
            assert (
                "of its uid and this node, but not among those above:"
                in world.run("why", f"--socket={world.workload}").stdout
            )


@pytest.mark.parametrize("target", [["spiffe-id", "/near"], ["selector", ME], ["selector", "join_token:label:a:b"]])
def test_an_entry_that_is_blocked_is_told_with_the_revocation_until_that_is_lifted(
    world: World, target: list[str]
) -> None:
    revoked = world.command("revoke", *target, "--comment=drill", "--wait=20s")["revocation"]
    assert isinstance(revoked, dict)
    try:
        found = ask(world)
        blocked = {row["spiffe_id"]: row for row in found["blocked"]}
        near = blocked["spiffe://example.org/near"]
        said = revoked["number"], "drill", f"uid:{os.getuid()}"
        assert (near["revocation"], near["comment"], near["actor"]) == said
        assert ("spiffe://example.org/web" in blocked) == (target[0] == "selector")
        assert [one["spiffe_id"] for one in found["elsewhere"]] == ["spiffe://example.org/elsewhere"]
        told = world.run("why", f"--socket={world.workload}").stdout
        assert "blocked by a revocation, until it is lifted (cognomen revoke lift NUMBER):" in told
    finally:
        assert world.run("revoke", "lift", str(revoked["number"])).returncode == 0
    while "/near" not in str((found := ask(world))["near"]):
        pass  # until the attestor has heard of it
    assert found["blocked"] == []


def test_every_block_is_named(world: World) -> None:
    given = [world.command("revoke", *target, "--wait=20s") for target in (["spiffe-id", "/near"], ["selector", ME])]
    numbers = [one["revocation"]["number"] for one in given]  # type: ignore[index]  # a document
    try:
        rows = [row for row in ask(world)["blocked"] if row["spiffe_id"] == "spiffe://example.org/near"]
        assert [row["revocation"] for row in rows] == numbers
        told = world.run("why", f"--socket={world.workload}", f"--admin-socket={world.directory}/none").stdout
        assert "may still be blocked by a revocation:\nask the operator" in told
    finally:
        for number in numbers:
            assert world.run("revoke", "lift", str(number)).returncode == 0
    while "/near" not in str(ask(world)["near"]):
        pass  # until the attestor has heard of it


def test_an_entry_that_has_ended_is_told_with_its_end(world: World) -> None:
    selectors = f"--selector={ME}", f"--selector=unix:gid:{os.getgid()}"
    for seconds in (3, 20):  # the command refuses an end that has passed when a busy machine runs it
        end = (SystemClock().now() + timedelta(seconds=seconds)).replace(microsecond=0)
        arguments = "--spiffe-id=/ended", "--parent=/nodes", f"--expires-at={end:%Y-%m-%dT%H:%M:%SZ}", *selectors
        done = world.run("entry", "create", *arguments, "--output=json")
        if done.returncode == 0:
            break
        assert "expire" in done.stderr
    entry = json.loads(done.stdout)["entries"][0]["id"]
    while not (found := ask(world))["expired"]:
        pass
    (row,) = found["expired"]
    assert (row["entry_id"], row["spiffe_id"]) == (entry, "spiffe://example.org/ended")
    assert datetime.fromisoformat(str(row["expires_at"])) == end
    assert "of its uid, but expired:" in world.run("why", f"--socket={world.workload}").stdout
    assert world.run("entry", "delete", str(entry)).returncode == 0


def test_lists_that_were_cut_say_so(world: World, tmp_path: Path) -> None:
    parents = {"near": "/nodes", "elsewhere": "/cognomen/node/join_token/none"}
    made = [
        {"spiffe_id": f"/many/{key}/{number}", "parent_id": parent, "selectors": [ME, f"unix:path:/many/{number}"]}
        for key, parent in parents.items()
        for number in range(120)
    ]
    (tmp_path / "many.json").write_text(json.dumps(made))
    before = ask(world)
    assert (before["near_more"], before["blocked_more"], before["elsewhere_more"]) == (False, False, False)
    entries = world.command("entry", "create", f"--from={tmp_path}/many.json")["entries"]
    try:
        while not (found := ask(world))["near_more"]:
            pass  # until the feed has brought them
        assert len(found["near"]) == 10
        assert found["elsewhere_more"] is True
        assert "and more\n" in world.run("why", f"--socket={world.workload}").stdout
    finally:
        assert isinstance(entries, list)
        assert world.run("entry", "delete", *(str(one["id"]) for one in entries)).returncode == 0


def test_another_process_of_ones_own_is_looked_at_by_its_pid(world: World) -> None:
    with Child(["/bin/sleep", "60"]) as other:
        found = why(world, f"--pid={other.pid}")
    assert found["pid"] == other.pid
    assert f"unix:path:{Path('/bin/sleep').resolve()}" in found["selectors"]


def test_a_key_that_wins_over_the_identity_is_named_and_not_shown(world: World) -> None:
    identity = {"ANTHROPIC_IDENTITY_TOKEN_FILE": "/run/agent/tokens/claude", "AWS_WEB_IDENTITY_TOKEN_FILE": ""}
    keys = {"ANTHROPIC_API_KEY": "sk-of-mine", "AWS_ACCESS_KEY_ID": "AKIA-of-mine"}
    with Child(["sleep", "60"], env={**os.environ, **identity, **keys}) as agent:
        arguments = ("why", f"--pid={agent.pid}", f"--socket={world.workload}")
        assert world.command(*arguments)["winning_keys"] == ["ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID"]
        told = world.run(*arguments)
    assert (
        "warning: ANTHROPIC_API_KEY is in the environment of this process, and wins over ANTHROPIC_IDENTITY"
        in told.stderr
    )
    in_place = "AWS_ACCESS_KEY_ID is in the environment of this process, and the provider's SDK takes it in place of an identity"
    assert f"warning: {in_place} (AWS_WEB_IDENTITY_TOKEN_FILE is not set): remove it there\n" in told.stderr
    assert "of-mine" not in told.stdout + told.stderr


def test_the_audiences_of_each_identity_are_shown(world: World, tmp_path: Path) -> None:
    rules, audience = tmp_path / "rules.toml", "https://crm.example.org"
    rules.write_text(
        '[agent.own]\nowner = "o"\npurpose = "p"\nnodes = "any"\n[agent.own.component.a]\nkind = "other"\n'
        f'selectors = ["{ME}", "unix:path:{Path("/bin/sleep").resolve()}"]\naudiences = ["{audience}"]\n'
        f'[provider.crm]\naudience = "{audience}"\nlongest_life = "2h"\n'
    )
    assert world.run("apply", str(rules)).returncode == 0
    web, own = "spiffe://example.org/web", "spiffe://example.org/agent/own/a"
    with Child(["/bin/sleep", "60"]) as agent:
        of = ("why", f"--pid={agent.pid}", f"--socket={world.workload}")
        while "/agent/own/a: " not in (told := world.run(*of)).stdout:
            pass  # pytest's timeout ends it
        assert "/web: JWT-SVIDs for any audience\n" in told.stdout
        assert f"/agent/own/a: JWT-SVIDs only for {audience}\n" in told.stdout
        asked = world.command(*of, f"--audience={audience}")
        assert isinstance(allowed := asked["audience_allowed"], list)
        assert sorted(allowed) == [own, web]
        assert world.command(*of, "--audience=x")["audience_allowed"] == [web]
    rules.write_text("")
    done = world.run("apply", str(rules))
    assert done.returncode == 0, done.stderr


def test_people_read_the_same_in_tables(world: World) -> None:
    done = world.run("why", f"--socket={world.workload}")
    assert done.returncode == 0
    for text in (
        "its identities, the default one first:",
        "entries that nearly match, and what it lacks:",
        "but on other nodes",
    ):
        assert text in done.stdout


def test_no_such_process_is_not_found(world: World) -> None:
    done = world.run("why", "--pid=2147483647", f"--socket={world.workload}")
    assert (done.returncode, done.stderr) == (
        4,
        "error: pid: no process with pid 2147483647\n",
    )


@pytest.mark.parametrize("pid", [0, -1, 2**40])
def test_a_number_that_is_no_pid_is_not_found(pid: int) -> None:
    with pytest.raises(Refused, match="no process with pid") as refused:
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
    world.workload.parent.chmod(0o755)
    refused = ask_as_nobody(world, f"--pid={os.getpid()}")
    assert refused.returncode == 5
    assert f"expected a process of uid {NOBODY}, found one of another" in refused.stderr
    told = ask_as_nobody(world)
    assert told.returncode == 0, told.stderr
    assert "/nobody " in told.stdout
    assert "/near" not in told.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another uid needs root")
@pytest.mark.parametrize("uid", [NOBODY - 1, 3_000_000_000])
def test_a_process_without_an_identity_is_told_which_parent_an_entry_needs(world: World, uid: int) -> None:
    world.workload.parent.chmod(0o755)
    done = ask_as_nobody(world, uid=uid)
    assert done.returncode == 1, done.stderr
    assert f"unix:gid:{uid}," in done.stdout
    assert f"unix:uid:{uid}\n" in done.stdout
    assert "no identity: an entry matches if the process has all of its selectors" in done.stdout
    assert "spiffe://example.org/cognomen/node/join_token/" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another uid needs root")
def test_an_operator_whose_issuer_answered_is_not_sent_to_ask_it(world: World) -> None:
    with subprocess.Popen(["/bin/sleep", "60"], user=NOBODY - 1, group=NOBODY - 1, extra_groups=[]) as other:
        try:
            asked = "why", f"--pid={other.pid}", f"--socket={world.workload}"
            answered, alone = world.run(*asked), world.run(*asked, f"--admin-socket={world.directory}/none")
        finally:
            other.kill()
    assert (answered.returncode, alone.returncode) == (1, 1)
    assert "no identity: an entry matches if" in answered.stdout
    assert "ask the operator" not in answered.stdout
    assert "may still be blocked by a revocation:\nask the operator" in alone.stdout


def ask_as_nobody(world: World, *arguments: str, uid: int = NOBODY) -> "subprocess.CompletedProcess[str]":
    asked = ["why", f"--socket={world.workload}", *arguments]
    program = (
        "import os, sys, cognomen.cli.main, cognomen.cli.why\n"
        f"os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"
        f"sys.exit(cognomen.cli.main.run({asked!r}))"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)


def test_a_program_that_was_replaced_is_told_so(world: World, tmp_path: Path) -> None:
    program = Path(shutil.copy2("/bin/sleep", tmp_path / "db"))
    with Child([program, "60"]) as running:
        assert why(world, f"--pid={running.pid}")["unseen"] == []
        Path(shutil.copy2("/bin/sleep", tmp_path / "new")).rename(program)
        told = why(world, f"--pid={running.pid}")["unseen"]
        assert len(told) == 1
        assert told[0].startswith(f"unix:path: {program} was replaced or removed")
        shown = world.run("why", f"--socket={world.workload}", f"--pid={running.pid}").stdout
        assert f"some selectors that entries require cannot be determined:\n  {told[0]}\n" in shown


class Slow:
    """Answers for nobody of one uid."""

    name = "test"

    def __init__(self, uid: int) -> None:
        self._uid = uid

    async def attest(self, caller: Caller, *, needed: Collection[str]) -> frozenset[Selector]:
        del needed
        if caller.uid == self._uid:
            await asyncio.Event().wait()
        return frozenset({Selector.parse("test:program:a")})

    async def unseen(self, caller: Caller, *, needed: Collection[str]) -> Sequence[str]:
        del caller, needed
        return []


def explaining(clock: FakeClock, attestor: WorkloadAttestor) -> ExplainIdentity:
    side = WorkloadSide(clock=clock)
    side.synchronise(entry("a", "test:program:a"))
    node = SpiffeID.parse("spiffe://example.org/cognomen/node/join_token/1")
    workloads = side.flow(attestor, attest_seconds=60)
    return ExplainIdentity(cache=side.cache, node=lambda: node, workloads=workloads, clock=clock)


@pytest.mark.parametrize("raises", ["refuses", "unseen_raises"])
async def test_an_attestor_that_fails_is_named(raises: str) -> None:
    attestor, mine = WorkloadAttestorDouble("test:program:a"), process_of(os.getpid())
    setattr(attestor, raises, RuntimeError("secret"))
    with pytest.raises(Refused) as refused:
        await explaining(FakeClock(), attestor)(mine, 0, sees_all=False)
    assert refused.value.kind is Kind.UNAVAILABLE
    assert refused.value.detail == "workload attestor test failed: RuntimeError; the attestor's log says more"
    mine.process.close()


async def test_who_waits_for_a_look_at_a_process_of_its_own_keeps_nobody_else_waiting() -> None:
    clock = FakeClock()
    explain, mine = explaining(clock, Slow(uid=1)), process_of(os.getpid())
    waiting = asyncio.ensure_future(explain(replace(mine, uid=1, owner=None), 0, sees_all=False))
    assert (await explain(replace(mine, uid=2, owner=None), 0, sees_all=False)).uid == 2
    waiting.cancel()
    mine.process.close()


async def test_who_asks_without_end_keeps_another_uid_waiting_for_one_turn() -> None:
    clock = FakeClock()
    explain, mine = explaining(clock, WorkloadAttestorDouble("test:program:a")), process_of(os.getpid())
    many = [asyncio.ensure_future(explain(replace(mine, uid=1, owner=None), 0, sees_all=False)) for _ in range(20)]
    await until(lambda: clock.sleepers == 1)
    assert (await explain(replace(mine, uid=2, owner=None), 0, sees_all=False)).uid == 2
    assert sum(one.done() for one in many) == 11, "what it may ask at once"
    for one in many:
        one.cancel()
    await asyncio.wait(many)
    mine.process.close()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_process_on_a_file_system_that_answers_nothing_is_explained_by_its_uid(world: World, tmp_path: Path) -> None:
    with fuse_of(Path("/bin/sleep"), tmp_path) as fuse, Child([tmp_path / PROGRAM, "60"]) as frozen:
        fuse.freeze()
        shown = why(world, f"--pid={frozen.pid}")["selectors"]
        assert ME in shown
        assert not [one for one in shown if one.startswith("unix:path:")]
        assert fuse.questions() == 0
