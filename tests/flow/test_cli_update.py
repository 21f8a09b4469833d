"""`entry update` and `entry delete`: what would be done, what is taken back, and whose words a refusal has."""

import json
from pathlib import Path

import pytest

from tests.flow.commandline import NODE, Command
from tests.flow.test_cli_issuer import create


def shown(command: Command, entry_id: str) -> dict[str, object]:
    return command("entry", "show", entry_id, "--output", "json").document


def rows_of_record(command: Command) -> int:
    return len(command("audit", "list", "--all", "--output", "json").rows("rows"))


def test_a_dry_run_says_what_would_be_done_and_does_nothing(command: Command, path: str) -> None:
    entry_id = str(create(command, path)["id"])
    before, recorded = shown(command, entry_id), rows_of_record(command)
    for done in (
        command("entry", "update", entry_id, "--owner", "bob", "--dry-run"),
        command("entry", "delete", entry_id, "--dry-run"),
    ):
        assert (done.code, done.out.splitlines()[-1]) == (0, "dry run: nothing was changed"), done.err
        assert entry_id[:8] in done.out
    tried = command("entry", "update", entry_id, "--owner", "bob", "--dry-run", "--output", "json").document
    assert tried["dry_run"] is True
    assert (shown(command, entry_id), rows_of_record(command)) == (before, recorded)


def test_a_dry_run_refuses_what_would_be_refused(command: Command, path: str) -> None:
    first, second = (str(create(command, f"{path}/{name}")["id"]) for name in "ab")
    done = command("entry", "update", second, "--spiffe-id", f"{path}/a", "--dry-run")
    assert done.code == 1
    assert first in done.err
    assert command("entry", "delete", "nosuch", "--dry-run").code == 4


def test_deleting_a_group_warns_of_the_entries_that_have_it_as_parent(command: Command, path: str) -> None:
    of = ("--parent", "/cognomen/issuer", "--selector", "join_token:label:team:travel")
    group = command("entry", "create", "--spiffe-id", path, *of, "--output", "json").rows("entries")[0]
    command("entry", "create", "--spiffe-id", f"{path}/a", "--parent", path, "--selector", "unix:uid:1")
    for more in (["--dry-run"], []):
        done = command("entry", "delete", str(group["id"]), *more)
        assert f"warning: {path}: 1 entry has it as its parent, and reaches no node without it" in done.err


def test_an_update_takes_fields_back(command: Command, path: str) -> None:
    more = [
        "--dns",
        "a.example",
        "--label",
        "team=travel",
        "--expires-at",
        "2099-12-31T00:00:00Z",
        "--x509-svid-ttl",
        "30m",
    ]
    more += ["--jwt-svid-ttl", "5m", "--hint", "first", "--owner", "ann"]
    entry_id = str(create(command, path, *more)["id"])
    full = shown(command, entry_id)
    assert full["dns_names"] == ["a.example"]
    taken = ["--dns=", "--label=", "--expires-at=", "--x509-svid-ttl=0s", "--jwt-svid-ttl=0s", "--hint=", "--owner="]
    done = command("entry", "update", entry_id, *taken)
    assert done.code == 0, done.err
    bare = create(command, f"{path}/bare")
    now, fields = (
        shown(command, entry_id),
        ("dns_names", "labels", "expires_at", "x509_svid_ttl", "jwt_svid_ttl", "hint", "owner"),
    )
    assert {key: now[key] for key in fields} == {key: bare[key] for key in fields}


def test_never_and_0s_replace_what_a_file_says(command: Command, path: str, tmp_path: Path) -> None:
    made = create(command, path, "--expires-at", "2099-12-31T00:00:00Z", "--x509-svid-ttl", "60s")
    (tmp_path / "entries.json").write_text(json.dumps([made]))
    options = ("--expires-at", "never", "--x509-svid-ttl", "0s", "--output", "json")
    (now,) = command("entry", "update", "--from", str(tmp_path / "entries.json"), *options).rows("entries")
    assert (now["expires_at"], now["x509_svid_ttl"]) == (None, None)


@pytest.mark.parametrize("values", [("--dns=", "--dns=a.example"), ("--label=", "--label=a=b")])
def test_an_empty_text_beside_others_is_refused(command: Command, path: str, values: tuple[str, ...]) -> None:
    done = command("entry", "update", str(create(command, path)["id"]), *values)
    assert (done.code, "found both" in done.err) == (2, True)


def test_one_entry_given_by_flags_has_no_place_in_a_list(command: Command, path: str) -> None:
    create(command, path)
    again = ("entry", "create", "--spiffe-id", path, "--parent", NODE, "--selector", "unix:uid:1")
    refused, warned = command(*again), command(*again, "--selector", "unix:path:/a", "--selector", "docker:x")
    assert refused.err.startswith("error: expected another spiffe_id")
    assert "warning: selectors: " in warned.err
    assert "entries[" not in refused.err + warned.err + command("entry", "delete", "nosuch").err
