"""`cognomen audit export --follow`: it outlives the issuer, and never goes on in a record that is shorter."""

import json
import subprocess
from pathlib import Path

import pytest

from bench.rig.child import Child
from bench.rig.daemons import COGNOMEN
from cognomen.cli.main import run
from tests.flow.twodaemons import World


def test_rows_are_followed_through_a_kill_of_the_issuer_without_a_gap(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.issuer:
        command = [*COGNOMEN, "audit", "export", "--follow", "--action=entry created", f"--socket={world.admin}"]
        with Child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            rows, told = child.stdout, child.stderr
            assert rows is not None
            assert told is not None

            assert json.loads(rows.readline()) == {"filtered": True}

            def created(path: str) -> object:
                world.entry(path, "/cognomen/node/join_token/n1", "unix:uid:1")
                return json.loads(json.loads(rows.readline())["body"])["subject"]

            assert created("/a") == "spiffe://example.org/a"
            world.issuer.kill()
            assert "waiting for it" in told.readline()
            world.issuer.start()
            assert created("/b") == "spiffe://example.org/b"
            assert child.poll() is None


def test_a_record_that_is_shorter_than_what_was_read_is_not_gone_on_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    with world.issuer:
        for options in ([], ["--follow"]):
            assert run(["audit", "export", "--after=100000", *options, f"--socket={world.admin}"]) == 1
            assert "which is the last row, found 100000" in capsys.readouterr().err
