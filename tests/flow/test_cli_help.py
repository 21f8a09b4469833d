"""What the command says about itself, and how quickly."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bench.rig.daemons import COGNOMEN
from cognomen.cli.main import cognomen, run
from cognomen.cli.output import View, print_table, same_columns
from cognomen.process.privatefile import write_private

HEAVY = ("grpc", "google.protobuf", "rich", "structlog", "uvloop", "sqlite3", "cryptography")


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)
        else:
            yield (*above, name)


COMMANDS = list(commands(cognomen))


def test_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out.partition("Exit codes:")[2].partition("Options:")[0]
    codes = {int(found) for found in re.findall(r"\b\d+\b", shown)}
    assert codes == {*range(6), *(128 + ended for ended in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM))}


def test_the_commands_of_the_issue_are_there() -> None:
    assert {" ".join(names) for names in COMMANDS} == {
        "dev", "why", "completion", "status attestor",
        "issuer run", "issuer check", "issuer healthcheck", "issuer confirm-clock", "issuer backup", "issuer restore",
        "revoke svid", "revoke issued-before", "revoke entry", "revoke spiffe-id", "revoke selector", "revoke node",
        "revoke list", "revoke show", "revoke lift", "audit list", "audit export", "entry history", "node unban",
        "attestor run", "attestor check", "attestor healthcheck", "attestor rejoin",
        "authority list", "authority rotate", "authority prepare", "authority activate", "authority taint", "authority revoke",
            "issuer forget-authorities",
        "node invite", "node list", "node show", "node evict", "node ban", "node purge", "node rename",
        "entry create", "entry list", "entry show", "entry update", "entry delete", "entry apply", "bundle show", "svid list", "svid show",
        "audit tail", "audit verify", "audit who", "fetch x509", "fetch jwt", "fetch bundles", "validate jwt",
        "bundle export", "bundle exports", "bundle forget-export",
        "plan", "apply", "prove", "test", "explain", "rulebook schema", "rulebook history", "rulebook show", "rulebook diff",
        "rulebook rollback", "rulebook observe", "rulebook import", "graph", "agent list", "agent show", "agent suspend",
        "agent resume", "agent retire", "agent owner", "agent review",
    }  # fmt: skip


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(
    names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*names, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: cognomen {' '.join(names)} " in text
    assert f"\n    cognomen {' '.join(names)}" in text


def groups(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    yield above
    context = click.Context(group)
    for name in group.list_commands(context):
        if isinstance(command := group.get_command(context, name), click.Group):
            yield from groups(command, *above, name)


@pytest.mark.parametrize("names", [*COMMANDS, *groups(cognomen)], ids=" ".join)
def test_no_help_is_wider_than_a_terminal(names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*names, "--help"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_the_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "Exit codes: 0 done, 1 refused or failed, 2 wrong usage (for plan also: it" in capsys.readouterr().out


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == "cognomen 0.1.0\n"


def test_help_loads_nothing_heavy() -> None:
    script = f"import sys; from cognomen.cli.main import run; run(['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_config_key_that_nobody_knows_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('trust_domain = "example.org"\nstate_dri = "/x"')
    done = subprocess.run(
        [*COGNOMEN, "issuer", "run", "--config", str(tmp_path / "c.toml")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: state_dri: unknown key\nhint: did you mean state_dir?\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["issuer", "run"], "trust_domain: expected a value, found none"),
        (
            ["issuer", "run", "--trust-domain", "A"],
            "trust_domain: trust domain: expected characters a-z 0-9 . - _, found 'A'",
        ),
        (["issuer", "run", "--trust-domain", "a", "--x509-svid-ttl", "2d"], "x509_svid_ttl: expected"),
        (["issuer", "run", "--trust-domain", "a", "--admin-socket", "/" + "a" * 107], "at most 107 bytes, found 108"),
        (["attestor", "run", "--workload-socket", "/" + "a" * 107], "at most 107 bytes, found 108"),
        (["dev", "--socket", "/" + "a" * 107], "at most 107 bytes, found 108"),
        (["dev", "--state", "/" + "a" * 107], "at most 107 bytes"),
    ],
)
def test_a_daemon_that_cannot_start_says_why(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "not an invite", "cognomen-invite-1.AAAA"])
def test_an_invite_that_is_none_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_private(tmp_path / "invite", text.encode())
    arguments = [
        "--state",
        str(tmp_path / "s"),
        "--workload-socket",
        str(tmp_path / "w"),
        "--invite",
        str(tmp_path / "invite"),
    ]
    assert run(["attestor", "run", *arguments]) == 1
    assert capsys.readouterr().err.startswith("error: invite: expected ")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "text", ["web", "/web", "/web=", "web=unix:uid:1", "/web=unix", "/a//b=unix:uid:1", "=unix:uid:1"]
)
def test_a_dev_entry_that_is_none_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dev", "--entry", text]) == 2
    assert "'--entry'" in capsys.readouterr().err


def test_arguments_that_are_no_text_are_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        assert run(["fetch", "jwt", "--audience", "a\udcff", "--socket", str(tmp_path / "s")]) == 2
    assert capsys.readouterr().err == "error: expected arguments in UTF-8, found 'a\\udcff'\n"


def test_a_stored_text_cannot_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(same_columns("a", "b"), [{"a": "\x1b[31mred", "b": True}, {"a": ["x", "y"], "b": {"k": "v"}}], View())
    assert capsys.readouterr().out.splitlines() == ["a            b", r"\x1b[31mred  yes", "x, y         k=v"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["statsu"], "status"),
        (["nodes", "list"], "node"),
        (["entry", "lst"], "list"),
        (["entry", "list", "--spifeid=/a"], "--spiffe-id"),
        (["entry", "list", "--page=3"], "--page-size or --page-token"),
        (["entry", "create", "--no-defualt"], "--no-default or --default"),
    ],
)
def test_what_is_alike_is_suggested(typed: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(typed) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert hint.startswith(f"hint: did you mean {meant}? see: cognomen ")
    assert "id you mean" not in error


@pytest.mark.parametrize(
    "typed", [["shutdown"], ["status", "--last=3"], ["entry", "list", "--last=3"], ["audit", "verify", "--owner=a"]]
)
def test_what_is_not_alike_or_not_in_the_help_is_not_suggested(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed) == 2
    assert "id you mean" not in capsys.readouterr().err


def test_the_help_of_a_daemon_says_what_each_option_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["issuer", "run", "--help"]) == 0
    told = capsys.readouterr().out
    for line in (
        "--x509-svid-ttl DURATION",
        "--on-clone [alarm|ban]",
        "--audit-checkpoint-syslog true|false",
        "--state PATH",
    ):
        assert line in told
    assert run(["issuer", "run", "--audit-checkpoint-syslog=maybe"]) == 2
    assert "'--audit-checkpoint-syslog': expected true or false, found 'maybe'\n" in capsys.readouterr().err
