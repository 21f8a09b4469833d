"""`cognomen rulebook import`: from a running issuer, and from files of SPIRE, for which none runs."""

import io
import json
import sys
import tomllib
from pathlib import Path

import pytest

from cognomen.cli.main import run
from tests.flow.commandline import NODE, Command
from tests.unit.cognomen.rulebook.spireentries import entry, printed

AGENT = "/spire/agent/x509pop/7f3a"
OWNED = ("--owner=ann@example.org", "--purpose=books trips")
MANIFEST = """\
apiVersion: spire.spiffe.io/v1alpha1
kind: ClusterStaticEntry
metadata:
  name: crm
spec:
  spiffeID: spiffe://example.org/agent/concierge/crm
  parentID: spiffe://example.org/spire/agent/x509pop/7f3a
  selectors: ["unix:uid:1003"]
"""


def spire_file(directory: Path, *entries: dict[str, object]) -> str:
    file = directory / "entries.json"
    file.write_text(json.dumps(printed(*entries)))
    return str(file)


def test_the_entries_of_the_issuer_become_a_rulebook_that_changes_nothing_but_audiences(
    command: Command, tmp_path: Path
) -> None:
    made = [
        {"spiffe_id": "/travel", "parent_id": "/cognomen/issuer", "selectors": ["join_token:label:team:travel"]},
        {"spiffe_id": "/all", "parent_id": "/cognomen/issuer", "selectors": ["node:any"]},
        {"spiffe_id": "/plain", "parent_id": NODE, "selectors": ["unix:uid:1"]},
        *(
            {
                "spiffe_id": f"/agent/a{number % 7}/c{number}",
                "parent_id": ("/travel", NODE)[number % 2],
                "selectors": [f"unix:uid:{number}"],
                "x509_svid_ttl": 60 + number,
                "owner": "ann",
            }
            for number in range(1100)
        ),
    ]
    entries = tmp_path / "made.json"
    entries.write_text(json.dumps(made))
    assert command("entry", "create", "--from", str(entries)).code == 0
    target = tmp_path / "rules.toml"
    done = command("rulebook", "import", "--purpose=p", "--write", str(target))
    assert done.code == 1, done.err
    assert done.out == ""
    lines = done.err.splitlines()
    assert lines[:2] == ["left out: 1 entry", lines[1]]
    assert lines[1].startswith("its SPIFFE ID cannot stay, because components have /agent/AGENT/COMPONENT; --rename")
    assert lines[2].startswith("  /plain (entry ")
    assert lines[3] == "imported: 1100 entries as 1100 components of 7 agents"
    assert any(line.startswith("no entry is on the nodes of /all (entry ") for line in lines)
    found = tomllib.loads(target.read_text())["agent"]["a3"]
    assert (found["owner"], found["purpose"]) == ("ann", "p")
    assert found["component"]["c3"] == {
        "kind": "other",
        "nodes": NODE,
        "selectors": ["unix:uid:3"],
        "x509_ttl": "63s",
    }
    planned = command("plan", str(target), "-o", "json")
    assert planned.code == 2, planned.err
    before = command("entry", "list", "--below=/agent", "--all", "-o", "json").rows("entries")
    assert command("apply", str(target)).code == 0
    after = command("entry", "list", "--below=/agent", "--all", "-o", "json").rows("entries")
    keys = ("spiffe_id", "selectors", "x509_svid_ttl", "jwt_svid_ttl", "dns_names", "owner")
    assert [[one[key] for key in keys] for one in before] == [[one[key] for key in keys] for one in after]
    again = command("rulebook", "import", "--purpose=p")
    assert (again.code, tomllib.loads(again.out)) == (1, tomllib.loads(target.read_text()))


