"""`check`, `healthcheck` and `completion`; the ledger by serial and by filter; entries that come from SPIRE."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.daemons import COGNOMEN
from cognomen.cli.main import run
from tests.flow.twodaemons import World

Printed = pytest.CaptureFixture[str]
SPIRE = {
    "entries": [
        {
            "id": "8d4a2f6e-0000-4000-8000-000000000001",
            "spiffe_id": {"trust_domain": "example.org", "path": "/spire-made"},
            "parent_id": {"trust_domain": "example.org", "path": "/spire/agent/join_token/1"},
            "selectors": [{"type": "unix", "value": "uid:4294967293"}],
            "x509_svid_ttl": 1800,
            "jwt_svid_ttl": 0,
            "federates_with": [],
            "admin": False,
            "downstream": False,
            "store_svid": False,
            "hint": "db",
            "expires_at": "4102444800",
            "dns_names": ["db.internal"],
            "revision_number": "3",
            "created_at": "1700000000",
            "additional_attributes": None,
        }
    ],
    "next_page_token": "",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("w"))
    with world.running():
        yield world


@pytest.mark.parametrize(("daemon", "key"), [("issuer", "node_svid_ttl"), ("attestor", "workload_socket")])
def test_a_good_configuration_is_shown_whole(daemon: str, key: str, tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "c.toml").write_text('trust_domain = "example.org"\n')
    assert run([daemon, "check", "--config", str(tmp_path / "c.toml"), "--output", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["trust_domain"] == "example.org"
    assert document[key] in {"1h", "/run/cognomen/api.sock"}
    assert run([daemon, "check", "--config", str(tmp_path / "c.toml")]) == 0
    assert "trust_domain" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [tmp_path / "c.toml"], "nothing was made"


@pytest.mark.parametrize(
    ("daemon", "line", "fault"),
    [("issuer", 'x509_svid_ttl = "2d"', "expected"), ("attestor", "conections_per_uid = 1", "unknown key")],
)
def test_a_bad_configuration_is_refused_by_its_key(
    daemon: str, line: str, fault: str, tmp_path: Path, capsys: Printed
) -> None:
    (tmp_path / "c.toml").write_text(f'trust_domain = "example.org"\n{line}\n')
    assert run([daemon, "check", "--config", str(tmp_path / "c.toml")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {line.partition(' ')[0]}: {fault}")


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--node-address=http://a:1", "node_address: expected host:port such as"),
        ("--join-address=8443", "join_address: expected host:port such as"),
        ("--node-address=no-such-host.invalid:1", "node_address: the name no-such-host.invalid is unknown here"),
        ("--advertised-node-address=http://a:1", "advertised_node_address: expected host:port such as"),
        ("--advertised-join-address=a:0", "advertised_join_address: expected a port of 1 to 65535, found 0"),
    ],
)
def test_an_address_that_cannot_work_is_found(flag: str, told: str, capsys: Printed) -> None:
    assert run(["issuer", "check", "--trust-domain=example.org", flag]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("daemon", "flag", "key"),
    [
        ("issuer", "--admin-socket=a/s", "admin_socket"),
        ("attestor", "--workload-socket=a/s", "workload_socket"),
        ("attestor", "--state=a", "state_dir"),
    ],
)
def test_a_path_that_depends_on_where_the_daemon_starts_is_warned_of(
    daemon: str, flag: str, key: str, capsys: Printed
) -> None:
    assert run([daemon, "check", "--trust-domain=example.org", flag]) == 0
    assert f"warning: {key}: a" in capsys.readouterr().err


def test_daemons_that_serve_are_healthy(world: World) -> None:
    for arguments in (("issuer", "healthcheck"), ("attestor", "healthcheck", f"--socket={world.workload}")):
        done = world.run(*arguments)
        assert (done.returncode, done.stdout) == (0, "serving\n"), done.stderr


@pytest.mark.parametrize("daemon", ["issuer", "attestor"])
def test_nobody_there_is_not_healthy(daemon: str, tmp_path: Path, capsys: Printed) -> None:
    assert run([daemon, "healthcheck", "--socket", str(tmp_path / "none")]) == 3
    assert "hint: " in capsys.readouterr().err


def test_an_attestor_without_a_snapshot_is_not_healthy(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.running():
        world.issuer.kill()
        world.attestor.kill()
        with world.attestor_that_waits():
            while (done := world.run("attestor", "healthcheck", f"--socket={world.workload}")).returncode == 3:
                pass
            assert (done.returncode, done.stdout) == (1, "not serving\n")


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o nosort"), ("zsh", "#compdef cognomen"), ("fish", "complete ")]
)
def test_each_shell_gets_its_script(shell: str, word: str, capsys: Printed) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert word in script
    assert "_COGNOMEN_COMPLETE" in script


def test_a_shell_that_completes_is_told_the_commands() -> None:
    environment = {**os.environ, "_COGNOMEN_COMPLETE": "bash_complete", "COMP_WORDS": "cognomen aud", "COMP_CWORD": "1"}
    done = subprocess.run([*COGNOMEN], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert "plain,audit" in done.stdout


def test_a_credential_is_shown_by_its_serial(world: World) -> None:
    (newest,) = listed(world, "--kind=x509", "--page-size=1")
    for written in (newest["serial"], str(newest["serial"]).upper(), f"0x{newest['serial']}"):
        assert world.command("svid", "show", str(written)) == {**newest, "uses": [], "uses_more": 0}
    done = world.run("svid", "show", "abc")
    assert (done.returncode, done.stderr) == (4, "error: serial: expected one that we signed, found 'abc'\n")


def test_credentials_are_listed_by_kind_state_and_end(world: World) -> None:
    assert {row["kind"] for row in listed(world, "--kind=node")} == {"node"}
    assert listed(world, "--state=failed") == []
    assert {row["kind"] for row in listed(world, "--expiring-within=2h")} == {"issuer", "node", "x509"}
    assert listed(world, "--expiring-within=1s") == []
    assert len(listed(world, "--valid")) == len(listed(world))


def test_credentials_are_listed_by_path_and_by_whose_they_are(world: World) -> None:
    (newest,) = listed(world, "--kind=x509", "--page-size=1")
    path = str(newest["spiffe_id"]).removeprefix("spiffe://example.org")
    own = listed(world, f"--spiffe-id={path}")
    assert newest in own
    assert listed(world, f"--below={path}") == own
    everything = listed(world, "--below=/", "--all")
    assert {row["kind"] for row in everything} >= {"node", "x509"}
    assert everything == listed(world, "--all")
    assert listed(world, f"--below={path}/x") == []
    assert newest in listed(world, "--no-owner", "--live")
    assert listed(world, "--owner=nobody-has-it") == []
    world.command("entry", "update", str(newest["entry_id"]), "--owner=travel-team")
    try:
        assert newest["serial"] in {row["serial"] for row in listed(world, "--owner=travel-team")}
        assert listed(world, "--no-owner") == []
        assert listed(world, "--owner=travel-team", f"--below={path}/x") == []
    finally:
        world.command("entry", "update", str(newest["entry_id"]), "--owner=")
    for both in (["--spiffe-id=/a", "--below=/b"], ["--owner=a", "--no-owner"]):
        done = world.run("svid", "list", *both)
        assert (done.returncode, "found both" in done.stderr) == (2, True)


def test_now_is_a_time(world: World) -> None:
    (newest,) = listed(world, "--kind=x509", "--page-size=1")
    found = world.command("audit", "who", f"--spiffe-id={newest['spiffe_id']}", "--at=now")["credentials"]
    assert isinstance(found, list)
    assert newest["serial"] in {one["serial"] for one in found}
    assert world.command("audit", "list", "--since=now")["rows"] == []
    assert world.command("audit", "who", "--below=/", "--since=now")["credentials"]
    assert world.run("revoke", "issued-before", "now", "--spiffe-id=/nobody", "--dry-run").returncode == 0
    assert world.run("audit", "who", "--spiffe-id=/a", "--at=Now").returncode == 2


def test_an_export_is_json_also_if_it_is_asked_for(world: World) -> None:
    plain, asked = world.run("audit", "export"), world.run("audit", "export", "-o", "json")
    assert (asked.returncode, asked.stdout.splitlines()[:3]) == (0, plain.stdout.splitlines()[:3])
    assert world.run("audit", "export", "-o", "table").returncode == 2


def listed(world: World, *filters: str) -> list[dict[str, object]]:
    found = world.command("svid", "list", *filters)["credentials"]
    assert isinstance(found, list)
    return found


def test_entries_of_spire_are_taken_below_a_group_of_ours(world: World, tmp_path: Path) -> None:
    (tmp_path / "spire.json").write_text(json.dumps(SPIRE))
    made = world.command("entry", "create", f"--from={tmp_path}/spire.json", "--parent-id=/nodes")["entries"]
    assert isinstance(made, list)
    (entry,) = made
    assert (entry["spiffe_id"], entry["parent_id"]) == ("spiffe://example.org/spire-made", "spiffe://example.org/nodes")
    assert (entry["selectors"], entry["x509_svid_ttl"], entry["hint"]) == (["unix:uid:4294967293"], "1800s", "db")
    assert (entry["dns_names"], entry["expires_at"]) == (["db.internal"], "2100-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("downstream", True, "entries[0]: downstream: not supported here yet"),
        ("federates_with", ["other.org"], "entries[0]: federates_with: not supported here yet"),
        ("x509_svid_ttl", -1, "entries[0]: x509_svid_ttl: expected a number of seconds, found -1"),
        ("expires_at", "soon", "entries[0]: expires_at: expected a number of seconds, found 'soon'"),
        ("parent_id", "/nodes", "entries[0]: parent_id: expected an object of trust_domain and path"),
        ("surprise", 1, "entries[0]: surprise: unknown field of a SPIRE entry"),
    ],
)
def test_what_no_entry_of_ours_can_say_is_refused_by_its_name(
    world: World, tmp_path: Path, field: str, value: object, found: str
) -> None:
    document = {"entries": [SPIRE["entries"][0] | {field: value}]}  # type: ignore[operator]  # a list of objects, as above
    (tmp_path / "spire.json").write_text(json.dumps(document))
    done = world.run("entry", "create", f"--from={tmp_path}/spire.json")
    assert done.returncode == 1
    assert found in done.stderr
