"""`cognomen plan`, `apply` and `rulebook history|show` at a running issuer, and the identities that follow."""

import json
import os
import pty
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bench.rig.child import Child, read_all
from bench.rig.daemons import COGNOMEN
from tests.flow.commandline import Command
from tests.flow.twodaemons import World
from tests.unit.cognomen.rulebook.books import CONCIERGE

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "concierge.toml").write_text(CONCIERGE)
    return folder


@pytest.fixture(autouse=True)
def no_rulebook_stays(command: Command, tmp_path: Path) -> None:
    """The issuer is shared: each test begins without an agent."""
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    assert command("apply", str(empty)).code == 0


def test_a_plan_is_shown_and_its_exit_code_says_whether_something_would_change(command: Command, rules: Path) -> None:
    planned = command("plan", str(rules))
    assert planned.code == 2, planned.err
    lines = planned.out.splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [
        ["+", "/agent/concierge/crm"],
        ["+", "/agent/concierge/crm"],
        ["+", "/agent/concierge/orchestrator"],
        ["+", "/agent/concierge/reasoning"],
        ["+", "nodes"],
    ]
    assert lines[-1].startswith("entries: 5 created, 0 updated, 0 deleted, 0 unchanged; ")
    assert command("entry", "list", "--below", "/agent", "-o", "json").rows("entries") == []
    applied = command("apply", str(rules), "--comment=PR 7")
    assert applied.code == 0, applied.err
    assert applied.out.splitlines()[:-1] == planned.out.splitlines()
    assert applied.out.splitlines()[-1].endswith(" is in force now")
    assert len(command("entry", "list", "--below", "/agent", "-o", "json").rows("entries")) == 4
    again = command("plan", str(rules))
    assert (again.code, again.out.startswith("entries: 0 created, 0 updated, 0 deleted, 5 unchanged; revision ")) == (
        0,
        True,
    )
    found = command("rulebook", "history", "-o", "json").rows("rulebooks")
    assert (found[0]["comment"], found[0]["components"]) == ("PR 7", 3)
    assert f"# concierge.toml, revision {found[0]['revision']}\n{CONCIERGE}" in command("rulebook", "show").out
    assert command("rulebook", "show", str(found[0]["revision"]), "-o", "json").document["files"] == {
        "concierge.toml": CONCIERGE
    }


def test_the_line_for_editors_stays_the_first_one(command: Command, rules: Path) -> None:
    (rules / "concierge.toml").write_text(f"#:schema ./rulebook.schema.json\n{CONCIERGE}")
    assert command("apply", str(rules)).code == 0
    first, second, third, *_ = command("rulebook", "show").out.splitlines()
    assert first == "#:schema ./rulebook.schema.json"
    assert second.startswith("# concierge.toml, revision ")
    assert third == CONCIERGE.splitlines()[0]


def test_what_changes_is_shown_and_as_json(command: Command, rules: Path) -> None:
    assert command("apply", str(rules)).code == 0
    file = rules / "concierge.toml"
    file.write_text(CONCIERGE.replace("unix:uid:1002", "unix:uid:2002").partition("[[case]]")[0])
    planned = command("plan", str(rules))
    assert "~ /agent/concierge/reasoning  selectors: unix:uid:1002 → unix:uid:2002" in planned.out
    found = json.loads(command("plan", str(rules), "-o", "json").out)
    (change,) = found["changes"]
    assert (change["before"]["selectors"], change["after"]["selectors"]) == (["unix:uid:1002"], ["unix:uid:2002"])
    assert (found["created"], found["updated"], found["deleted"], found["unchanged"]) == (0, 1, 0, 4)


