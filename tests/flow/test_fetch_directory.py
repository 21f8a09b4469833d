"""`cognomen fetch --write`: who else may write the directory, and what a command is told whose set replaces another's."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.child import Child
from bench.rig.daemons import COGNOMEN, Dev
from cognomen.cli.main import run

ME = f"unix:uid:{os.geteuid()}"
HANGS = "sleep 1000 & echo $! > '{0}/orphan.new'; mv '{0}/orphan.new' '{0}/orphan'; wait"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("d"), "--entry", f"/a={ME}") as dev:
        yield dev


@pytest.fixture(autouse=True)
def at_the_attestor(dev: Dev, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", dev.environment["SPIFFE_ENDPOINT_SOCKET"])


def fetch(tokens: Path, *names: str) -> list[str]:
    return ["fetch", "jwt", f"--write={tokens}", *(f"--token={name}=https://{name}.example.org" for name in names)]


def watch(dev: Dev, tokens: Path, *options: str) -> "Child[str]":
    arguments = [*COGNOMEN, *fetch(tokens, "claude"), "--watch", *options]
    return Child(arguments, env=dev.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, watching: "Child[str]") -> None:
    while not path.exists():
        assert watching.poll() is None, watching.stderr


@pytest.mark.parametrize(
    "other",
    [["jwt", "--token=vault=vault"], ["jwt", "--token=vault=vault", "--watch"], ["x509"], ["bundles", "--watch"]],
)
def test_another_writer_of_a_directory_that_a_watch_keeps_is_refused(
    dev: Dev, other: list[str], tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    with watch(dev, tokens) as watching:
        wait_for(tokens / "claude", watching)
        kept = (tokens / "..data").readlink()
        done = subprocess.run(
            [*COGNOMEN, "fetch", *other, f"--write={tokens}"],
            env=dev.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert f"directory {tokens}: another cognomen fetch --watch keeps this directory" in done.stderr
        assert "give each command a directory of its own" in done.stderr
        assert ((tokens / "..data").readlink(), (tokens / "vault").exists()) == (kept, False)
        watching.terminate()
        watching.communicate(timeout=20)
    assert run(["fetch", "x509", f"--write={tokens}"]) == 0, "it was free again with the end of the watch"


def test_the_command_that_a_killed_watch_ran_does_not_keep_the_directory(dev: Dev, tmp_path: Path) -> None:
    tokens, orphan = tmp_path / "tokens", tmp_path / "orphan"
    (tmp_path / "hook.sh").write_text(HANGS.format(tmp_path))
    with watch(dev, tokens, f"--exec=/bin/sh '{tmp_path}/hook.sh'") as watching:
        wait_for(orphan, watching)
        watching.kill()
        watching.wait(timeout=20)
    pid = int(orphan.read_text())
    try:
        assert Path(f"/proc/{pid}").exists()
        assert run(fetch(tokens, "claude")) == 0
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_set_that_removes_files_of_another_says_which_and_of_the_same_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for names in (["claude", "aws"], ["aws", "claude"], ["vault", "aws"], ["vault", "aws"], [*"abcdefg"], ["vault"]):
        assert run(fetch(tmp_path / "tokens", *names)) == 0
        lines = capsys.readouterr().err.splitlines(keepends=True)
        told.append("".join(line for line in lines if "the tokens have no iss" not in line))
        assert {path.name for path in (tmp_path / "tokens").iterdir() if not path.name.startswith("..")} == {*names}
    start = f"warning: directory {tmp_path}/tokens: removed "
    removed = [one.removeprefix(start).partition(", which an earlier fetch wrote")[0] for one in told]
    assert removed == ["", "", "claude", "", "aws, vault", "a, b, c, d, e and 2 more"]
    assert all(one.count("\n") == bool(one) for one in told)
