"""Tables on a real terminal of 80 and of 120 columns, and in a pipe: nothing is cut."""

import json
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from fcntl import ioctl

import pytest

from bench.rig.child import Child, read_all
from bench.rig.daemons import COGNOMEN, Dev

PATHS = ("/agent/concierge/reasoning", "/agent/concierge/connector-of-bookings42", "/agent/travel-desk/orchestrator")
SELECTORS = ("unix:path:/opt/agents/concierge/bin/reasoning", f"unix:uid:{os.getuid()}")
COMMIT = "3f2a91bc0d5e6f708192a3b4c5d6e7f809112233: owners of the travel desk changed"
COMMANDS = (
    *("entry list", "node list", "svid list", "status", "audit tail", "authority list", "revoke list"),
    "bundle exports",
    *("audit list --page-size 40", "audit list --decision refused", "audit list --action revoked"),
    *(f"entry history {PATHS[0]}", "audit who --below /agent --since 2026-01-01T00:00:00Z"),
)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    directory = tmp_path_factory.mktemp("t")
    environment = {"COGNOMEN_ADMIN_SOCKET": str(directory / "state" / "admin" / "issuer.sock")}
    with Dev(directory, "--entry", f"/web=unix:uid:{os.getuid()}", environment=environment) as running:
        (node,) = running.admin("node", "list")["nodes"]
        parent = f"--parent={str(node['id'])[:8]}"
        for path in PATHS:
            selectors = [f"--selector={one}" for one in SELECTORS]
            running.command("entry", "create", f"--spiffe-id={path}", parent, *selectors, "--owner=travel@example.org")
        running.command("fetch", "x509")
        running.command("revoke", "spiffe-id", PATHS[1], "--comment=task ended")
        running.command("entry", "update", PATHS[0], "--x509-svid-ttl=90m", f"--comment={COMMIT}")
        (serial, *_) = [str(one["serial"]) for one in running.admin("svid", "list", "--kind=x509")["credentials"]]
        running.command("revoke", "svid", serial, "--comment=leaked")
        assert running.run("entry", "delete", "0" * 32).returncode == 4
        running.command("bundle", "export", "--name=openai", f"--write={directory / 'jwks.json'}")
        yield running


def on_a_terminal(dev: Dev, columns: int, *arguments: str) -> list[str]:
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in dev.environment.items() if key not in {"COLUMNS", "LINES"}}
    with Child([*COGNOMEN, *arguments], stdout=slave, stdin=slave, env=environment):
        os.close(slave)
        return read_all(master).decode().splitlines()


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_table_fits_the_terminal_and_no_word_is_cut(dev: Dev, name: str, columns: int) -> None:
    lines = on_a_terminal(dev, columns, *name.split())
    assert len(lines) > 1
    assert [line for line in lines if len(line) > columns] == []
    assert sorted(words(" ".join(lines))) == sorted(words(dev.command(*name.split())))


def test_an_export_that_is_behind_fits_with_the_longest_name(dev: Dev) -> None:
    name, file = "n" * 64, dev.state / "long.json"
    dev.command("bundle", "export", f"--name={name}", f"--write={file}")
    dev.command("authority", "prepare", "jwt")
    lines = on_a_terminal(dev, 80, "bundle", "exports")
    assert [line for line in lines if len(line) > 80] == []
    assert sorted(words(" ".join(lines))) == sorted(words(dev.command("bundle", "exports")))
    assert [one["missing"] for one in dev.admin("bundle", "exports")["exports"]].count([]) == 0
    dev.command("bundle", "forget-export", name)
    dev.command("bundle", "export", "--name=openai", f"--write={file}")  # other tests find no trouble


def test_an_action_is_not_broken_where_texts_can_give_way(dev: Dev) -> None:
    (node,) = dev.admin("node", "list")["nodes"]
    for filters in ("--decision=refused", f"--node-id={node['id']}", "--action=entry updated"):
        (_, *lines) = on_a_terminal(dev, 80, "audit", "list", filters, "--page-size=12")
        rows = [line for line in lines if re.match("[0-9]", line)]
        # "invite created" is longer: beside a uid of five digits and a path, it breaks once the texts have given way
        short = ("entry created", "entry updated", "entry deleted", "x509 issued", "node issued", "node attested")
        assert [row for row in rows if not re.search(f"{'|'.join(short)}|invite|revoked|node svid", row)] == []


def test_a_subject_is_short_as_an_actor_is(dev: Dev) -> None:
    (node,) = dev.admin("node", "list")["nodes"]
    shown = dev.command("audit", "list", "--action", "node issued").splitlines()
    assert [line.split()[-4:] for line in shown[1:]] == [["node", "issued", str(node["id"])[:8], "-"]]
    whole = dev.command("audit", "list", "--action", "node issued", "-o", "wide")
    assert f" spiffe://example.org/cognomen/node/join_token/{node['id']} " in whole


def test_each_serial_of_a_table_means_one_credential(dev: Dev) -> None:
    shown = [line.split()[0] for line in dev.command("svid", "list", "--all").splitlines()[1:]]
    assert {len(one) for one in shown} == {16}
    for serial in shown:
        assert dev.run("svid", "show", serial).returncode == 0


def test_a_list_of_credentials_has_a_line_for_each_within_80_columns(dev: Dev) -> None:
    lines = on_a_terminal(dev, 80, "svid", "list", "--kind=x509", "--spiffe-id", PATHS[2])
    assert len(PATHS[2]) >= 30
    assert len(lines) == len(dev.admin("svid", "list", "--kind=x509", "--spiffe-id", PATHS[2])["credentials"]) + 1


