"""`cognomen entry apply` and the other ways to write many entries, against an issuer in a process of its own."""

import json
from pathlib import Path

import pytest

from tests.flow.commandline import NODE, Command


def entry(path: str, *selectors: str, **more: object) -> dict[str, object]:
    return {"spiffe_id": path, "parent_id": NODE, "selectors": list(selectors or ["unix:uid:1"]), **more}


class File:
    """A file of entries, as an operator keeps it in a repository."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *entries: dict[str, object]) -> str:
        self.path.write_text(json.dumps({"entries": entries}))
        return str(self.path)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "entries.json")


def below(command: Command, path: str) -> dict[str, dict[str, object]]:
    """The entries below a path as they are stored: when one was last used is not part of it."""
    rows = command("entry", "list", "--below", path, "--output", "json").rows("entries")
    for row in rows:
        del row["last_used"]
    return {str(row["spiffe_id"]).removeprefix(f"spiffe://example.org{path}"): row for row in rows}


def rows_of_record(command: Command) -> int:
    rows = command("audit", "list", "--all", "--output", "json").rows("rows")
    return len([row for row in rows if "entr" in str(row["action"])])


def test_a_file_is_applied_with_a_diff_and_again_there_is_nothing_to_do(
    command: Command, path: str, file: File
) -> None:
    first = command("entry", "apply", file(entry(f"{path}/a"), entry(f"{path}/b", owner="ann")))
    assert first.code == 0, first.err
    lines = first.out.splitlines()
    assert lines == [
        f"+ {path}/a  parent_id: {NODE}; selectors: unix:uid:1",
        f"+ {path}/b  parent_id: {NODE}; selectors: unix:uid:1; owner: ann",
        "2 created, 0 updated, 0 deleted, 0 unchanged",
    ]
    recorded, stored = rows_of_record(command), below(command, path)
    again = command("entry", "apply", str(file.path))
    assert (again.code, again.out, again.err) == (0, "nothing to do: 2 unchanged\n", "")
    assert rows_of_record(command) == recorded
    assert below(command, path) == stored


def test_what_is_printed_can_be_changed_and_applied_again_and_again(command: Command, path: str, file: File) -> None:
    command("entry", "apply", file(entry(f"{path}/a"), entry(f"{path}/b")))
    listed = list(below(command, path).values())
    for owner in ("ann", "bob"):  # the second time, the ids are right and the revisions are old
        done = command("entry", "apply", file(*({**one, "owner": owner} for one in listed)))
        assert done.out.splitlines()[-1] == "0 created, 2 updated, 0 deleted, 0 unchanged"
    assert {one["revision"] for one in below(command, path).values()} == {3}
    assert f"~ {path}/a (" in done.out
    assert ")  owner: ann → bob" in done.out


@pytest.mark.parametrize("asked_singly", [0, 500])
def test_a_short_file_reads_what_it_is_about_and_a_long_one_everything(
    command: Command, path: str, file: File, monkeypatch: pytest.MonkeyPatch, asked_singly: int
) -> None:
    monkeypatch.setattr("cognomen.cli.entryapply._MOST_ASKED_SINGLY", asked_singly)
    command("entry", "apply", file(entry(f"{path}/a"), entry(f"{path}/b"), entry(f"{path}/c"), entry(f"{path}x")))
    known = below(command, path)
    moved = {**known["/b"], "spiffe_id": f"spiffe://example.org{path}/d"}
    other = {**entry(f"{path}/a"), "selectors": ["unix:uid:2"]}
    done = command("entry", "apply", file(moved, other), "--prune", "--below", path)
    assert done.out.splitlines()[-1] == "0 created, 2 updated, 1 deleted, 0 unchanged", done.err
    after = below(command, path)
    assert {name: (row["id"], row["selectors"]) for name, row in after.items()} == {
        "/a": (known["/a"]["id"], ["unix:uid:2"]),
        "/d": (known["/b"]["id"], ["unix:uid:1"]),
    }


def test_a_dry_run_shows_the_same_and_changes_nothing(command: Command, path: str, file: File) -> None:
    command("entry", "apply", file(entry(f"{path}/old"), entry(f"{path}/a")))
    before, recorded = below(command, path), rows_of_record(command)
    source = file(entry(f"{path}/a", "unix:uid:2"), entry(f"{path}/new"))
    arguments = ["entry", "apply", source, "--prune", "--below", path]
    tried = command(*arguments, "--dry-run")
    assert tried.code == 0
    assert below(command, path) == before
    assert rows_of_record(command) == recorded
    document = command(*arguments, "--dry-run", "--output", "json").document
    assert (document["dry_run"], document["unchanged"], document["change"]) == (True, 0, 0)
    assert [len(document[key]) for key in ("created", "updated", "deleted")] == [1, 1, 1]  # type: ignore[arg-type]  # lists
    done = command(*arguments)
    assert tried.out.splitlines()[:-1] == done.out.splitlines()[:-1]
    assert tried.out.splitlines()[-1] == "dry run: 1 created, 1 updated, 1 deleted, 0 unchanged; nothing was changed"
    assert done.out.splitlines()[-1] == "1 created, 1 updated, 1 deleted, 0 unchanged"
    after = below(command, path)
    assert after.keys() == {"/a", "/new"}
    assert (after["/a"]["id"], after["/a"]["selectors"]) == (before["/a"]["id"], ["unix:uid:2"])


def test_as_json_it_says_what_was_done_to_which_entry(command: Command, path: str, file: File) -> None:
    command("entry", "apply", file(entry(f"{path}/old"), entry(f"{path}/a")))
    before = below(command, path)
    source = file(entry(f"{path}/a", owner="ann"), entry(f"{path}/new"))
    document = command("entry", "apply", source, "--prune", "--below", path, "--output", "json").document
    after = below(command, path)
    assert document["created"] == [after["/new"]]
    assert document["updated"] == [{"before": before["/a"], "after": after["/a"]}]
    assert document["deleted"] == [before["/old"]]


def test_a_dry_run_is_refused_where_the_real_one_is(command: Command, path: str, file: File) -> None:
    command("entry", "apply", file(entry(f"{path}/a")))
    source = file(entry(f"{path}/a", owner="ann"), entry(f"{path}/b", "unix:uid:007"))
    recorded = rows_of_record(command)
    for arguments, row in (["--dry-run"], 0), ([], 1):
        refused = command("entry", "apply", source, *arguments)
        assert rows_of_record(command) == recorded + row
        assert (refused.code, refused.out) == (1, "")
        assert f"error: {path}/b: selectors: expected a number from 0 to 4294967294" in refused.err
    assert [one["owner"] for one in below(command, path).values()] == [""]


def test_prune_leaves_alone_what_the_scope_does_not_name(command: Command, path: str, file: File) -> None:
    team, label = f"{path} team", {"labels": {"app": path}}
    both = [entry(f"{path}/{n}", owner=owner, **more) for n, owner, more in (
        ("mine", team, label), ("other-app", team, {}), ("not-mine", "bob", label),
    )]  # fmt: skip
    command("entry", "apply", file(*both, entry(f"{path}er", owner=team, **label)))
    source = file(entry(f"{path}/new", owner=team, **label))
    scope = ["--prune", "--below", path, "--owner", team, "--label", f"app={path}"]
    assert command("entry", "apply", source, *scope).code == 0
    assert below(command, path).keys() == {"/new", "/other-app", "/not-mine"}
    assert below(command, f"{path}er").keys() == {""}


def test_prune_takes_no_entry_of_others(command: Command, path: str, file: File) -> None:
    command("entry", "apply", file(entry(f"{path}/b/y", owner="b"), entry(f"{path}/shared", owner="b")))
    before = below(command, path)
    by_id = file(entry(f"{path}/a/x", id=before["/b/y"]["id"]))
    refused = command("entry", "apply", by_id, "--prune", "--below", f"{path}/a")
    assert (refused.code, refused.out) == (1, "")
    assert f"it would change spiffe://example.org{path}/b/y of owner 'b'" in refused.err
    assert below(command, path) == before
    by_name = file(entry(f"{path}/shared", "unix:uid:2", owner=f"{path} a"))
    assert command("entry", "apply", by_name, "--prune", "--owner", f"{path} a").out.splitlines()[-1].startswith("1 cr")
    rows = command("entry", "list", "--below", path, "--owner", "b", "--output", "json").rows("entries")
    assert {row["id"]: row["revision"] for row in rows} == {row["id"]: 1 for row in before.values()}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--prune"], 2, "expected --prune with --below, --owner or --label, or with --all"),
        (["--prune", "--all", "--owner", "ann"], 2, "expected --prune with --below, --owner or --label, or with --all"),
        (["--owner", "ann"], 2, "expected --below, --owner, --label and --all with --prune"),
        (["--all"], 2, "expected --below, --owner, --label and --all with --prune"),
        (["--prune", "--owner", "ann"], 1, "entries[0]: expected an entry of what --below, --owner and --label name"),
        (["--prune", "--below", "/tes"], 1, "entries[0]: expected an entry of what --below, --owner and --label name"),
    ],
)
def test_a_scope_that_is_not_clear_is_refused(
    command: Command, path: str, file: File, *, arguments: list[str], code: int, words: str
) -> None:
    done = command("entry", "apply", file(entry(f"{path}/a", owner="bob")), *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert not below(command, path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "expected at least 1 entry, found 0"),
        ('{"entries": [], "next_page_token": ""}', "expected at least 1 entry, found 0"),
        ('{"entries": [{}], "next_page_token": "x"}', "expected all entries, found one page of them"),
        ('{"entries": [{"uid": 1}]}', "entries[0]: uid: expected one of"),
    ],
)
def test_a_file_that_is_not_a_whole_list_of_entries_deletes_nothing(
    command: Command, path: str, tmp_path: Path, file: File, *, text: str, words: str
) -> None:
    command("entry", "apply", file(entry(f"{path}/a")))
    (tmp_path / "f").write_text(text)
    done = command("entry", "apply", str(tmp_path / "f"), "--prune", "--below", path)
    assert done.code == 1
    assert words in done.err
    assert below(command, path).keys() == {"/a"}


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('"owner": "a", "owner": "b"', "owner"),
        ('"labels": {"team": "a", "team": "b"}', "team"),
        ('"selectors": [{"type": "unix", "value": "uid:1", "value": "uid:2"}]', "value"),
    ],
)
@pytest.mark.parametrize("verb", [["apply"], ["create", "--from"], ["update", "--from"]], ids=" ".join)
def test_a_file_that_says_something_twice_is_refused(
    command: Command, path: str, tmp_path: Path, *, verb: list[str], more: str, key: str
) -> None:
    source = tmp_path / "f"
    source.write_text(f'[{{"spiffe_id": "{path}", "parent_id": "{NODE}", "hint": "", {more}}}]')
    done = command("entry", *verb, str(source))
    assert (done.code, done.out) == (1, "")
    assert done.err == f"error: {source}: expected each key once, found '{key}' twice\n"
    assert not below(command, path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "JSON is nested too deeply"),
        ('[{"revision": ' + "1" * 5000 + "}]", "a number has too many digits: 5000"),
        ("\ufeff[]", "expected UTF-8 text without a byte order mark"),
        ('[{"x509_svid_ttl": "999999999999999d"}]', "x509_svid_ttl: expected a duration of at most 999999999 days"),
        ('[{"x509_svid_ttl": "1 h"}]', "x509_svid_ttl: expected a duration such as 90s, 30m, 1h or 1d, found '1 h'"),
        ('[{"jwt_svid_ttl": 9999999999999}]', "jwt_svid_ttl: expected at most 999999999999 seconds"),
    ],
    ids=["deep", "digits", "mark", "long", "space", "seconds"],
)
def test_a_file_that_cannot_be_read_is_refused_in_words(
    command: Command, path: str, tmp_path: Path, *, text: str, words: str
) -> None:
    source = tmp_path / "f"
    source.write_text(
        text.replace("[{", f'[{{"spiffe_id": "{path}", "parent_id": "{NODE}", "selectors": ["unix:uid:1"], ')
    )
    done = command("entry", "create", "--from", str(source))
    assert (done.code, words in done.err) == (1, True), done.err


def test_the_list_of_entries_is_said_once(command: Command, path: str, tmp_path: Path) -> None:
    one = json.dumps([entry(path)])
    (tmp_path / "f").write_text(f'{{"entries": {one}, "entries": {one}}}')
    assert "found 'entries' twice" in command("entry", "apply", str(tmp_path / "f")).err
    assert not below(command, path)


def test_strictly_a_selector_that_no_attestor_of_ours_writes_is_refused(
    command: Command, path: str, file: File
) -> None:
    source = file(entry(f"{path}/a", "k8s:ns:web"))
    assert "plugin for k8s" in command("entry", "apply", source, "--strict").err
    assert "plugin for k8s" in command("entry", "create", "--from", source, "--strict").err
    assert not below(command, path)
    done = command("entry", "apply", source)
    assert done.code == 0
    assert "warning: " in done.err
    assert "plugin for k8s" in done.err


def test_options_beside_from_replace_what_the_file_says(command: Command, path: str, file: File) -> None:
    source = file(entry(f"{path}/a", owner="bob", labels={"a": "1"}), entry(f"{path}/b"))
    flags = ["--owner", "ann", "--label", "b=2", "--x509-svid-ttl", "30m"]
    made = command("entry", "create", "--from", source, *flags, "--output", "json").rows("entries")
    assert [(one["owner"], one["labels"], one["x509_svid_ttl"]) for one in made] == [("ann", {"b": "2"}, "1800s")] * 2
    updated = command("entry", "update", "--from", file(*made), "--owner", "", "--output", "json").rows("entries")
    assert [(one["owner"], one["labels"]) for one in updated] == [("", {"b": "2"})] * 2
    refused = command("entry", "create", "--from", source, "--selector", "unix:uid:1")
    assert (refused.code, "expected either --from, with --parent-id, --owner" in refused.err) == (2, True)


def test_an_entry_is_marked_as_default_and_no_longer(command: Command, path: str, file: File) -> None:
    arguments = ["--parent", NODE, "--selector", "unix:uid:1", "--output", "json"]
    (made,) = command("entry", "create", "--spiffe-id", path, "--default", *arguments).rows("entries")
    assert made["default"] is True
    entry_id = str(made["id"])
    for flag, expected in (("--owner=ann", True), ("--no-default", False)):
        (now,) = command("entry", "update", entry_id, flag, "--output", "json").rows("entries")
        assert now["default"] is expected
    assert command("entry", "apply", file({**made, "default": True})).out.splitlines()[-1].startswith("0 created, 1 up")
    assert "default: no → yes" in command("entry", "history", entry_id).out


def test_a_revocation_of_a_selector_that_matches_nothing_is_a_warning(command: Command) -> None:
    done = command("revoke", "selector", "unix:uid:007", "--dry-run")
    assert done.code == 0
    assert "warning: selector: expected a number from 0 to 4294967294 without leading zeros" in done.err