def test_a_saved_plan_is_applied_unless_the_world_moved(command: Command, rules: Path, tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    assert command("plan", str(rules), f"--save={saved}").code == 2
    assert saved.stat().st_mode & 0o777 == 0o600
    (rules / "concierge.toml").unlink()  # the plan has all it needs
    assert command("apply", str(saved)).code == 0
    moved = command("apply", str(saved))
    assert (moved.code, "changed since the plan was made" in moved.err) == (1, True)
    saved.write_text(saved.read_text().replace("example.org", "other.example", 1))
    other = command("apply", str(saved))
    assert (other.code, "expected a plan of example.org, found one of other.example" in other.err) == (1, True)
    saved.write_text('{"cognomen_plan": 1}')
    assert "expected a plan as plan --save wrote it" in command("apply", str(saved)).err


def test_what_belongs_to_the_rulebook_is_changed_there(command: Command, rules: Path) -> None:
    assert command("apply", str(rules)).code == 0
    (entry, *_) = command("entry", "list", "--below", "/agent", "-o", "json").rows("entries")
    refused = command("entry", "delete", str(entry["id"]))
    assert (refused.code, "belongs to the rulebook" in refused.err) == (5, True)
    assert "hint: change the rulebook: cognomen plan RULES, then cognomen apply RULES" in refused.err


def test_a_rollback_is_a_new_revision_with_the_rules_of_an_earlier_one(command: Command, rules: Path) -> None:
    assert command("apply", str(rules)).code == 0
    first = command("rulebook", "history", "-o", "json").rows("rulebooks")[0]["revision"]
    file = rules / "concierge.toml"
    file.write_text(CONCIERGE.replace("30m", "20m"))
    assert command("apply", str(rules)).code == 0
    differs = command("rulebook", "diff", str(first)).out
    assert '-x509_ttl = "30m"\n+x509_ttl = "20m"\n' in differs
    assert command("rulebook", "diff", str(first), str(first)).out == ""
    back = command("rulebook", "rollback", str(first), "--comment=it was wrong")
    assert back.code == 0, back.err
    assert "x509_svid_ttl: 20m → 30m" in back.out
    newest, *_ = command("rulebook", "history", "-o", "json").rows("rulebooks")
    assert (newest["revision"], newest["comment"]) == (int(str(first)) + 2, "it was wrong")
    assert command("rulebook", "rollback", "999").code == 4


def test_a_rollback_across_a_retired_name_is_refused(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    rules = CONCIERGE.replace("concierge", "ended").partition("[[case]]")[0]
    file.write_text(rules)
    assert command("apply", str(file)).code == 0
    first = command("rulebook", "history", "-o", "json").rows("rulebooks")[0]["revision"]
    file.write_text(rules.replace("purpose", 'state = "retired"\npurpose', 1))
    assert command("apply", str(file)).code == 0
    refused = command("rulebook", "rollback", str(first))
    assert (refused.code, "a retired name never comes back" in refused.err) == (1, True)


def test_what_only_observes_is_marked_in_each_plan_and_in_the_list_of_agents(command: Command, rules: Path) -> None:
    assert command("rulebook", "observe").out == 'no component observes: give one, or its agent, mode = "observe"\n'
    (rules / "concierge.toml").write_text(
        CONCIERGE.replace('kind = "connector"', 'kind = "connector"\nmode = "observe"')
    )
    said = "? concierge/crm only observes from now on: nothing is issued for it"
    assert said in command("apply", str(rules)).out.splitlines()
    assert said.replace(" from now on", "") in command("plan", str(rules)).out.splitlines()
    found = command("plan", str(rules), "-o", "json").document
    assert found["observed"] == [{"component": "concierge/crm", "is_new": False}]
    (agent,) = command("agent", "list", "-o", "json").rows("agents")
    assert agent["mode"] == "mixed"
    components = command("agent", "show", "concierge", "-o", "json").rows("components")
    assert [(one["component"], one["mode"]) for one in components] == [
        ("crm", "observe"),
        ("orchestrator", "enforce"),
        ("reasoning", "enforce"),
    ]
    (found,) = command("rulebook", "observe", "--agent=concierge", "-o", "json").rows("components")
    assert (found["component"], found["issued"], found["refused"], found["more"]) == ("concierge/crm", [], [], 0)
    told = command("rulebook", "observe", "--agent=concierge").out
    assert told.startswith("concierge/crm: no report yet; it observes since ")
    missing = command("rulebook", "observe", "--agent=concirge")
    assert (missing.code, "hint: did you mean concierge?" in missing.err) == (4, True)
    assert command("rulebook", "observe", "--since=2999-01-01T00:00:00Z").code != 0


def test_the_agents_in_force_are_listed_with_who_answers_for_them(command: Command, rules: Path) -> None:
    assert command("agent", "list", "-o", "json").rows("agents") == []
    (rules / "concierge.toml").write_text(CONCIERGE.replace("2027-03-31", "2020-01-31"))
    applied = command("apply", str(rules))
    assert applied.code == 0
    assert "warning: agent concierge: its review was due on 2020-01-31; ask travel-platform@example.org" in applied.err
    (found,) = command("agent", "list", "-o", "json").rows("agents")
    assert (found["name"], found["owner"], found["components"], found["is_overdue"]) == (
        "concierge",
        "travel-platform@example.org",
        3,
        True,
    )
    assert command("agent", "list", "--overdue").out.count("concierge") == 1
    shown = command("agent", "show", "concierge", "-o", "json").document
    components = shown["components"]
    assert isinstance(components, list)
    assert {one["component"]: one["audiences"] for one in components} == {
        "crm": ["https://crm.example.org"],
        "orchestrator": ["/agent/concierge/crm", "/agent/concierge/reasoning"],
        "reasoning": ["https://api.anthropic.com"],
    }
    missing = command("agent", "show", "concierg")
    assert (missing.code, "hint: did you mean concierge?" in missing.err) == (4, True)


def test_what_is_suspended_is_listed_everywhere_and_a_plan_that_renames_it_says_so(
    command: Command, rules: Path
) -> None:
    assert command("apply", str(rules)).code == 0
    assert command("agent", "suspend", "concierge/crm", "--comment=taken over").code == 0
    try:
        (held,) = command("agent", "list", "-o", "json").rows("held")
        assert (held["name"], held["comment"], held["in_rulebook"]) == ("concierge/crm", "taken over", True)
        table = command("agent", "list").out.partition("\nsuspended:\n")[2]
        assert ("concierge/crm" in table, "taken over" in table) == (True, True)
        assert "suspended:" not in command("agent", "list", "--overdue").out
        assert [one["name"] for one in command("status", "-o", "json").rows("suspended")] == ["concierge/crm"]
        assert "concierge/crm" in command("status").out.partition("\nsuspended:\n")[2]
        file = rules / "concierge.toml"
        file.write_text(CONCIERGE.replace("component.crm]", "component.c9]").replace('"crm"]', '"c9"]'))
        planned = command("plan", str(rules))
        assert "! concierge/crm is suspended by an operator (" in planned.out
        said = "the rulebook has no component of that name; concierge/c9 has its selectors and is not suspended"
        assert said in planned.out
        (lost,) = json.loads(command("plan", str(rules), "-o", "json").out)["lost"]
        assert lost["heirs"] == ["concierge/c9"]
        assert said in command("apply", str(rules)).out
        (held,) = command("agent", "show", "concierge", "-o", "json").rows("held")
        assert (held["name"], held["in_rulebook"]) == ("concierge/crm", False)
        assert "concierge/crm" in command("agent", "show", "concierge").out.partition("\nsuspended:\n")[2]
    finally:
        assert command("agent", "resume", "concierge/crm").code == 0
    assert command("status", "-o", "json").rows("suspended") == []


def test_a_command_that_suspends_names_the_plain_entries_that_are_left(command: Command, rules: Path) -> None:
    (rules / "more.toml").write_text(
        CONCIERGE.partition("[provider")[0]
        .replace("concierge", "billing")
        .replace('model = "anthropic"\n', "")
        .replace("unix:uid:1", "unix:uid:2")
        .replace('audiences = ["https://crm.example.org"]\n', "")
    )
    assert command("apply", str(rules)).code == 0
    entries = command("entry", "list", "-o", "json", "--below", "/rulebook/nodes").rows("entries")
    parent = str(entries[0]["spiffe_id"])
    made = command("entry", "create", "--spiffe-id=/backdoor", f"--parent-id={parent}", "--selector=unix:uid:1003")
    assert (made.code, "is a node group of the rulebook, and the entry is not the rulebook's" in made.err) == (0, True)
    done = command("agent", "suspend", "concierge")
    try:
        assert done.code == 0
        assert "warning: programs of concierge still get /backdoor by a plain entry below /rulebook/nodes/" in done.err
        remedy = done.err.partition("to end it: cognomen ")[2].split()
        assert command(*remedy).code == 0
        assert "/backdoor" not in command("agent", "suspend", "concierge/crm").err
        assert command("agent", "resume", "concierge/crm").code == 0
    finally:
        assert command("agent", "resume", "concierge").code == 0


def check_reach(world: World, file: Path) -> None:
    """Check what the plan that suspends the agent says of its credentials, and what it does not reach."""
    (token,) = world.listed("svid", "credentials", "--kind=jwt", "--spiffe-id=/agent/tested/own")
    lives = datetime.fromisoformat(str(token["exchanged_until"])) - datetime.fromisoformat(str(token["not_after"]))
    assert lives == timedelta(hours=2), "a provider of the rulebook counts as one of the configuration does"
    dry = world.run("revoke", "svid", str(token["serial"]), "--dry-run")
    assert f"live until at most {token['exchanged_until']}, at https://crm.example.org" in dry.stderr
    planned = world.run("plan", str(file))
    assert planned.returncode == 2
    assert "\n  /agent/tested/own: 1 X509-SVID, 1 JWT-SVID, for https://crm.example.org, valid until " in planned.stdout
    at = f"at https://crm.example.org live until at most {token['exchanged_until']}"
    assert f"tokens that were exchanged {at}" in planned.stdout


def test_a_component_gets_its_identity_and_loses_it_when_its_agent_is_suspended(tmp_path: Path) -> None:
    world, file = World(tmp_path), tmp_path / "rules.toml"
    rules = (
        '[agent.tested]\nowner = "o"\npurpose = "p"\nnodes = "any"\nSTATE\n[agent.tested.component.own]\n'
        f'kind = "other"\nselectors = ["unix:uid:{os.getuid()}"]\naudiences = ["https://crm.example.org"]\n'
        '[provider.crm]\naudience = "https://crm.example.org"\nlongest_life = "2h"\n'
    )
    with world.running():
        file.write_text(rules.replace("STATE", ""))
        assert world.run("apply", str(file)).returncode == 0
        fetch = ("fetch", "x509", f"--socket={world.workload}", "-o", "json")
        while "/agent/tested/own" not in world.run(*fetch).stdout:
            pass  # pytest's timeout ends it
        ask = ("fetch", "jwt", f"--socket={world.workload}", "--audience")
        both = ["/agent/tested/own", "/web"]
        assert [one in world.run(*ask, "https://crm.example.org").stdout for one in both] == [True, True]
        assert [one in world.run(*ask, "https://elsewhere.example.org").stdout for one in both] == [False, True]
        refused = world.run(*ask, "https://elsewhere.example.org", "--spiffe-id=spiffe://example.org/agent/tested/own")
        assert (refused.returncode, "/agent/tested/own gets no token for https://elsewhere" in refused.stderr) == (
            5,
            True,
        )
        file.write_text(rules.replace("STATE", 'state = "suspended"'))
        check_reach(world, file)
        done = world.run("apply", str(file))
        assert done.returncode == 0, done.stderr
        assert "2 credentials revoked at once" in done.stdout
        while "/agent/tested/own" in world.run(*fetch).stdout:
            pass
        file.write_text(rules.replace("STATE", 'state = "active"'))
        assert world.run("apply", str(file)).returncode == 0
        while "/agent/tested/own" not in world.run(*fetch).stdout:
            pass
        world.run(*ask, "https://crm.example.org")
        file.write_text(rules.replace("STATE", 'state = "suspended"'))
        assert world.run("apply", str(file), "--let-expire").returncode == 0
        done = world.run("agent", "suspend", "tested")
        assert done.stdout.startswith("tested: suspended; 0 entries deleted, "), done.stderr
        assert "0 credentials" not in done.stdout, "whatever let it live on"
        assert world.run("agent", "resume", "tested").returncode == 0
        file.write_text(rules.replace("STATE", 'state = "active"'))
        assert world.run("apply", str(file)).returncode == 0
        while "/agent/tested/own" not in world.run(*fetch).stdout:
            pass
        held = world.run("agent", "suspend", "tested", "--comment=it misbehaves")
        assert (held.returncode, held.stdout.startswith("tested: suspended; 2 entries deleted, ")) == (0, True)
        while "/agent/tested/own" in world.run(*fetch).stdout:
            pass
        (shown,) = world.listed("agent", "agents")
        assert (shown["state"], str(shown["held_by"]).endswith(" it misbehaves")) == ("suspended", True)
        assert world.run("apply", str(file)).returncode == 0, "another apply does not bring it back"
        assert "/agent/tested/own" not in world.run(*fetch).stdout
        assert world.run("agent", "resume", "tested").stdout == "tested: resumed; 2 entries created\n"
        while "/agent/tested/own" not in world.run(*fetch).stdout:
            pass


def test_whatever_leaves_a_revision_ends_with_2(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    rules = CONCIERGE.replace("concierge", "planned").partition("[[case]]")[0]
    draft = rules.replace("purpose", 'state = "draft"\npurpose', 1)
    steps = [
        (draft, "+ agent planned  owner: travel-platform@example.org; "),
        (
            draft.replace("unix:uid:1002", "unix:uid:2002"),
            "~ component planned/reasoning  proofs: unix:uid:1002 → unix:",
        ),
        (f"# reviewed\n{draft}", "~ component planned/reasoning  proofs: unix:uid:2002 → unix:uid:1002"),
        (draft, "~ file rules.toml  means the same as before"),
        (
            draft.replace('"draft"', '"retired"'),
            "- agent planned is retired for good: no agent ever gets this name again",
        ),
    ]
    for text, words in steps:
        file.write_text(text)
        planned = command("plan", str(file))
        assert (planned.code, words in planned.out) == (2, True), planned.out
        assert json.loads(command("plan", str(file), "-o", "json").out)["new_revision"] is True
        assert command("apply", str(file)).code == 0
        again = command("plan", str(file))
        assert (again.code, again.out.splitlines()[0].startswith("entries: ")) == (0, True)
        assert command("plan", str(file), "-o", "json").document["new_revision"] is False


def test_an_agent_that_an_operator_suspended_is_named(command: Command, rules: Path) -> None:
    assert command("apply", str(rules)).code == 0
    assert command("agent", "suspend", "concierge", "--comment=it misbehaves").code == 0
    try:
        planned = command("plan", str(rules))
        assert planned.code == 0
        assert "! agent concierge is suspended by an operator (uid:" in planned.out
        assert ": it misbehaves): nothing is issued for it until it is resumed" in planned.out
    finally:
        assert command("agent", "resume", "concierge").code == 0


@pytest.mark.parametrize(("more", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_wants_none(
    more: dict[str, str], tmp_path: Path, admin_socket: Path, *, is_coloured: bool
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(CONCIERGE)
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | more | {"TERM": "xterm"}
    master, slave = pty.openpty()
    with Child([*COGNOMEN, "plan", str(file), f"--socket={admin_socket}"], env=environment, stdout=slave) as child:
        os.close(slave)
        told = read_all(master)
        assert child.wait(30) == 2
    assert (b"\x1b[32m+ /agent/concierge/crm" in told) is is_coloured
    assert b"+ /agent/concierge/crm" in told
