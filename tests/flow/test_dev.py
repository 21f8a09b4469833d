"""`cognomen dev` and the commands that are workloads, as a user runs them."""

import json
import os
import signal
import socket as sockets
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from bench.rig.child import Child
from bench.rig.daemons import COGNOMEN, Dev, free_port
from cognomen.cli.admin import connect
from cognomen.cli.main import run
from cognomen.demo.webauthority import WebAuthority
from cognomen.protocol.errors import Kind, Refused
from svid.clock import SystemClock
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.sources import JWTSource, X509Source

ME = f"unix:uid:{os.geteuid()}"
STOCK_CLIENT = "from spiffe import X509Source\nwith X509Source() as source: print(source.svid.spiffe_id)"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(
        tmp_path_factory.mktemp("d"), "--entry", f"/a={ME}", "--entry", f"/b={ME},unix:gid:{os.getegid()}"
    ) as running:
        yield running


@pytest.fixture
def socket(dev: Dev, monkeypatch: pytest.MonkeyPatch) -> str:
    address = f"unix://{dev.socket}"
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", address)
    return address


def ids(dev: Dev) -> list[object]:
    return [one["spiffe_id"] for one in json.loads(dev.command("fetch", "x509", "--output", "json"))["svids"]]


def test_a_call_of_the_admin_socket_ends_after_the_time_that_it_may_take(tmp_path: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        with connect(tmp_path / "s", seconds=0.1) as admin, pytest.raises(Refused) as refused:
            admin.get_status()
    assert refused.value.kind is Kind.UNAVAILABLE


def test_without_entries_programs_of_ones_own_uid_are_dev_self(tmp_path: Path) -> None:
    with Dev(tmp_path) as dev:
        assert ids(dev) == ["spiffe://example.org/dev/self"]


def test_with_no_entry_it_makes_none_and_removes_those_of_an_earlier_run(tmp_path: Path) -> None:
    with Dev(tmp_path):
        pass
    with Dev(tmp_path, "--no-entry") as dev:
        assert dev.admin("entry", "list")["entries"] == []
    done = subprocess.run(
        [*COGNOMEN, "dev", "--no-entry", f"--entry=/a={ME}"], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, "--no-entry and --entry exclude each other" in done.stderr) == (2, True)


def test_relying_parties_find_the_keys_of_its_tokens(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir(mode=0o700)
    authority, port = WebAuthority(tmp_path / "web", SystemClock()), free_port()
    url, identity = f"https://localhost:{port}", str(authority.certify("issuer"))
    files = ("--web-certificate-file", identity, "--web-key-file", identity)
    with Dev(tmp_path, "--jwt-issuer", url, "--web-address", f"127.0.0.1:{port}", *files) as dev:
        token = json.loads(dev.command("fetch", "jwt", "--audience=a", "--output=json"))["svids"][0]["svid"]
        keys = jwt.PyJWKClient(f"{url}/keys", ssl_context=ssl.create_default_context(cafile=authority.path))
        key = keys.get_signing_key_from_jwt(token)
        assert jwt.decode(token, key, audience="a", issuer=url)["sub"] == "spiffe://example.org/dev/self"


def test_an_address_for_keys_without_an_issuer_is_refused(tmp_path: Path) -> None:
    options = ("--state", str(tmp_path / "state"), "--web-address=127.0.0.1:0")
    done = subprocess.run([*COGNOMEN, "dev", *options], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert "web_address: expected jwt_issuer too" in done.stderr


def test_what_the_issuer_warns_of_is_told(tmp_path: Path) -> None:
    with Dev(tmp_path, "--entry", "/shell=unix:path:/bin/sh") as dev:
        assert "warning: /shell: selectors: unix:path and unix:sha256 separate programs of one uid" in dev.log()


def test_the_sdk_and_a_stock_client_get_their_identity_before_and_after_ctrl_c(tmp_path: Path) -> None:
    dev = Dev(tmp_path, "--entry", f"/a={ME}")
    for _ in range(2):
        assert dev.start() == f"SPIFFE_ENDPOINT_SOCKET=unix://{dev.socket}"
        with X509Source(f"unix://{dev.socket}") as source:
            assert str(source.svid.spiffe_id) == "spiffe://example.org/a"
        stock = subprocess.run(
            [sys.executable, "-c", STOCK_CLIENT], env=dev.environment, capture_output=True, text=True, timeout=30, check=False
        )  # fmt: skip
        assert stock.stdout == "spiffe://example.org/a\n", stock.stderr
        nodes = dev.admin("node", "list")["nodes"]
        assert len(nodes) == 1, "no second join"
        assert dev.interrupt() == 0
    assert "Traceback" not in dev.log()


def test_entries_that_are_not_asked_for_any_more_are_removed_and_others_stay(tmp_path: Path) -> None:
    with Dev(tmp_path, "--entry", f"/a={ME}", "--entry", f"/b={ME}") as first:
        kept = {one["spiffe_id"]: one["id"] for one in first.admin("entry", "list")["entries"]}
        parent = str(first.admin("node", "list")["nodes"][0]["spiffe_id"])
        first.admin("entry", "create", "--spiffe-id", "/mine", "--parent", parent, "--selector", ME)
    with Dev(tmp_path, "--entry", f"/b={ME}", "--entry", f"/c={ME}") as second:
        entries = {one["spiffe_id"]: one["id"] for one in second.admin("entry", "list")["entries"]}
        assert set(entries) == {f"spiffe://example.org/{name}" for name in ("b", "c", "mine")}
        assert entries["spiffe://example.org/b"] == kept["spiffe://example.org/b"]
        assert sorted(map(str, ids(second))) == sorted(map(str, entries))


def test_a_node_that_was_away_for_too_long_joins_again(tmp_path: Path) -> None:
    with Dev(tmp_path, "--entry", f"/a={ME}") as dev:
        assert ids(dev) == ["spiffe://example.org/a"]
    (dev.state / "attestor" / "node.state").unlink()
    with dev:
        assert ids(dev) == ["spiffe://example.org/a"]
        assert len(dev.admin("entry", "list")["entries"]) == 1, "the former node's entry is gone"


def test_ports_that_are_taken_by_now_are_no_obstacle(tmp_path: Path) -> None:
    with Dev(tmp_path, "--entry", f"/a={ME}") as dev:
        assert ids(dev) == ["spiffe://example.org/a"]
    host, _, port = json.loads((dev.state / "dev.json").read_text())["node_address"].rpartition(":")
    with sockets.create_server((host, int(port))), dev:
        assert ids(dev) == ["spiffe://example.org/a"]


def test_the_ttl_that_was_asked_for_is_the_svids(tmp_path: Path) -> None:
    with (
        Dev(tmp_path, "--x509-ttl", "30s", "--jwt-ttl", "40s", "--trust-domain", "dev.test") as dev,
        X509Source(f"unix://{dev.socket}") as source,
        WorkloadAPIClient(f"unix://{dev.socket}") as client,
    ):
        token = client.fetch_jwt_svid("db")
        assert token.issued_at is not None
        assert (token.expires_at - token.issued_at).total_seconds() == 40
        assert (source.svid.not_after - source.svid.not_before).total_seconds() == 60, "30 s, back-dated by 30 s"
        assert source.svid.spiffe_id.trust_domain.name == "dev.test"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "already in use by another run"),
        (["--x509-ttl", "2d"], "x509_svid_ttl: expected whole seconds from 1s to 1d, found 2d"),
        (["--x509-ttl", "0s"], "x509_svid_ttl: expected whole seconds from 1s to 1d, found 0s"),
        (["--jwt-ttl", "2d"], "jwt_svid_ttl: expected whole seconds from 1s to 1d, found 2d"),
        (["--entry", "/cognomen/a=unix:uid:1"], "spiffe_id: expected a path outside /cognomen and /spire"),
    ],
)
def test_what_cannot_be_is_refused_with_a_next_step(
    dev: Dev, arguments: list[str], message: str, tmp_path: Path
) -> None:
    state = tmp_path / "other" if arguments else dev.state
    done = subprocess.run(
        [*COGNOMEN, "dev", "--state", str(state), *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_of_another_trust_domain_is_refused(tmp_path: Path) -> None:
    with Dev(tmp_path):
        pass
    done = subprocess.run(
        [*COGNOMEN, "dev", "--state", str(tmp_path / "state"), "--trust-domain", "other.test"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "--trust-domain: expected example.org, as in the state directory, found other.test" in done.stderr


def test_a_node_that_was_banned_is_told_with_a_way_to_begin_anew(tmp_path: Path) -> None:
    with Dev(tmp_path) as dev:
        (node,) = dev.admin("node", "list")["nodes"]
        dev.admin("revoke", "node", str(node["id"]))
    state = tmp_path / "state"
    done = subprocess.run(
        [*COGNOMEN, "dev", "--state", str(state)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == (
        f"error: node of {state}: banned\nhint: start over: rm -r {state}, or name another directory with --state\n"
    )


@pytest.mark.usefixtures("socket")
def test_fetch_shows_every_identity_and_no_private_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fetch", "x509", "--output", "json"]) == 0
    text = capsys.readouterr().out
    assert [one["spiffe_id"] for one in json.loads(text)["svids"]] == [
        "spiffe://example.org/a",
        "spiffe://example.org/b",
    ]
    assert "PRIVATE KEY" not in text


@pytest.mark.usefixtures("socket")
def test_one_of_several_identities_is_written(tmp_path: Path) -> None:
    assert run(["fetch", "x509", "--spiffe-id", "/b", "--write", str(tmp_path)]) == 0
    verify = ["openssl", "verify", "-CAfile", str(tmp_path / "bundle.pem"), str(tmp_path / "svid.pem")]
    assert subprocess.run(verify, capture_output=True, timeout=10, check=False).returncode == 0
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", tmp_path / "svid.pem"],
        capture_output=True, text=True, timeout=10, check=True,
    ).stdout  # fmt: skip
    assert "URI:spiffe://example.org/b" in text


@pytest.mark.usefixtures("socket")
def test_an_identity_that_one_does_not_have_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fetch", "x509", "--spiffe-id", "/c"]) == 4
    assert "expected one of spiffe://example.org/a, spiffe://example.org/b, found '/c'" in capsys.readouterr().err


def test_a_token_is_fetched_and_validated_for_its_audience_only(
    socket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fetch", "jwt", "--audience", "db", "--write", str(tmp_path)]) == 0
    token = tmp_path / "jwt_svid.token"
    assert token.stat().st_mode & 0o777 == 0o600
    with JWTSource(socket) as source:
        assert str(source.verify(token.read_text(), "db").spiffe_id) == "spiffe://example.org/a"
    capsys.readouterr()
    assert run(["validate", "jwt", "--audience", "db", "--output", "json", str(token)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["spiffe_id"] == "spiffe://example.org/a"
    assert document["claims"]["aud"] == ["db"]
    assert run(["validate", "jwt", "--audience", "mail", str(token)]) == 1
    assert "INVALID_ARGUMENT" in capsys.readouterr().err


@pytest.mark.usefixtures("socket")
def test_the_bundle_is_fetched_with_both_kinds_of_authorities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fetch", "bundles", "--write", str(tmp_path), "--output", "json"]) == 0
    keys = json.loads(capsys.readouterr().out)["bundles"]["example.org"]["keys"]
    assert {key["use"] for key in keys} == {"x509-svid", "jwt-svid"}
    assert (tmp_path / "example.org.pem").read_text().count("BEGIN CERTIFICATE") == 2
    assert json.loads((tmp_path / "example.org.json").read_text())["keys"] == keys


def test_watching_tells_a_change_when_it_comes_and_ends_quietly(tmp_path: Path) -> None:
    with Dev(tmp_path, "--entry", f"/a={ME}") as dev:
        arguments = [*COGNOMEN, "fetch", "x509", "--watch", "--write", str(tmp_path / "files")]
        with Child(
            arguments, env=dev.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as watching:
            assert watching.stdout is not None
            assert "spiffe_id" in watching.stdout.readline()
            first = watching.stdout.readline()
            assert "/a" in first
            before = (tmp_path / "files" / "svid.pem").read_text()
            entry = dev.admin("entry", "list")["entries"][0]
            dev.admin("entry", "update", str(entry["id"]), "--dns", "a.example")
            serial = first.split()[1]
            told = watching.stdout.readline()
            while "/a" not in told or serial in told:  # a revocation list that comes late is a change, too
                assert told
                told = watching.stdout.readline()
            assert (tmp_path / "files" / "svid.pem").read_text() != before
            watching.send_signal(signal.SIGINT)
            out, err = watching.communicate(timeout=20)
    assert (watching.returncode, err.strip()) == (130, "")
    assert all(told.split()[2] in line or "spiffe_id" in line for line in out.splitlines())


def test_nobody_at_the_socket_is_exit_code_3_with_a_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fetch", "x509", "--socket", str(tmp_path / "none")]) == 3
    assert "hint: is an attestor running there" in capsys.readouterr().err


def test_no_identity_is_exit_code_5_with_a_next_step(tmp_path: Path) -> None:
    with Dev(tmp_path, "--entry", "/other=unix:uid:4294967294") as dev:
        done = subprocess.run(
            [*COGNOMEN, "fetch", "x509"], env=dev.environment, capture_output=True, text=True, timeout=30, check=False
        )
    assert (done.returncode, done.stdout) == (5, "")
    assert "hint: no entry matches this process (cognomen why" in done.stderr


@pytest.mark.parametrize("address", ["http://x", "unix:relative"])
def test_an_address_that_is_none_is_wrong_usage(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fetch", "x509", "--socket", address]) == 2
    assert "hint: set SPIFFE_ENDPOINT_SOCKET, or give --socket" in capsys.readouterr().err
