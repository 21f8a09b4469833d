"""The record of decisions and backups, by the command, on real daemons."""

import json
import os
import re
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from svid.workloadapi.sources import X509Source
from tests.flow.twodaemons import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    with world.running():
        yield world


def test_the_record_is_shown_verified_by_an_attestors_checkpoints_and_an_edit_is_found(world: World) -> None:
    shown = world.run("audit", "tail", "--limit=3", "--output=json")
    assert [set(json.loads(line)) >= {"number", "actor", "action"} for line in shown.stdout.splitlines()] == 3 * [True]
    checkpoints = world.checkpoints()
    verified = world.command("audit", "verify", f"--checkpoint={checkpoints}")
    assert verified["checkpoints"]
    plain = world.run("audit", "verify")
    assert "each follows from the one before it" in plain.stdout
    assert "not proved:" in plain.stdout
    wrong_key = world.run("audit", "verify", "--key", "00" * 32)
    assert (wrong_key.returncode, "expected the key" in wrong_key.stderr) == (1, True)
    world.issuer.stop()
    with closing(sqlite3.connect(world.directory / "issuer" / "issuer.db")) as database:
        (number,) = database.execute(
            "SELECT min(number) FROM audit WHERE CAST(body AS TEXT) LIKE '%entry created%'"
        ).fetchone()
        edit = "UPDATE audit SET body = CAST(replace(body, 'uid:', 'udi:') AS BLOB) WHERE number = ?"
        database.execute(edit, (number,))
        database.commit()
    world.issuer.start()
    found = world.run("audit", "verify", f"--checkpoint={checkpoints}")
    assert found.returncode == 1
    assert f"row {number} does not follow from the rows before it" in found.stderr


def test_who_held_an_identity_at_a_moment_is_known(world: World) -> None:
    with X509Source(f"unix://{world.workload}") as source:
        svid = source.svid
    moment = svid.not_before.replace(microsecond=0).isoformat()
    later = svid.not_after.isoformat()
    assert world.command("audit", "who", "--spiffe-id=/web", f"--at={moment}")["credentials"] == []
    issued = world.command("svid", "list", "--spiffe-id=/web")["credentials"]
    assert isinstance(issued, list)
    held = world.command("audit", "who", "--spiffe-id=/web", f"--at={issued[0]['issued_at']}")["credentials"]
    assert isinstance(held, list)
    assert f"{svid.serial:x}" in {row["serial"] for row in held}
    not_yet = world.run("audit", "who", "--spiffe-id=/web", f"--at={later}")
    assert not_yet.returncode == 2
    assert "expected a --at that is not in the future" in not_yet.stderr


def test_who_held_an_identity_says_what_was_revoked_by_then(world: World) -> None:
    with X509Source(f"unix://{world.workload}") as source:
        serial = f"{source.svid.serial:x}"
    world.command("revoke", "svid", serial)
    row = world.command("svid", "show", serial)
    ended_at = str(row["ended_at"])

    def then(moment: object, option: str = "--at") -> object:
        found = world.command("audit", "who", "--spiffe-id=/web", f"{option}={moment}")["credentials"]
        assert isinstance(found, list)
        return next(one["then"] for one in found if one["serial"] == serial)

    assert (then(row["issued_at"]), then(ended_at)) == ("valid", "revoked")
    assert (then(row["issued_at"], "--since"), then(ended_at, "--since")) == ("revoked meanwhile", "revoked")
    shown = world.run("audit", "who", "--spiffe-id=/web", f"--since={row['issued_at']}").stdout
    assert re.search(rf"^{serial[:16]} .* [0-9]+s ago +revoked meanwhile$", shown, re.MULTILINE)
    (line,) = [line for line in world.run("svid", "list").stdout.splitlines() if serial[:12] in line]
    assert line.split()[2:4] == ["/web", "revoked"]
    (line,) = [line for line in world.run("svid", "list", "-o", "wide").stdout.splitlines() if serial in line]
    moments = [f"{str(at)[:19]}Z" for at in (row["issued_at"], row["not_after"], ended_at)]
    assert line.split()[8:] == ["revoked", *moments, "1", "-", "-", "0"]
    others = [line.split() for line in world.run("svid", "list", "--live", "-o", "wide").stdout.splitlines()[1:]]
    assert {(line[8], *line[-5:-3]) for line in others} == {("issued", "-", "-")}


