"""`cognomen audit` against a real issuer whose checkpoints go into a file, through a restore of a backup that lacks the last rows."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.rig.daemons import Daemon
from cognomen.cli.main import run
from cognomen.protocol.auditlog import Checkpoint
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key, public_key_from_der
from tests.flow.commandline import NODE, issuer_at, socket_at


class World:
    """An issuer that signs its log at the start and at the stop only."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.file = directory / "checkpoints.jsonl"
        self._capsys = capsys

    def issuer_on(self, state: str) -> Daemon:
        options = ("--audit-checkpoint-interval=1d", f"--audit-checkpoint-file={self.file}")
        return issuer_at(self.directory, *options, state=state)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        return (code, *self._capsys.readouterr())

    def command(self, *arguments: str) -> None:
        code, _, told = self.run(*arguments)
        assert code == 0, told

    def entry(self, path: str) -> None:
        self.command("entry", "create", f"--spiffe-id={path}", f"--parent={NODE}", "--selector=unix:uid:1")

    def verify(self, *more: str) -> tuple[int, str, str]:
        return self.run("audit", "verify", f"--checkpoint={self.file}", *more)

    def checkpoints(self) -> list[Checkpoint]:
        return [Checkpoint.parse(line) for line in self.file.read_bytes().splitlines()]


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(socket_at(tmp_path)))
    return World(tmp_path, capsys)


def test_what_a_restored_backup_lost_is_a_fault_until_somebody_says_that_he_knows_it(world: World) -> None:
    state = f"--state={world.directory / 'one'}"
    with world.issuer_on("one"):
        world.entry("/kept")
        world.command("issuer", "backup", str(world.directory / "backup"), state)
        world.entry("/lost")
    last = world.checkpoints()[-1]  # of the stop: it covers what was decided last
    world.command("issuer", "restore", str(world.directory / "backup"), f"--state={world.directory / 'two'}")
    with world.issuer_on("two"):
        rows = [json.loads(line) for line in world.run("audit", "tail", "--limit=100", "-o", "json")[1].splitlines()]
        (restore,) = [row["number"] for row in rows if row["action"] == "store restored"]
        assert last.count >= restore
        code, _, told = world.verify()
        assert code == 1
        assert (
            f"rows {restore} to {last.count} of that time were lost in the restore that row {restore} records" in told
        )
        code, shown, _ = world.verify(f"--accept-restore={restore}")
        assert code == 0
        assert f"lost in the restore that row {restore} records" in shown
        assert world.verify(f"--accept-restore={restore + 1}")[0] == 1


def test_checkpoints_of_another_key_cut_off_or_of_nothing_are_told_apart(world: World) -> None:
    with world.issuer_on("one"):
        world.entry("/a")
    first, whole = world.checkpoints()[0], world.file.read_bytes()
    pem = world.directory / "key.pem"
    key = public_key_from_der(first.public_key)
    pem.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with world.issuer_on("one"):
        world.file = world.directory / "copy"  # the issuer goes on with its own
        world.file.write_bytes(whole)
        assert world.verify("--key", str(pem))[0] == 0
        assert world.verify("--key", first.key_thumbprint)[0] == 0
        assert world.verify("--key", "nowhere")[0] == 2
        world.file.write_bytes(whole + whole[:40])
        assert world.verify()[0] == 0
        world.file.write_bytes(whole[:40] + b"\n" + whole)
        code, _, told = world.verify()
        assert (code, "line 1: checkpoint: expected a JSON object" in told) == (1, True)
        foreign = first.signed(LocalSigningKey(KeyID("x"), generate_private_key(KeyKind.EC_P256)))
        world.file.write_bytes(whole + foreign.to_json() + b"\n")
        code, _, told = world.verify()
        assert (code, "expected one key, found 2" in told) == (1, True)


def test_a_log_that_was_cut_off_while_the_issuer_was_away_is_found(world: World) -> None:
    with world.issuer_on("one"):
        world.entry("/a")
    with closing(sqlite3.connect(world.directory / "one" / "issuer.db")) as database:
        database.execute("DELETE FROM audit WHERE number > 3")
        database.execute("DELETE FROM checkpoint")
        database.commit()
    with world.issuer_on("one"):
        code, _, told = world.verify()
        assert code == 1
        assert "the end was cut off, from row" in told or "the chain was rewritten, from a row between" in told


def test_a_row_that_is_no_event_any_more_is_shown_as_it_is(world: World) -> None:
    with world.issuer_on("one"):
        world.entry("/a")
    with closing(sqlite3.connect(world.directory / "one" / "issuer.db")) as database:
        database.execute("UPDATE audit SET body = CAST('[' AS BLOB) WHERE number = 2")
        database.commit()
    with world.issuer_on("one"):
        code, shown, _ = world.run("audit", "tail", "--limit=100", "--output=json")
        assert code == 0
        assert [row["unreadable"] for row in map(json.loads, shown.splitlines()) if "unreadable" in row] == ["["]
        assert world.run("audit", "tail")[0] == 0
        code, _, told = world.run("audit", "verify")
        assert (code, "row 2 does not follow" in told) == (1, True)
