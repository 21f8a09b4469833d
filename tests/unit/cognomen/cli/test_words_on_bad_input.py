"""What the command says to bad input: what was wrong, and what to do next."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import cognomen.cli.main
from cognomen.cli.invitefile import load_invite
from cognomen.cli.main import run
from cognomen.protocol.errors import Kind, Refused
from issuer.backup import back_up
from svid.workloadapi.reach import workload_trouble
from tests.doubles.passable import passable_directory

Printed = pytest.CaptureFixture[str]


def said(capsys: Printed) -> str:
    """What was said on standard error, whichever way it was folded."""
    return re.sub(r"\s+", " ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ([], "neither"),
        (["--watch"], "no --write"),
        (["--write", "files"], "no --watch"),
    ],
)
@pytest.mark.parametrize("kind", [["x509"], ["jwt", "--audience", "a"]], ids=["x509", "jwt"])
def test_when_denied_needs_files_that_are_watched(
    kind: list[str], more: list[str], found: str, capsys: Printed
) -> None:
    assert run(["fetch", *kind, "--when-denied", "remove", *more]) == 2
    assert f"--when-denied: expected --watch and --write, found {found}" in said(capsys)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "list", "--since"],
        ["audit", "list", "--until"],
        ["audit", "who", "/x", "--at"],
        ["entry", "create", "--expires-at"],
        ["revoke", "issued-before"],
    ],
    ids=" ".join,
)
def test_a_time_outside_the_calendar_of_utc_is_wrong_usage(arguments: list[str], text: str, capsys: Printed) -> None:
    assert run([*arguments, text]) == 2
    assert f"expected a time in the years 1 to 9999 of UTC, found '{text}'" in said(capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "jwt", "--audience", "a", "--socket", "/nowhere", "{}"],
        ["revoke", "issued-before", "{}"],
        ["entry", "create", "--selector", "{}"],
        ["no-such-{}"],
        ["audit", "list", "--{}"],
        ["status", "--socket", "{}"],
        ["completion", "{}"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_an_error_neither_controls_the_terminal_nor_forges_lines(arguments: list[str], capsys: Printed) -> None:
    evil = "\x1b]0;owned\x07\nhint: pay\r\u202e\x9b"
    assert run([one.format(evil) for one in arguments]) != 0
    lines = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert "hint: pay" not in lines
    assert [line for line in lines if not line.isprintable()] == []
    assert "owned" in lines[0]


def test_a_file_without_end_is_more_than_there_is_memory_for() -> None:
    command = [sys.executable, "-m", "cognomen", "audit", "verify", "--checkpoint", "/dev/zero"]
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -v 500000; exec "$@"', "sh", *command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "error: not enough memory for what it was to read\n")


def test_a_hint_may_be_several_lines(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Refused(Kind.INVALID, "a\nb", hint="first:\x07\nthen")

    monkeypatch.setattr(cognomen.cli.main.cognomen, "main", refuse)
    assert run([]) == 1
    assert capsys.readouterr().err == "error: a\\nb\nhint: first:\\x07\nthen\n"


def test_choices_are_told_in_one_line(capsys: Printed) -> None:
    assert run(["completion"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish\n"
    )


@pytest.mark.parametrize("days", [3_000_000, 999_999_999])
def test_a_duration_to_the_end_of_the_calendar_is_refused(days: int, capsys: Printed) -> None:
    assert run(["svid", "list", "--expiring-within", f"{days}d"]) == 1
    assert said(capsys) == f"error: expiring_within: expected an end before the year 10000, found {days}d "


def test_a_token_from_no_file_is_refused_as_an_empty_text(capsys: Printed) -> None:
    assert run(["validate", "jwt", "--audience", "a", "--socket", "/nowhere", ""]) == 2
    assert "expected a value, found an empty string" in said(capsys)


def test_a_file_that_is_no_socket_is_called_that_also_where_it_may_not_be_written(tmp_path: Path) -> None:
    for path in (tmp_path / "file", Path("/etc/passwd")):
        (tmp_path / "file").touch()
        trouble = workload_trouble(f"unix:{path}")
        assert trouble is not None
        assert not trouble.is_denied
        assert trouble.detail == (
            f"workload socket {path}: expected an attestor that listens, found a file that is not a socket"
        )


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Become nobody special, for a while."""
    before = os.geteuid()
    if before != 0:
        pytest.skip("needs root, to become somebody else")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize(
    ("closed", "mode", "expected"),
    [
        ("d", 0o700, "the directory {}/d must let this user enter"),
        (
            "d/s",
            0o600,
            "its own permissions must let this user write: an attestor makes it with mode 0666, and it has 0600",
        ),
    ],
)
def test_a_socket_that_this_user_may_not_use_names_what_keeps_it_out(closed: str, mode: int, expected: str) -> None:
    with passable_directory() as directory, socket.socket(socket.AF_UNIX) as listener:
        (directory / "d").mkdir()
        (directory / "d").chmod(0o755)
        listener.bind(str(directory / "d" / "s"))
        listener.listen()
        (directory / "d" / "s").chmod(0o666)
        (directory / closed).chmod(mode)
        with as_somebody_else():
            trouble = workload_trouble(f"unix:{directory}/d/s")
    assert trouble is not None
    assert (trouble.is_denied, trouble.hint) == (True, expected.format(directory))


@pytest.mark.parametrize(
    "command", [("status", "attestor"), ("attestor", "healthcheck"), ("fetch", "x509"), ("why",)], ids=" ".join
)
def test_a_command_that_finds_no_attestor_says_how_to_name_another_socket(
    command: tuple[str, ...], tmp_path: Path, capsys: Printed
) -> None:
    assert run([*command, f"--socket=unix://{tmp_path}/none"]) == 3
    found = said(capsys)
    assert ("--socket unix:///PATH" in found, "SPIFFE_ENDPOINT_SOCKET=unix:///PATH" in found) == (True, True)
    assert "cognomen dev" not in found


def test_an_invite_that_is_not_there_is_made_where_the_hint_says(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        load_invite(str(tmp_path / "none"))
    assert (refused.value.kind, "cognomen node invite" in refused.value.hint) == (Kind.NOT_FOUND, True)


@pytest.mark.parametrize("before", ["", "\n "])
def test_an_invite_in_the_place_of_its_file_is_not_repeated(before: str) -> None:
    with pytest.raises(Refused) as refused:
        load_invite(f"{before}cognomen-invite-1.c2VjcmV0")
    assert (refused.value.kind, "c2Vj" in str(refused.value)) == (Kind.INVALID, False)
    assert "c2Vj" not in refused.value.detail + refused.value.hint
    assert "to a file" in refused.value.hint
    assert "--invite -" in refused.value.hint


def test_a_backup_of_another_directory_says_how_to_name_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        back_up(tmp_path, tmp_path / "backup")
    assert (refused.value.kind, "--state" in refused.value.hint) == (Kind.NOT_FOUND, True)