def test_a_backup_is_restored_and_everybody_goes_on(world: World) -> None:
    backup = world.directory / "backup.tar"
    made = world.command("issuer", "backup", str(backup), f"--state={world.directory}/issuer")
    assert backup.stat().st_mode & 0o777 == 0o600
    assert world.run("issuer", "backup", str(backup), f"--state={world.directory}/issuer").returncode == 1
    world.entry("/lost", "/nodes", f"unix:uid:{os.getuid()}")  # the attestor's cursor is higher than the backup's
    with X509Source(f"unix://{world.workload}") as source:
        world.issuer.stop()
        elsewhere = world.directory / "elsewhere"
        restored = world.command("issuer", "restore", str(backup), f"--state={elsewhere}")
        assert restored["incarnation"] == made["incarnation"]
        again = world.run("issuer", "restore", str(backup), f"--state={elsewhere}")
        assert (again.returncode, "expected one without a database" in again.stderr) == (1, True)
        with world.issuer_on(elsewhere):
            with X509Source(f"unix://{world.workload}") as later:
                assert str(later.svid.spiffe_id) == "spiffe://example.org/web"
            world.entry("/found", "/nodes", f"unix:uid:{os.getuid()}")
            woken = False
            for _ in range(400):
                with X509Source(f"unix://{world.workload}") as later:
                    ids = {svid.spiffe_id.path for svid in later.context.svids}
                if ids == {"/web", "/found"}:
                    woken = True
                    break
            assert woken, ids
            authorities = world.command("authority", "list", "--all")["authorities"]
            assert isinstance(authorities, list)
            assert sorted(row["state"] for row in authorities if row["kind"] == "x509") == ["active", "next", "old"]
            assert "the spread time" in next(row["waits_for"] for row in authorities if row["state"] == "next")
            rows = map(json.loads, world.run("audit", "tail", "--limit=100", "--output=json").stdout.splitlines())
            (restore,) = [row["number"] for row in rows if row["action"] == "store restored"]
            accepting = ("audit", "verify", f"--checkpoint={world.checkpoints()}", f"--accept-restore={restore}")
            assert world.run(*accepting).returncode == 0
        assert source.svid.spiffe_id.path == "/web"


def test_what_is_no_whole_backup_is_refused_and_leaves_nothing(world: World) -> None:
    backup = world.directory / "backup.tar"
    world.command("issuer", "backup", str(backup), f"--state={world.directory}/issuer")
    data = bytearray(backup.read_bytes())
    data[len(data) // 2] ^= 1
    foreign = world.directory / "foreign.tar"
    with tarfile.open(foreign, "w") as tar:
        tar.add(backup, "../issuer.db")
    cut = world.directory / "cut.tar"
    cut.write_bytes(backup.read_bytes()[: len(data) // 2])
    bent = world.directory / "bent.tar"
    bent.write_bytes(bytes(data))
    for file in (bent, cut, foreign, world.directory / "invite"):
        done = world.run("issuer", "restore", str(file), f"--state={world.directory}/new")
        assert (done.returncode, "damaged or incomplete" in done.stderr) == (1, True), done.stderr
        assert [path.name for path in (world.directory / "new").iterdir()] == ["lock"]


def test_a_restore_over_a_running_issuer_is_refused(world: World) -> None:
    done = world.run("issuer", "restore", "none", f"--state={world.directory}/issuer")
    assert (done.returncode, "is already in use by a running issuer" in done.stderr) == (1, True)
