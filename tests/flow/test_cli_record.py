"""The record in the hands of an auditor: an entry's history, rows by what they say, files that are checked elsewhere."""

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from bench.rig.daemons import COGNOMEN, Daemon
from cognomen.cli.auditfile import checkpoint_line, row_line
from cognomen.cli.main import run
from cognomen.protocol.auditlog import GENESIS, AuditRow, Checkpoint, link
from svid.encoding import JSON
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key
from svid.spiffeid import TrustDomain
from tests.flow.commandline import NODE, issuer_at, socket_at

COLUMNS = "kind, spiffe_id, entry_revision, authority_id, audiences, issued_at, not_after, state"


class Auditor:
    """Types commands for an issuer of its own."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys

    def issuer(self) -> Daemon:
        return issuer_at(self.directory, "--audit-checkpoint-interval=1d")

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        return (code, *self._capsys.readouterr())

    def said(self, *arguments: str) -> str:
        code, shown, told = self.run(*arguments)
        assert code == 0, told
        return shown

    def json(self, *arguments: str) -> dict[str, JSON]:
        document = json.loads(self.said(*arguments, "--output=json"))
        assert isinstance(document, dict)
        return document

    def new_entry(self, path: str, *more: str) -> str:
        made = self.json("entry", "create", f"--spiffe-id={path}", f"--parent={NODE}", "--selector=unix:uid:1", *more)
        return str(made["entries"][0]["id"])  # type: ignore[index, call-overload]  # as the command prints it

    def exported(self, name: str, *filters: str) -> Path:
        file = self.directory / name
        file.write_text(self.said("audit", "export", *filters))
        return file

    def edit(self, statement: str) -> None:
        with closing(sqlite3.connect(self.directory / "state" / "issuer.db")) as database:
            database.execute(statement)
            database.commit()


@pytest.fixture
def auditor(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Auditor:
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(socket_at(tmp_path)))
    return Auditor(tmp_path, capsys)


@pytest.fixture
def running(auditor: Auditor) -> Iterator[Auditor]:
    with auditor.issuer():
        yield auditor


def test_a_rule_that_was_changed_and_changed_back_is_on_record_with_both_texts_also_when_it_is_gone(
    running: Auditor,
) -> None:
    entry = running.new_entry("/agent/a", "--owner=ann")
    running.said("entry", "update", entry, "--selector=unix:uid:0")
    running.said("entry", "update", entry, "--selector=unix:uid:1", "--owner=bob")
    current = running.json("entry", "show", entry)
    assert running.json("entry", "show", entry, "--revision=3") == current
    running.said("entry", "delete", entry, "--comment=task ended")
    history = running.json("entry", "history", entry)["history"]
    assert isinstance(history, list)
    steps = [(one["action"], one["revision"]) for one in history]
    assert steps == [("entry created", 1), ("entry updated", 2), ("entry updated", 3), ("entry deleted", 3)]
    assert [one["after"] and one["after"]["selectors"] for one in history] == [
        ["unix:uid:1"],
        ["unix:uid:0"],
        ["unix:uid:1"],
        None,
    ]
    assert history[0]["before"] is None
    assert history[3]["before"] == current
    login = Path("/proc/self/loginuid").read_text() if Path("/proc/self/loginuid").exists() else str(2**32 - 1)
    assert history[3]["comment"] == "task ended"
    assert history[3]["login"] == ("" if int(login) == 2**32 - 1 else f"uid:{login}")
    shown = running.said("entry", "history", entry)
    assert "owner: ann → bob; selectors: unix:uid:0 → unix:uid:1" in shown
    assert running.json("entry", "show", entry, "--revision=3") == current
    assert running.run("entry", "show", entry, "--revision=4")[0] == 4
    code, _, told = running.run("entry", "history", "nobody")
    assert (code, "no entry has the id or SPIFFE ID 'nobody'" in told) == (4, True)


def test_rows_are_found_by_what_they_say_on_as_many_pages_as_it_takes(running: Auditor) -> None:
    first, second = running.new_entry("/agent/a"), running.new_entry("/agent/b/c")
    running.said("entry", "update", first, "--owner=ann")
    assert running.run("entry", "delete", "nothing")[0] == 4

    def rows(*filters: str) -> list[Mapping[str, JSON]]:
        found = running.json("audit", "list", "--all", *filters)["rows"]
        assert isinstance(found, list)
        return [row for row in found if isinstance(row, dict)]

    every = rows()

    def numbers(*filters: str) -> list[JSON]:
        """Of those rows only: the issuer goes on adding rows of its own."""
        known = {row["number"] for row in every}
        return [row["number"] for row in rows(*filters) if row["number"] in known]

    def with_the(key: str, value: str) -> list[JSON]:
        return [row["number"] for row in every if row[key] == value]

    created, (updated,) = numbers("--action=entry created"), numbers("--action=entry updated")
    assert created == with_the("action", "entry created")
    assert len(created) == 2
    assert numbers("--action=entry created", "--action=entry updated") == [*created, updated]
    assert numbers("--subject=/agent/a") == [created[0], updated]
    assert numbers("--subject=/agent/b/") == [created[1]]
    assert numbers("--entry", second) == [created[1]]
    assert numbers("--decision=refused") == with_the("decision", "refused")
    assert len(numbers("--decision=refused")) == 1
    assert numbers("--actor=issuer") == with_the("actor", "issuer")
    assert numbers("--since=2999-01-01T00:00:00Z") == []
    assert numbers("--until=2999-01-01T00:00:00Z", "--after", str(created[0])) == [
        row["number"] for row in every if int(str(row["number"])) > int(str(created[0]))
    ]
    page = running.json("audit", "list", "--page-size=2")
    assert (len(page["rows"]), page["next_after"]) == (2, 2)  # type: ignore[arg-type]
    assert "use --page-token 2" in running.run("audit", "list", "--page-size=2")[2]
    assert running.run("audit", "list", "--subject=/agent//")[0] != 0


def checkpoints(file: Path) -> list[int]:
    """The number of rows that each checkpoint of an export covers."""
    texts = [line["checkpoint"] for line in map(json.loads, file.read_text().splitlines()) if "checkpoint" in line]
    return [json.loads(text)["count"] for text in texts]


def test_a_file_is_checked_without_an_issuer_whole_and_in_parts(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with auditor.issuer():
        auditor.new_entry("/agent/a", "--owner=Zoë")
    with auditor.issuer():  # the last checkpoint covers what was decided before
        whole = auditor.exported("whole")
        rows = auditor.json("audit", "list", "--all")["rows"]
        assert isinstance(rows, list)
        last, covered = len(rows), checkpoints(whole)[-1]
        assert last >= covered > 1
        auditor.new_entry("/agent/b")
    with auditor.issuer():
        more, part = auditor.exported("more", f"--after={last}"), auditor.exported("part", f"--after={covered}")
        late = auditor.exported("late", "--after=1")
        assert checkpoints(auditor.exported("some", "--action=entry created")) == []
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(auditor.directory / "nowhere"))
    found = auditor.json("audit", "verify", "--file", str(whole))
    assert (found["rows"], found["first"], found["ledger"]) == (last, 1, None)
    key = f"--key={found['key']}"
    both = auditor.json("audit", "verify", "--file", str(whole), "--file", str(more), key)
    assert both["rows"] > last  # type: ignore[operator]
    assert len(both["checkpoints"]) > len(found["checkpoints"])  # type: ignore[arg-type]
    moments = [one["at"] for one in both["checkpoints"]]  # type: ignore[union-attr, call-overload, index]  # as the command prints it
    assert len(set(moments)) == len(moments)
    assert all(str(moment).endswith("Z") for moment in moments)
    shown = auditor.said("audit", "verify", "--file", str(whole), key)
    assert re.search(r"^checkpoint of 20[0-9-]{8}T[0-9:]{8}Z: ", shown, re.MULTILINE)
    assert f"row {covered + 1} follows from its last row" in auditor.said("audit", "verify", "--file", str(part), key)
    assert f"rows {covered + 1} to {covered} " not in auditor.said("audit", "verify", "--file", str(part), key)
    alone = auditor.json("audit", "verify", "--file", str(part), key)
    assert (alone["first"], alone["rows"]) == (covered + 1, both["rows"])
    code, _, told = auditor.run("audit", "verify", "--file", str(late))
    assert (code, "expected row 1 first, found row 2" in told) == (1, True)
    assert auditor.run("audit", "verify", "--file", str(whole), f"--key={'0' * 64}")[0] == 1


def test_parts_of_a_file_may_overlap_and_what_is_missing_or_torn_is_told_with_what_to_do(auditor: Auditor) -> None:
    with auditor.issuer():
        auditor.new_entry("/agent/a")
    with auditor.issuer():
        before = auditor.exported("before")
        auditor.new_entry("/agent/b")
    with auditor.issuer():
        after = auditor.exported("after")
    both = ("audit", "verify", "--file", str(before), "--file", str(after))
    rows = [line for line in before.read_text().splitlines() if line.startswith('{"number":')]
    assert auditor.json(*both)["repeated"] == len(rows)
    assert f"{len(rows)} rows came again, with the same bytes" in auditor.said(*both)

    later = auditor.directory / "later"
    later.write_text("".join(line + "\n" for line in after.read_text().splitlines() if "checkpoint" in line[:20]))
    _, _, told = auditor.run("audit", "verify", "--file", str(before), "--checkpoint", str(later))
    assert "the end was cut off" in told
    assert f"if the file is not whole, fetch what it lacks: cognomen audit export --page-token {len(rows)} >" in told

    text = before.read_text()
    torn = auditor.directory / "torn"
    number = len(text.splitlines())
    for said, tail in (
        ("the line is incomplete:", ""),
        ("the line is incomplete, and another one begins", rows[-1] + "\n"),
    ):
        torn.write_text(text[:-20] + tail)
        code, _, told = auditor.run("audit", "verify", "--file", str(torn))
        assert (code, f"line {number}: {said}" in told) == (1, True), told
        assert (
            f"(head -n {number - 1} {torn} > NEW), and go on: cognomen audit export --page-token {len(rows) - 1} >> NEW"
            in told
        )


@pytest.mark.usefixtures("running")
def test_an_export_to_a_full_disk_says_how_to_go_on() -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" > /dev/full', "bash", *COGNOMEN, "audit", "export", "--page-token=1"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "error: standard output: no space left on device\n"
        "hint: the last line may be incomplete: remove it, and go on with the same command and --page-token 1\n"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [line.replace("uid:1", "uid:0") for line in lines], "a row was edited"),
        (lambda lines: [line for line in lines if not line.startswith('{"number":2,')], "rows were deleted"),
        (lambda lines: [line for line in lines if line.startswith(('{"checkpoint', '{"number":1,'))], "cut off"),
        (lambda lines: [*lines, '{"number": true, "hash": "", "body": ""}'], "expected a row or a checkpoint"),
        (lambda lines: [*lines, '{"number": 1'], "expected a row or a checkpoint"),
        (lambda lines: ["[" * 100_000, *lines], "expected JSON with fewer levels of nesting"),
        (lambda lines: [*lines, '{"number":' + "1" * 5000 + "}"], "a number has too many digits"),
        (lambda lines: [*lines, '{"number":1,"hash":"AB","body":""}'], "hash: expected 32 bytes in lower-case hex"),
        (lambda lines: [*lines, '{"checkpoint":"\\ud800"}'], "half a surrogate pair"),
        (
            lambda lines: [line.replace('"body":', '"body":"forged","body":') for line in lines],
            "found 'body' twice",
        ),
        (
            lambda lines: [line.replace(r"{\"at", r"{\"count\":0,\"at") for line in lines],
            "found 'count' twice",
        ),
    ],
)
def test_a_file_that_was_changed_is_found_out(
    auditor: Auditor, change: Callable[[list[str]], list[str]], words: str
) -> None:
    with auditor.issuer():
        auditor.new_entry("/agent/a")
    with auditor.issuer():
        file = auditor.exported("file")
    file.write_text("".join(f"{line}\n" for line in change(file.read_text().splitlines())))
    code, _, told = auditor.run("audit", "verify", "--file", str(file))
    assert (code, words in told) == (1, True), told


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE credential SET spiffe_id = 'spiffe://example.org/b' WHERE number = 1", "the row was edited"),
        ("UPDATE credential SET not_after = not_after + 1 WHERE number = 2", "the row was edited"),
        ("DELETE FROM credential WHERE number = 1", "a row was deleted there"),
        (
            f"INSERT INTO credential ({COLUMNS}, serial) SELECT {COLUMNS}, 'ab' FROM credential LIMIT 1",  # noqa: S608 - our own text
            "a row was added there",
        ),
    ],
)
def test_a_ledger_that_is_not_as_it_is_on_record_is_found(auditor: Auditor, statement: str, words: str) -> None:
    with auditor.issuer():
        verified = auditor.json("audit", "verify")
        assert isinstance(verified["ledger"], int)
        assert verified["ledger"] >= 2
    auditor.edit(statement)
    with auditor.issuer():
        code, _, told = auditor.run("audit", "verify")
        assert (code, words in told) == (1, True), told


def changed_three_times(auditor: Auditor) -> str:
    """An entry of revision 3."""
    entry = auditor.new_entry("/pay", "--owner=ann")
    auditor.said("entry", "update", entry, "--selector=unix:uid:0")
    auditor.said("entry", "update", entry, "--selector=unix:uid:1")
    return entry


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("LIMIT 1", "expected a change to revision 1, found entry updated with revision 2"),
        ("LIMIT 1 OFFSET 1", "expected a change to revision 2, found entry updated with revision 3"),
        ("LIMIT 1 OFFSET 2", "expected a change to revision 3, which the entry has, found revision 2 in the last row"),
    ],
)
def test_a_history_says_when_a_row_is_missing(auditor: Auditor, which: str, words: str) -> None:
    with auditor.issuer():
        entry = changed_three_times(auditor)
        assert auditor.run("entry", "history", entry)[0] == 0
    auditor.edit(
        f"DELETE FROM entry_change WHERE number = (SELECT number FROM entry_change ORDER BY number {which})"  # noqa: S608 - our own text
    )
    with auditor.issuer():
        code, shown, told = auditor.run("entry", "history", entry)
        assert (code, words in told, "cognomen audit verify" in told) == (1, True, True), told
        assert "entry updated" in shown
        assert auditor.run("entry", "history", entry, "--output=json")[0] == 1


def test_a_history_reads_the_digest_of_a_large_entry_as_the_text_in_the_row_before(auditor: Auditor) -> None:
    with auditor.issuer():
        entry = auditor.new_entry("/pay", "--owner=ann")
        auditor.said("entry", "update", entry, "--owner=Zoë")
        rows = auditor.json("audit", "list", "--action=entry updated")["rows"]
    assert isinstance(rows, list)
    event = json.loads(rows[0]["body"])
    text = json.dumps(event["before"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    event["before"] = {"sha256": sha256(text.encode()).hexdigest()}
    auditor.edit(f"UPDATE audit SET body = x'{json.dumps(event).encode().hex()}' WHERE number = {rows[0]['number']}")  # noqa: S608 - our own text
    with auditor.issuer():
        assert "owner: ann → Zoë" in auditor.said("entry", "history", entry).splitlines()[-1]


def test_a_history_says_when_all_rows_are_missing(auditor: Auditor) -> None:
    with auditor.issuer():
        entry = changed_three_times(auditor)
    auditor.edit("DELETE FROM entry_change")
    with auditor.issuer():
        code, _, told = auditor.run("entry", "history", entry)
        assert (code, "expected a change to revision 3, which the entry has, found revision 0" in told) == (1, True)


def test_a_history_says_when_the_row_of_the_deletion_is_missing(auditor: Auditor) -> None:
    with auditor.issuer():
        entry = changed_three_times(auditor)
        auditor.said("entry", "delete", entry)
        auditor.said("entry", "history", entry)
    auditor.edit("DELETE FROM entry_change WHERE number = (SELECT max(number) FROM entry_change)")
    with auditor.issuer():
        code, _, told = auditor.run("entry", "history", entry)
        assert (code, "expected a deletion, because there is no such entry now" in told) == (1, True), told


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE entry SET owner = 'eve'", "expected it as row"),
        ("UPDATE entry SET revision = 1", "expected revision 3, as row"),
        ("DELETE FROM entry", "it was deleted there"),
        ("UPDATE entry SET id = 'another' WHERE owner = 'ann'", "the entry"),
    ],
)
def test_entries_that_are_not_as_they_are_on_record_are_found(auditor: Auditor, statement: str, words: str) -> None:
    with auditor.issuer():
        changed_three_times(auditor)
        auditor.new_entry("/large", "--owner=Zoë", "--expires-at=2999-01-01T00:00:00.123456Z", "--dns=B.example.org",
                          "--dns=a.example.org", "--label=b=ü", '--label=a="', "--x509-svid-ttl=90s", "--hint=\\")  # fmt: skip
        verified = auditor.json("audit", "verify")
        assert verified["entries"] == 2
    auditor.edit(statement)
    with auditor.issuer():
        code, _, told = auditor.run("audit", "verify")
        assert (code, words in told) == (1, True), told


def test_what_is_not_proved_names_the_key_that_nobody_compared_and_what_the_ledger_alone_says(
    auditor: Auditor,
) -> None:
    with auditor.issuer():
        auditor.new_entry("/agent/a")  # the checkpoint of its stop covers this
    with auditor.issuer():
        file = auditor.exported("file")
        own = auditor.json("audit", "verify")
        checkpoint = auditor.directory / "checkpoint"
        checkpoint.write_text(json.loads(file.read_text().splitlines()[0])["checkpoint"] + "\n")
        assert own["key"]
        key, unknown = f"--key={own['key']}", "that the checkpoint key above is the issuer's"
        for source in (f"--file={file}", f"--checkpoint={checkpoint}"):
            assert unknown in auditor.said("audit", "verify", source)
            assert unknown not in auditor.said("audit", "verify", source, key)
    assert unknown not in str(own["not_proved"])
    assert "of credentials in the ledger: state, key and revocation" in str(own["not_proved"])


@pytest.mark.parametrize("output", ["table", "json"])
def test_what_a_restore_in_a_file_says_does_not_reach_the_terminal(auditor: Auditor, output: str) -> None:
    text = "\x1b[2J\n\u202eall fine\ud800"
    event = {"action": "store restored", "at": text, "facts": {"incarnation": "a", "backup_of": text}}
    body = json.dumps(event).encode()
    file, row = auditor.directory / "file", AuditRow(number=1, body=body, hash=link(GENESIS, body))
    checkpoint = Checkpoint(
        trust_domain=TrustDomain("example.org"),
        incarnation="b",
        count=1,
        head=row.hash,
        at=datetime(2026, 11, 29, tzinfo=UTC),
        public_key=b"",
    ).signed(LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256)))
    file.write_text(f"{checkpoint_line(checkpoint.to_json())}\n{row_line(row)}\n")
    shown = auditor.said("audit", "verify", f"--file={file}", f"--output={output}")
    assert "x1b[2J" in shown
    assert output == "json" or shown.startswith("1 row, each follows from the one before it\n")
    assert all(character.isprintable() for character in shown.replace("\n", ""))
    assert "\nall fine" not in shown


def test_a_row_with_a_lone_surrogate_is_shown(auditor: Auditor) -> None:
    with auditor.issuer():
        auditor.new_entry("/agent/a")
    auditor.edit("UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'uid:', '\\ud800') AS BLOB)")
    with auditor.issuer():
        assert '"actor": "?' in auditor.said("audit", "list", "--all", "--output=json")
        assert "?" in auditor.said("audit", "tail", "--output=json", "--limit=100")


def test_a_restore_is_named_always(auditor: Auditor) -> None:
    with auditor.issuer():
        auditor.said("issuer", "backup", f"{auditor.directory}/backup", f"--state={auditor.directory}/state")
    (auditor.directory / "state").rename(auditor.directory / "old")
    auditor.said("issuer", "restore", f"{auditor.directory}/backup", f"--state={auditor.directory}/state")
    with auditor.issuer():
        restores = auditor.json("audit", "list", "--action=store restored")["rows"]
        assert isinstance(restores, list)
        number = restores[0]["number"]
        _, shown, _ = auditor.run("audit", "verify", f"--accept-restore={number}")
        assert f"row {number}: on " in shown
        assert "the issuer went on from a backup of " in shown


def test_every_command_that_changes_something_takes_a_comment_and_one_that_is_too_long_is_refused(
    running: Auditor,
) -> None:
    entry = running.new_entry("/agent/a", "--comment=one")
    commands = [
        ["entry", "update", entry, "--owner=ann"],
        ["node", "invite"],
        ["authority", "prepare", "x509"],
        ["authority", "rotate", "jwt"],
        ["issuer", "confirm-clock"],
        ["revoke", "spiffe-id", "/agent/a"],
        ["revoke", "lift", "1"],
        ["entry", "delete", entry],
    ]
    for number, command in enumerate(commands):
        running.said(*command, f"--comment=why {number}")
    rows = running.json("audit", "list", "--all")["rows"]
    assert isinstance(rows, list)
    comments = [row.get("comment") for row in rows]
    for number, command in enumerate(commands):
        assert f"why {number}" in comments, command
    assert "one" in comments
    code, _, told = running.run("node", "invite", f"--comment={'a' * 1025}")
    assert (code, "comment: expected at most 1024" in told) == (1, True)


def test_entries_are_listed_by_whose_they_are_and_when_they_end(running: Auditor) -> None:
    running.new_entry("/agent/a", "--owner=ann", "--label=team=travel")
    running.new_entry("/agent/b/c", "--expires-at=2999-01-01T00:00:00Z")
    running.new_entry("/agents")

    def paths(*filters: str) -> set[str]:
        entries = running.json("entry", "list", *filters)["entries"]
        assert isinstance(entries, list)
        return {str(one["spiffe_id"]).removeprefix("spiffe://example.org") for one in entries}

    assert paths("--below=/agent") == {"/agent/a", "/agent/b/c"}
    assert paths("--owner=ann") == paths("--label=team=travel") == {"/agent/a"}
    assert paths("--no-owner") == {"/agent/b/c", "/agents"}
    assert paths("--no-owner", "--below=/agent") == {"/agent/b/c"}
    assert paths("--expiring-within=7d") == set()
    assert paths("--expiring-within=999999d") == {"/agent/b/c"}
    assert running.run("entry", "list", "--expiring-within=999999999d")[0] == 1
    assert running.run("entry", "list", "--owner=ann", "--no-owner")[0] == 2
    assert running.run("entry", "list", "--spiffe-id=/a", "--below=/a")[0] == 2


def test_a_record_that_was_written_anew_is_found_wherever_its_checkpoints_stand(auditor: Auditor) -> None:
    with auditor.issuer():
        auditor.new_entry("/agent/a")
    with auditor.issuer():
        lines = auditor.exported("whole").read_text().splitlines()
        key = f"--key={auditor.json('audit', 'verify')['key']}"
    genuine = [line for line in lines if line.startswith('{"checkpoint')]
    rows = [json.loads(line) for line in lines if line not in genuine]
    head, forged = GENESIS, []
    for row in rows:
        body = row["body"].replace("uid:1", "uid:0").encode()
        head = link(head, body)
        forged.append(row_line(AuditRow(number=row["number"], body=body, hash=head)))
    for written, words in (
        (forged, "expected at least one about rows of the file, found none"),
        ([], "expected at least one about rows of the file, found none"),
        ([*forged, *genuine], "the chain was rewritten"),
        ([*forged[:-1], *genuine, forged[-1]], "the chain was rewritten"),
        ([*genuine, *forged], "the chain was rewritten"),
    ):
        file = auditor.directory / "forged"
        file.write_text("".join(f"{line}\n" for line in written))
        code, _, told = auditor.run("audit", "verify", "--file", str(file), key)
        assert (code, words in told) == (1, True), told
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + "\n".join(genuine) + "\n")
    assert auditor.run("audit", "verify", "--file", str(file), key)[0] == 0


def test_rows_that_a_filter_chose_are_told_from_rows_that_are_missing(running: Auditor) -> None:
    running.new_entry("/agent/a")
    file = running.exported("some", "--action=entry created")
    code, _, told = running.run("audit", "verify", "--file", str(file))
    assert (code, "its rows were chosen by a filter" in told) == (1, True), told


def test_a_list_of_nothing_has_a_header(running: Auditor) -> None:
    assert running.said("audit", "list", "--action=node banned").startswith("number")


def test_an_attestors_contradictions_are_checkpoints_too(auditor: Auditor) -> None:
    with auditor.issuer():
        auditor.new_entry("/agent/a")
    with auditor.issuer():
        genuine = [
            json.loads(line)
            for line in auditor.exported("whole").read_text().splitlines()
            if line.startswith('{"checkpoint')
        ]
        kept = auditor.directory / "contradictions.jsonl"
        kept.write_text("".join(json.dumps({**one, "why": "row 7 had another hash before"}) + "\n" for one in genuine))
        assert genuine
        auditor.said("audit", "verify", f"--checkpoint={kept}")


def test_a_key_that_was_made_after_the_first_was_lost_is_named_too(auditor: Auditor) -> None:
    with auditor.issuer():
        auditor.new_entry("/agent/z")  # its stop signs a checkpoint
    with auditor.issuer():
        first = str(auditor.json("audit", "verify")["key"])
    shutil.rmtree(auditor.directory / "state" / "keys")
    auditor.said("issuer", "forget-authorities", f"--state={auditor.directory}/state")
    with auditor.issuer():
        auditor.new_entry("/agent/a")  # its stop signs a checkpoint
    with auditor.issuer():
        code, _, told = auditor.run("audit", "verify")
        assert (code, "expected one key, found 2" in told, "if the issuer lost its keys" in told) == (1, True, True)
        keys = set(re.findall(r"[0-9a-f]{64}", told))
        assert first in keys
        assert auditor.run("audit", "verify", *(f"--key={key}" for key in keys))[0] == 0
        assert auditor.run("audit", "verify", f"--key={first}")[0] == 1
