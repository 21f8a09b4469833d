"""`cognomen prove`, `test`, `explain` and `rulebook schema`: no issuer runs."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from cognomen.cli.main import run
from cognomen.rulebook.reading import MOST_BYTES
from cognomen.rulebook.tables import RulebookTable
from tests.doubles.project import ROOT
from tests.unit.cognomen.rulebook.books import CONCIERGE

_OVERLAP = CONCIERGE.replace("unix:uid:1002", "unix:uid:1001").replace("concierge/reasoning", "concierge/orchestrator")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "concierge.toml").write_text(CONCIERGE)
    (folder / "notes.md").write_text("not a rule")
    (folder / ".hidden.toml").write_text("not a rule")
    return folder


def test_a_good_rulebook_passes(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prove", str(rules)]) == 0
    assert run(["test", str(rules / "concierge.toml")]) == 0
    assert capsys.readouterr() == ("3 components of active agents, 0 findings\n1 test, 0 failed\n", "")
    assert run(["prove", str(rules), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"findings": [], "count": 0, "is_cut": False, "faults": []}


def test_a_finding_is_shown_with_what_shows_it(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rules / "concierge.toml"
    file.write_text(_OVERLAP)
    assert run(["prove", str(rules)]) == 1
    told = capsys.readouterr().out
    for words in (
        f"a process can be concierge/orchestrator and concierge/reasoning at once (overlap, {file}:10)",
        "  shown by: unix:path:/srv/concierge/bin/python unix:uid:1001, on nodes: join_token:label:team:travel",
        '  add a selector in which they differ, such as unix:uid; if it is meant so: allow = ["overlap"] in both components',
        "3 components of active agents, 1 finding",
    ):
        assert words in told
    assert run(["prove", str(rules), "-o", "json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert (found["file"], found["line"], found["lacking"]) == (str(file), 10, found["components"])
    assert (found["guard"], found["components"]) == ("overlap", ["concierge/orchestrator", "concierge/reasoning"])


def test_a_finding_about_two_names_the_one_that_does_not_allow_it(
    rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = rules / "concierge.toml"
    file.write_text(_OVERLAP.replace('kind = "orchestrator"', 'kind = "orchestrator"\nallow = ["overlap"]'))
    assert run(["prove", str(rules)]) == 1
    assert 'if it is meant so: allow = ["overlap"] in concierge/reasoning too\n' in capsys.readouterr().out
    assert run(["prove", str(rules), "-o", "json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert found["lacking"] == ["concierge/reasoning"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"\xff.toml", "/\\xff.toml: expected a file name in UTF-8, found the byte 0xff"),
        (b"\x1b[2J.toml", "/\\x1b[2J.toml: expected a file name of printable characters"),
    ],
)
def test_a_file_name_that_cannot_be_kept_or_shown_is_refused(
    name: bytes, words: str, rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (rules / "concierge.toml").rename(rules / os.fsdecode(name))
    assert run(["prove", str(rules)]) == 1
    told = capsys.readouterr().err
    assert words in told
    assert "hint: rename the file" in told


def test_the_names_of_files_count_as_the_issuer_counts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_bytes(b"#" * MOST_BYTES)
    assert run(["prove", str(tmp_path)]) == 1
    found = f"expected at most {MOST_BYTES} bytes in all files and their names, found {MOST_BYTES + 6}"
    assert capsys.readouterr().err == f"error: {tmp_path}: {found}\n"


def test_of_many_findings_about_a_component_a_few_are_shown_and_all_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(
        '[agent.a]\nowner = "o"\npurpose = "p"\nnodes = "any"\n'
        + "".join(f'[agent.a.component.c{at}]\nkind = "other"\nselectors = ["unix:uid:1"]\n' for at in range(900))
    )
    assert run(["prove", str(file)]) == 1
    told = capsys.readouterr().out
    assert "  and 896 findings more like this about a/c0\n" in told
    assert told.endswith("\n900 components of active agents, 404550 findings; the first 1000 are shown\n")
    assert run(["prove", str(file), "-o", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (len(found["findings"]), found["count"], found["is_cut"]) == (1000, 404550, True)
    assert [one["more"] for one in found["findings"][:3]] == [0, 0, 896]


def test_a_test_that_fails_says_what_was_found(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rules / "concierge.toml"
    file.write_text(CONCIERGE.replace('expect = ["concierge/reasoning"]', "expect = []"))
    assert run(["test", str(rules)]) == 1
    assert capsys.readouterr().out == (
        f"failed: the model's layer ({file})\n  expected nothing, found concierge/reasoning\n1 test, 1 failed\n"
    )
    assert run(["test", str(rules), "-o", "json"]) == 1
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert (case["is_good"], case["found"], case["audiences"]) == (
        False,
        ["concierge/reasoning"],
        ["https://api.anthropic.com"],
    )


def test_it_is_explained_what_a_process_is_and_what_it_lacks(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = "--node=join_token:label:team:travel"
    assert run(["explain", str(rules), "--selector=unix:uid:1001", node]) == 1
    told = capsys.readouterr().out
    assert told.startswith("it is nothing\nit is not concierge/orchestrator (")
    assert ": it lacks unix:path:/srv/concierge/bin/python\n" in told
    assert run(["explain", str(rules), "--selector=unix:uid:1002", node, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["matches"] == [
        {
            "component": "concierge/reasoning",
            "external_audiences": ["https://api.anthropic.com"],
            "held": "",
            "mode": "enforce",
        }
    ]
    assert run(["explain", str(rules), "--selector=unix:uid:1002"]) == 1
    assert "its node lacks join_token:label:team:travel" in capsys.readouterr().out
    file = rules / "concierge.toml"
    file.write_text(CONCIERGE.replace("purpose", 'state = "suspended"\npurpose', 1))
    assert run(["explain", str(rules), "--selector=unix:uid:1002", node]) == 1
    assert f': the agent is suspended\n  {file}:3: state = "active"\n' in capsys.readouterr().out


def test_a_component_that_only_observes_is_explained_so_and_proved_and_tested_like_any_other(
    rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (rules / "concierge.toml").write_text(
        CONCIERGE.replace('kind = "reasoning"', 'kind = "reasoning"\nmode = "observe"')
    )
    asked = ("explain", str(rules), "--selector=unix:uid:1002", "--node=join_token:label:team:travel")
    assert run(asked) == 1
    assert capsys.readouterr().out.startswith(
        f"it would be concierge/reasoning ({rules}/concierge.toml); that rule only observes\n"
    )
    assert run([*asked, "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["matches"][0]["mode"] == "observe"
    assert run(["prove", str(rules)]) == 0
    assert run(["test", str(rules)]) == 0


@pytest.mark.parametrize("command", ["prove", "test"])
def test_every_fault_is_told_with_its_place(command: str, rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rules / "more.toml"
    file.write_text('[agent.x]\nownr = "me"\n\n[agent.concierge]\n')
    assert run([command, str(rules)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert f"{file}:2: agent.x.ownr: unknown key; did you mean owner?" in lines
    assert lines[-1].startswith(f"error: {rules}: ")
    assert lines[-1].endswith(" faults in the rulebook")


@pytest.mark.parametrize(("command", "empty"), [("prove", "findings"), ("test", "cases")])
def test_faults_are_json_too(command: str, empty: str, rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rules / "more.toml"
    file.write_text('[agent.x]\nownr = "me"\n')
    assert run([command, str(rules), "-o", "json"]) == 1
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert document[empty] == []
    assert {
        "file": str(file),
        "line": 2,
        "key": "agent.x.ownr",
        "problem": "unknown key",
        "mend": "did you mean owner?",
        "more": 0,
    } in document["faults"]
    assert told.err == f"error: {rules}: {len(document['faults'])} faults in the rulebook\n"


def test_what_cannot_be_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary.toml").write_bytes(b"\x00\xff")
    for name, code, words in (
        ("missing", 4, "no such file or directory"),
        ("empty", 4, "expected files *.toml, found none"),
        ("pipe", 1, "expected a regular file"),
        ("binary.toml", 1, "1 fault in the rulebook"),
    ):
        assert run(["prove", str(tmp_path / name)]) == code
        assert words in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="another uid needs root")
def test_rules_that_one_may_not_read_are_no_wrong_usage(rules: Path, tmp_path: Path) -> None:
    """2 would say of a plan that it changes something."""
    tmp_path.chmod(0o711)
    (rules / "concierge.toml").chmod(0o600)
    for argument in ("rules/concierge.toml", "rules"):
        call = (  # everything is imported before that user, who may not be able to read it, does the rest
            "import os; from cognomen.cli.main import run; run(['prove', '--help']); os.setuid(65534);"
            f"raise SystemExit(run(['prove', '{argument}']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", call], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (1, "error: rules/concierge.toml: permission denied\n")


def test_the_graph_is_drawn_as_lines_and_for_graphviz(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", str(rules)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "concierge/orchestrator → concierge/crm, concierge/reasoning",
        "concierge/reasoning → https://api.anthropic.com",
        "concierge/crm → https://crm.example.org",
    ]
    assert run(["graph", str(rules), "--format=dot"]) == 0
    drawn = capsys.readouterr().out
    for line in (
        '    "concierge/crm" [shape = box];',
        '  "concierge/orchestrator" -> "concierge/crm";',
        '  "concierge/crm" -> "https://crm.example.org";',
        '    label = "concierge (active), travel-platform@example.org";',
    ):
        assert f"{line}\n" in drawn


def test_the_schema_is_that_of_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rulebook", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$defs"]["ComponentTable"]["required"] == ["kind"]
    assert set(schema["$defs"]["RulebookTable"]["properties"]) == {"agent", "provider", "case", "selector_types"}
    assert isinstance(msgspec.convert(tomllib.loads(CONCIERGE), RulebookTable), RulebookTable)
