"""Bad input at the command: what was wrong, what was expected, what to do next; never another voice, never a traceback."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from bench.rig.child import Child
from bench.rig.daemons import COGNOMEN, Dev
from cognomen.cli.admin import connect
from cognomen.protocol.errors import Kind, Refused
from tests.flow.commandline import Command


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    made = Dev(tmp_path_factory.mktemp("d"))
    with made:
        yield made


@pytest.fixture(scope="module")
def admin_socket(dev: Dev) -> Path:
    return dev.state / "admin" / "issuer.sock"


@pytest.fixture
def command(command: Command, dev: Dev, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", dev.environment["SPIFFE_ENDPOINT_SOCKET"])
    return command


@pytest.mark.parametrize("arguments", [[], ["entry"], ["issuer"]], ids=str)
def test_a_command_without_its_verb_shows_the_help_as_wrong_usage(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: cognomen")
    assert "error" not in done.err
    assert "hint" not in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["issuer", "run", "--bogus"], "error: no such option '--bogus'\n"),
        (["svid", "list", "--page-size", "0"], "error: invalid value for '--page-size': 0 is not in the range 1<=x<=1000\n"),
        (["revoke", "show", "x"], "error: invalid value for 'NUMBER': expected a whole number, found 'x'\n"),
        (["svid", "list", "--page-size", "x"], "error: invalid value for '--page-size': expected a whole number, found 'x'\n"),
        (["fetch", "jwt"], "error: expected --audience or --token, found neither\n"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_our_voice(command: Command, arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert done.err.startswith(message)
    assert done.err.endswith(" --help\n")


@pytest.mark.parametrize("noun", [["node", "invite"], ["entry", "create"]])
def test_a_label_that_is_given_twice_is_wrong_usage(command: Command, noun: list[str]) -> None:
    done = command(*noun, "--label", "team=travel", "--label", "team=food")
    assert (done.code, done.out) == (2, "")
    assert "'--label': expected each key once, found 'team' twice" in done.err


def test_a_node_is_shown_by_its_id_its_spiffe_id_and_its_path(command: Command) -> None:
    (node,) = command("node", "list", "-o", "json").rows("nodes")
    spiffe_id = str(node["spiffe_id"])
    names = (str(node["id"]), spiffe_id, spiffe_id.removeprefix("spiffe://example.org"))
    shown = [command("node", "show", name, "-o", "json") for name in names]
    assert [json.loads(one.out)["spiffe_id"] for one in shown] == [spiffe_id] * 3


def test_a_token_is_fetched_by_the_path_of_its_identity(command: Command) -> None:
    assert "/dev/self" in command("fetch", "jwt", "--audience", "db", "--spiffe-id", "/dev/self").out
    done = command("fetch", "jwt", "--audience", "db", "--spiffe-id", "/dev/other")
    assert (done.code, done.out) == (4, "")
    error, hint = done.err.splitlines()
    assert error == "error: --spiffe-id: expected one of spiffe://example.org/dev/self, found '/dev/other'"
    assert hint.startswith("hint: cognomen why says")


SOCKETS = [
    ["fetch", "x509"],
    ["validate", "jwt", "--audience", "a", "-"],
    ["status", "attestor"],
    ["attestor", "healthcheck"],
]


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("", "expected a value, found an empty string"),
        ("run/api.sock", "expected unix:///PATH, tcp://IP:PORT or an absolute path, found 'run/api.sock'"),
    ],
)
@pytest.mark.parametrize("call", SOCKETS, ids=" ".join)
def test_a_socket_by_a_relative_path_is_wrong_usage(
    command: Command, call: list[str], text: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    done = command(*call, "--socket", text)
    assert (done.code, done.out) == (2, "")
    assert trouble in done.err


def test_the_admin_socket_is_also_taken_in_the_form_of_the_workload_apis(
    dev: Dev, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = f"unix://{dev.state}/admin/issuer.sock"
    assert command("node", "list", "--socket", socket).code == 0
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", socket)
    assert command("node", "list").code == 0


@pytest.mark.parametrize(
    "call",
    [
        ["dev", "--state", ""],
        ["dev", "--socket", ""],
        ["node", "list", "--socket", ""],
        ["node", "invite", "--write", ""],
        ["fetch", "x509", "--write", ""],
        ["fetch", "jwt", "--audience", "db", "--write", ""],
        ["fetch", "bundles", "--write", ""],
        ["issuer", "backup", "file", "--state", ""],
        ["issuer", "restore", ""],
        ["issuer", "check", "--config", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_wrong_usage(command: Command, call: list[str]) -> None:
    done = command(*call)
    assert (done.code, done.out) == (2, "")
    assert "expected a path, found an empty string" in done.err


@pytest.mark.parametrize("flag", ["--state", "--admin-socket"])
def test_an_empty_path_of_a_daemon_is_wrong_usage(command: Command, flag: str) -> None:
    done = command("issuer", "check", "--trust-domain", "example.org", flag, "")
    assert done.code == 2
    assert "expected a value, found an empty string" in done.err


def test_under_a_umask_that_leaves_the_owner_nothing_a_daemon_can_use_what_it_makes(tmp_path: Path) -> None:
    state = tmp_path / "above" / "issuer"
    call = [
        *COGNOMEN, "issuer", "run", "--trust-domain=example.org", f"--state={state}", f"--admin-socket={tmp_path}/run/s",
        "--node-address=127.0.0.1:0", "--join-address=127.0.0.1:0",
    ]  # fmt: skip
    with Child(call, umask=0o777, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as issuer:
        assert issuer.stdout is not None
        assert issuer.stdout.readline().startswith("COGNOMEN_ADMIN_SOCKET=")
    assert (state.stat().st_mode & 0o777, state.parent.stat().st_mode & 0o777) == (0o700, 0o700)
    assert {path.stat().st_mode & 0o777 for path in state.rglob("*") if path.is_file()} == {0o600}


CALLS = [["fetch", "x509"], ["fetch", "jwt", "--audience", "a"], ["fetch", "bundles"], ["node", "list"]]


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_socket_that_nobody_serves_is_told_in_our_words(command: Command, call: list[str], tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "dead"))
    listener.close()
    for name, found in (("none", "none"), ("dead", "connection refused"), ("s" * 108, "")):
        done = command(*call, "--socket", str(tmp_path / name))
        assert done.code in {2, 3}
        assert done.out == ""
        assert f"found {found}" in done.err
        assert "\nhint: " in done.err
        assert "grpc" not in done.err.lower()


@pytest.mark.skipif(os.geteuid() != 0, reason="another uid needs root")
def test_a_socket_that_one_may_not_enter_is_denied(dev: Dev) -> None:
    arguments = ["node", "list", "--socket", f"{dev.state}/admin/issuer.sock"]
    call = (  # everything is imported before that user, who may not be able to read it, does the rest
        "import os; from cognomen.cli.main import run; run(['node', 'list', '--help']); os.setuid(65534);"
        f"raise SystemExit(run({arguments}))"
    )
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 5
    assert "uid 65534 has no permission to use it\nhint: run the command as the issuer's user" in done.stderr


def test_an_invalid_token_is_refused_by_the_workload_api_with_its_field(command: Command, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("no token")
    done = command("validate", "jwt", "--audience", "db", str(tmp_path / "token"))
    assert (done.code, done.out) == (1, "")
    assert "svid: token: expected JWS compact serialization, three parts, found 1" in done.err


def test_the_times_of_a_validated_token_are_whole_numbers(command: Command, tmp_path: Path) -> None:
    svid = json.loads(command("fetch", "jwt", "--audience", "db", "--output", "json").out)["svids"][0]
    (tmp_path / "token").write_text(svid["svid"])
    claims = json.loads(
        command("validate", "jwt", "--audience", "db", "--output", "json", str(tmp_path / "token")).out
    )["claims"]
    assert {type(claims["exp"]), type(claims["iat"])} == {int}
    assert list(claims) == sorted(claims)  # the protocol keeps no order


def test_watching_says_that_it_waits_for_an_attestor(tmp_path: Path) -> None:
    arguments = [*COGNOMEN, "fetch", "x509", "--watch", "--socket", str(tmp_path / "none")]
    with Child(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stderr is not None
        line = watching.stderr.readline()
    assert (
        line
        == f"warning: workload socket {tmp_path}/none: expected an attestor that listens, found none; waiting for it\n"
    )


@pytest.mark.parametrize("hangs_up", [False, True], ids=["silent", "hangs up"])
def test_an_issuer_that_does_not_answer_is_said_in_our_words(tmp_path: Path, *, hangs_up: bool) -> None:
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(1) as pool:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        if hangs_up:
            pool.submit(hang_up_on_all, listening)
        try:
            with connect(tmp_path / "s", seconds=1) as admin, pytest.raises(Refused) as refused:
                admin.get_status()
        finally:
            listening.shutdown(socket.SHUT_RDWR)
    assert (refused.value.kind, refused.value.detail) == (Kind.UNAVAILABLE, "issuer: expected an answer, found none")
    assert refused.value.hint.startswith("the issuer accepts connections but does not answer; is it stopped?")


def hang_up_on_all(listening: socket.socket) -> None:
    with suppress(OSError):
        while True:
            listening.accept()[0].close()


def test_writers_of_one_directory_at_once_leave_one_whole_set(dev: Dev, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: dev.command("fetch", "x509", "--write", str(tmp_path / "w")), range(4)))
    names = {path.name for path in (tmp_path / "w").iterdir()}
    assert len([name for name in names if name.startswith("..")]) == 3, "..data, its generation, ..lock"
    key = load_pem_private_key((tmp_path / "w" / "svid_key.pem").read_bytes(), None)
    leaf = load_pem_x509_certificate((tmp_path / "w" / "svid.pem").read_bytes())
    assert key.public_key() == leaf.public_key()


def test_two_devs_on_one_state_at_once_are_one(dev: Dev) -> None:
    done = subprocess.run(
        [*COGNOMEN, "dev", "--state", str(dev.state)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: state {dev.state}: already in use by another run\nhint: ")
    assert "/dev/self" in dev.command("fetch", "x509")


@pytest.mark.parametrize(
    "arguments",
    [
        "issuer run --config {}/none",
        "issuer check --config {}/none",
        "attestor run --config {}/none",
        "attestor run --state {}/state --invite {}/none",
        "entry create --from {}/none",
        "audit verify --file {}/none",
        "issuer restore {}/none --state {}/state",
        "issuer backup {}/backup --state {}/none",
        "issuer forget-authorities --state {}/none",
        "fetch x509 --write {}/files --also pkcs12 --password-file {}/none",
    ],
)
def test_a_file_that_is_named_and_missing_is_wrong_usage(command: Command, tmp_path: Path, arguments: str) -> None:
    done = command(*arguments.replace("{}", str(tmp_path)).split())
    assert (done.code, "error: " in done.err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        "fetch x509 --write {}/file/a",
        "node invite --write {}/file/a",
    ],
)
def test_a_file_that_the_system_refuses_is_no_daemon_that_does_not_answer(
    command: Command, tmp_path: Path, arguments: str
) -> None:
    (tmp_path / "file").touch(0o600)
    done = command(*arguments.replace("{}", str(tmp_path)).split())
    assert (done.code, "not a directory" in done.err) == (1, True), done.err