def test_durations_are_written_as_options_take_them(dev: Dev) -> None:
    assert re.search(r"^x509_svid_ttl +90m$", dev.command("entry", "show", PATHS[0]), re.MULTILINE)
    assert "x509_svid_ttl: - → 90m" in dev.command("entry", "history", PATHS[0])
    assert " 90m " in dev.command("entry", "list", "-o", "wide", "--below", PATHS[0])


def words(text: str) -> list[str]:
    """All but numbers, which may have changed meanwhile."""
    return [word for word in text.split() if not re.fullmatch(r"\(?[0-9]+[smhd]?\)?", word)]


def test_selectors_are_wrapped_within_their_cell(dev: Dev) -> None:
    (header, *rows) = on_a_terminal(dev, 110, "entry", "list", "--below", PATHS[1])
    assert header.split() == ["id", "spiffe_id", "parent_id", "selectors"]
    assert re.fullmatch(rf"[0-9a-f]{{8}}  {PATHS[1]}  [0-9a-f]{{8}}   {SELECTORS[0]},", rows[0].rstrip())
    assert rows[1].strip() == SELECTORS[1]


def test_a_piped_table_is_neither_wrapped_nor_cut(dev: Dev) -> None:
    environment = {**dev.environment, "COLUMNS": "20"}
    done = subprocess.run(
        [*COGNOMEN, "entry", "list", "--below", PATHS[1]], env=environment, capture_output=True, text=True, check=True
    )
    (_, row) = done.stdout.splitlines()
    assert row.endswith(f"{SELECTORS[0]}, {SELECTORS[1]}")


def test_wide_is_whole(dev: Dev) -> None:
    entries = dev.command("entry", "list", "--below", PATHS[1], "-o", "wide").splitlines()
    assert re.match(rf"[0-9a-f]{{32}}  spiffe://example.org{PATHS[1]}  spiffe://example.org/cognomen/node/", entries[1])
    assert "travel@example.org" in entries[1]
    nodes = dev.command("node", "list", "-o", "wide")
    assert re.search(r" 20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z ", nodes)
    assert "spiffe://example.org/cognomen/node/" in nodes


@pytest.mark.parametrize(
    ("name", "key", "otherwise"),
    [
        ("entry list", "entries", set()),
        ("node list", "nodes", set()),
        ("svid list", "credentials", {"agent", "component"}),  # which are in the SPIFFE ID
        ("revoke list", "revocations", {"target"}),  # as kind and what
        ("authority list", "authorities", {"use"}),  # as live, unreplaced and known_by
        ("status", "authorities", {"use"}),  # which is empty there
        ("bundle exports", "exports", set()),
        ("audit who --below /agent --since 2026-01-01T00:00:00Z", "credentials", {"agent", "component"}),
        (
            "audit list",
            "rows",
            {"body", "hash", "before", "after", "agent", "component"},
        ),  # no line can hold two entries
    ],
)
def test_wide_has_every_field_of_the_json(dev: Dev, name: str, key: str, otherwise: set[str]) -> None:
    fields = {field for one in dev.admin(*name.split())[key] for field in one}
    lines = dev.command(*name.split(), "-o", "wide").splitlines()
    header = lines[lines.index("authorities:") + 1] if name == "status" else lines[0]
    assert fields - set(header.split()) == otherwise


def test_a_document_tells_times_both_ways(dev: Dev) -> None:
    (entry_id,) = (line.split()[0] for line in dev.command("entry", "list", "--below", PATHS[1]).splitlines()[1:])
    shown = dev.command("entry", "show", entry_id)
    assert re.search(r"^created_at +20[0-9-]{8}T[0-9:]{8}Z \([0-9]+[smh] ago\)$", shown, re.MULTILINE)
    assert re.search(r"^svid_not_after +20[0-9-]{8}T[0-9:]{8}Z \(in [0-9]+m\)$", dev.command("status"), re.MULTILINE)


def test_a_record_has_its_times_as_all_documents_have_them(dev: Dev) -> None:
    rows = dev.command("audit", "list", "--action", "x509 issued", "--page-size=1", "-o", "json")
    assert re.search(r'"at": "[^"]*Z"', rows)
    assert re.search(r'"not_after": "[^"]*Z"', rows)
    assert "+00:00" in rows  # in the body, as it was hashed


def test_a_list_that_was_cut_says_so_in_the_data(dev: Dev) -> None:
    for name in ("entry list", "svid list", "audit list"):
        cut = json.loads(dev.command(*name.split(), "--page-size=1", "-o", "json"))
        assert cut["next_page_token"] != "", name
        assert json.loads(dev.command(*name.split(), "--all", "-o", "json"))["next_page_token"] == "", name
    assert json.loads(dev.command("status", "-o", "json"))["behind_more"] == 0


@pytest.mark.parametrize("columns", [80, 120])
def test_wide_on_a_terminal_that_is_too_narrow_has_a_line_for_each_field(dev: Dev, columns: int) -> None:
    lines = on_a_terminal(dev, columns, "entry", "list", "--below", "/agent", "-o", "wide")
    parts = [part.splitlines() for part in "\n".join(lines).split("\n\n")]
    assert len(parts) == len(PATHS)
    fields = [dict(line.split(maxsplit=1) for line in part) for part in parts]
    assert [one["spiffe_id"] for one in fields] == sorted(f"spiffe://example.org{path}" for path in PATHS)
    assert all(one["owner"] == "travel@example.org" and ", ".join(SELECTORS) == one["selectors"] for one in fields)
    assert "-" not in {text for one in fields for text in one.values()}


def test_wide_is_a_table_where_it_fits(dev: Dev) -> None:
    header, *rows = on_a_terminal(dev, 1000, "entry", "list", "--below", "/agent", "-o", "wide")
    assert header.split()[:2] == ["id", "spiffe_id"]
    assert len(rows) == len(PATHS)