def test_spires_entries_are_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps(printed(entry("/ns/travel/sa/crm", AGENT, "unix:uid:1", x509_svid_ttl=3600)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run(["rulebook", "import", "--from=-", "--rename", "--agent-from-path=2", *OWNED]) == 0
    out, err = capsys.readouterr()
    assert out == (
        "# Made by cognomen rulebook import, from 1 entry.\n\n"
        '[agent.travel]\nowner = "ann@example.org"\npurpose = "books trips"\n'
        'nodes = ["join_token:label:spire-agent:x509pop/7f3a"]\n\n'
        '[agent.travel.component.crm]\nkind = "other"\nselectors = ["unix:uid:1"]\nx509_ttl = "1h"\n'
    )
    assert err.splitlines() == [
        "imported: 1 entry as 1 component of 1 agent",
        "1 component could get JWT-SVIDs for anybody, and by the rulebook for nobody: write may_call, model and audiences",
        "invite the nodes of 1 SPIRE agent with a label each:",
        "  cognomen node invite --label spire-agent=x509pop/7f3a",
    ]


def test_manifests_and_a_map_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifests, table, rules = tmp_path / "m.yaml", tmp_path / "map.toml", tmp_path / "rules.toml"
    manifests.write_text(MANIFEST)
    table.write_text(f'[nodes]\n"{AGENT}" = "any"\n[agent.concierge]\nowner = "ann"\npurpose = "books"\n')
    assert run(["rulebook", "import", f"--from={manifests}", f"--map={table}", f"--write={rules}"]) == 0
    assert "spire-agent" not in capsys.readouterr().err
    assert 'owner = "ann"\npurpose = "books"\nnodes = "any"\n' in rules.read_text()
    assert run(["prove", str(rules)]) == 0


def test_a_file_that_exists_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = spire_file(tmp_path, entry("/agent/a/b", AGENT, "unix:uid:1"))
    target = tmp_path / "rules.toml"
    target.write_text("mine")
    assert run(["rulebook", "import", f"--from={source}", *OWNED, f"--write={target}"]) == 1
    assert f"error: file {target}: already exists\n" in capsys.readouterr().err
    target.unlink()
    target.symlink_to(tmp_path / "elsewhere")
    assert run(["rulebook", "import", f"--from={source}", *OWNED, f"--write={target}"]) == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["entries.json", "rules.toml"]


def test_a_rulebook_without_owners_is_refused_by_every_command_until_they_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = spire_file(tmp_path, entry("/agent/a/b", AGENT, "unix:uid:1"))
    rules = tmp_path / "rules.toml"
    assert run(["rulebook", "import", f"--from={source}", f"--write={rules}"]) == 0
    assert "1 agent without an owner or a purpose: write them in place of each TODO\n" in capsys.readouterr().err
    for command in ("prove", "test"):
        assert run([command, str(rules)]) == 1
        assert f"{rules}:4: agent.a.owner: expected who answers for the agent" in capsys.readouterr().err
    rules.write_text(
        rules.read_text().replace("TODO: who answers for it?", "ann").replace("TODO: what is it for?", "x")
    )
    assert run(["prove", str(rules)]) == 0


def test_every_fault_of_every_file_is_told_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = spire_file(tmp_path, entry("/agent/a/b", AGENT, "unix:uid:1", ttl=1), entry("/a//b", AGENT, "unix:uid:1"))
    manifests, table, target = tmp_path / "m.yaml", tmp_path / "map.toml", tmp_path / "rules.toml"
    manifests.write_text("a: &x 1\n")
    table.write_text("[names]\nweb = 'a/b'\n")
    files = [f"--from={source}", f"--from={manifests}", f"--map={table}", f"--write={target}"]
    assert run(["rulebook", "import", *files]) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert [line.split(":")[0].rpartition("/")[2] for line in lines[:-1]] == [
        "map.toml",
        "entries.json",
        "entries.json",
        "m.yaml",
    ]
    assert lines[-1] == "error: 4 faults in what is to be imported"
    assert not target.exists()


def test_what_controls_a_terminal_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = spire_file(tmp_path, {"\x1b[2J": 1} | entry("/agent/a/b", AGENT, "unix:uid:1"))
    assert run(["rulebook", "import", f"--from={source}"]) == 1
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "expected SPIRE's entries as JSON, or manifests"),
        ("a: 1\n---\nb: 2\n", "expected SPIRE's entries as JSON, or manifests"),
        ("{", "expected JSON"),
        ('{"entries": [], "entries": []}', "entries"),
        ('{"entries": []}', "expected at least one entry, found none"),
        ("just a text", "entries: expected a list of entries"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    assert run(["rulebook", "import", f"--from={file}"]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--agent=A", "expected a name of a-z 0-9 . _ -, found 'A'"),
        ("--nodes=/web", "expected the path of a node"),
        ("--trust-domain=A B", "trust domain"),
        ("--drop=owner", "owner"),
        ("--agent-from-path=0", "0"),
    ],
)
def test_an_option_of_another_form_is_wrong_usage(
    option: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = spire_file(tmp_path, entry("/agent/a/b", AGENT, "unix:uid:1"))
    assert run(["rulebook", "import", f"--from={source}", option]) == 2
    assert words in capsys.readouterr().err
