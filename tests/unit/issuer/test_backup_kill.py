"""kill -9 at each step of a backup and of a restore leaves the old, the new, or a refusal whose command works."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cognomen.protocol.errors import Refused
from issuer.backup import DATABASE, KEYS, back_up, restore
from issuer.recovery import check_database
from tests.doubles.issuerstate import make_state

STEPS = {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "sqlite3.connect"}
"""What Python tells of before it does it; SQLite's own steps are drilled by hand (docs/adr/0020)."""

MOST = 100


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    return await make_state(tmp_path / "state")


def is_killed(act: Callable[[], object], at: int, below: Path) -> bool:
    """Do it in a child that is killed before its n-th step below a directory; False: it had fewer steps, and succeeded."""
    child = os.fork()
    if not child:
        left = at

        def die(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in STEPS and str(below) in str(arguments[0]):
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        try:
            act()
        except BaseException:  # noqa: BLE001 - the child must not go on as a test
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in {0, -signal.SIGKILL}
    return os.WIFSIGNALED(status)


def killed(act: Callable[[Path], object], directory: Path) -> Iterator[Path]:
    """A directory for each step at which it was killed, as the kill left it."""
    for at in range(1, MOST):
        below = directory / f"killed-{at}"
        below.mkdir(mode=0o700)
        if not is_killed(lambda below=below: act(below), at, below):  # type: ignore[misc]  # bound at once
            assert at > 5, "it has steps"
            return
        yield below
    raise AssertionError(f"expected fewer than {MOST} steps")


def names_in(directory: Path) -> list[str]:
    return sorted(found.name for found in directory.iterdir())


def test_a_killed_backup_leaves_none_or_a_whole_one_and_the_next_sweeps(state: Path, tmp_path: Path) -> None:
    outcomes = set()
    for left in killed(lambda below: back_up(state, below / "backup"), tmp_path):
        outcomes.add((left / "backup").exists())
        if (left / "backup").exists():
            restore(left / "backup", left / "new", actor="uid:0")
        back_up(state, left / "next")
        assert set(names_in(left)) - {"new", "backup"} == {"next"}
    assert outcomes == {True, False}


def test_a_killed_restore_is_nothing_whole_or_refused_and_done_again(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "backup")
    outcomes = set()
    for left in killed(lambda below: restore(tmp_path / "backup", below / "new", actor="uid:0"), tmp_path):
        new, told = left / "new", ""
        try:
            is_new = check_database(new)
        except Refused as refused:
            told = refused.hint
        if told:
            outcomes.add("refused")
            assert "restore again: cognomen issuer restore FILE" in told
            restore(tmp_path / "backup", new, actor="uid:0")
        else:
            outcomes.add("nothing" if is_new else "whole")
            assert is_new or (new / KEYS / "x509-1.key").exists()
            assert not is_new or not [*new.glob(f"*{DATABASE}*"), *new.glob(f"{KEYS}/*")]
        assert not [*new.glob(".*")]
    assert outcomes >= {"nothing", "refused"}
