"""What stands in deploy/: configurations that name every key and its default, units whose paths are those of the daemons."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from attestor.config import AttestorConfig
from cognomen.cli.bundle import export
from cognomen.daemon.config import is_table, load
from issuer.config import IssuerConfig
from svid.spiffeid import TrustDomain
from tests.doubles.project import ROOT

DEPLOY = ROOT / "deploy"


@pytest.mark.parametrize(
    ("name", "kind", "defaults"),
    [
        ("issuer.toml", IssuerConfig, IssuerConfig(trust_domain=TrustDomain("example.org"))),
        ("attestor.toml", AttestorConfig, AttestorConfig(trust_domain=TrustDomain("example.org"))),
    ],
)
def test_the_example_with_every_key_uncommented_is_the_default(
    name: str, kind: type[msgspec.Struct], defaults: msgspec.Struct, tmp_path: Path
) -> None:
    text = re.sub(r"^# (?=[a-z0-9_]+ = )", "", (DEPLOY / name).read_text(), flags=re.MULTILINE)
    (tmp_path / name).write_text(text)
    assert load(tmp_path / name, kind, {}) == defaults
    assert set(re.findall(r"^([a-z0-9_]+) = ", text, flags=re.MULTILINE)) == set(kind.__struct_fields__)


@pytest.mark.parametrize(("name", "kind"), [("issuer.toml", IssuerConfig), ("attestor.toml", AttestorConfig)])
def test_the_keys_that_hold_tables_come_last_in_an_example(name: str, kind: type[msgspec.Struct]) -> None:
    keys = re.findall(r"^(?:# )?([a-z0-9_]+) = ", (DEPLOY / name).read_text(), flags=re.MULTILINE)
    tables = {field.name for field in msgspec.structs.fields(kind) if is_table(field.type)}
    with_tables = tables & {"plugins", "providers"}
    assert with_tables
    assert set(keys[-len(with_tables) :]) == with_tables


def test_the_issuer_s_example_loads_as_it_stands() -> None:
    assert load(DEPLOY / "issuer.toml", IssuerConfig, {}).trust_domain == TrustDomain("example.org")


@pytest.mark.parametrize(
    ("daemon", "socket", "mode"),
    [
        ("issuer", IssuerConfig(trust_domain=TrustDomain("example.org")).admin_socket, "0600"),
        ("attestor", AttestorConfig().workload_socket, "0666"),
    ],
)
def test_a_socket_unit_holds_the_socket_that_the_daemon_serves(daemon: str, socket: Path, mode: str) -> None:
    unit = _unit(f"cognomen-{daemon}.socket")["Socket"]
    assert (unit["ListenStream"], unit["SocketMode"]) == (str(socket), mode)
    service = _unit(f"cognomen-{daemon}.service")
    assert service["Service"]["Type"] == "notify"
    assert (
        service["Service"]["ExecStart"]
        == f"/opt/cognomen/bin/cognomen {daemon} run --config /etc/cognomen/{daemon}.toml"
    )
    assert service["Unit"]["Requires"] == f"cognomen-{daemon}.socket"


@pytest.mark.parametrize(
    ("daemon", "state"),
    [
        ("issuer", IssuerConfig(trust_domain=TrustDomain("example.org")).state_dir),
        ("attestor", AttestorConfig().state_dir),
    ],
)
def test_a_service_has_the_state_directory_that_the_daemon_uses_and_no_parent_of_it(daemon: str, state: Path) -> None:
    service = _unit(f"cognomen-{daemon}.service")["Service"]
    assert (f"/var/lib/{service['StateDirectory']}", service["StateDirectoryMode"]) == (str(state), "0700")


@pytest.mark.parametrize("daemon", ["issuer", "attestor"])
def test_no_service_is_kept_from_seeing_its_callers(daemon: str) -> None:
    assert not {"PrivateUsers", "ProtectProc", "PrivatePIDs"} & set(_unit(f"cognomen-{daemon}.service")["Service"])


@pytest.mark.parametrize("daemon", ["issuer", "attestor"])
def test_no_service_gives_up_or_takes_its_socket_away(daemon: str) -> None:
    unit = _unit(f"cognomen-{daemon}.service")
    assert (unit["Service"]["Restart"], unit["Unit"]["StartLimitIntervalSec"]) == ("always", "0")
    assert "RuntimeDirectory" not in unit["Service"]


def test_the_unit_of_an_export_runs_what_the_command_takes_as_the_user_of_the_admin_socket() -> None:
    service = _unit("cognomen-export@.service")["Service"]
    program, *arguments = service["ExecStart"].replace("/etc/cognomen/export-%i", "/bin/true").split()
    assert (program, arguments[:2]) == ("/opt/cognomen/bin/cognomen", ["bundle", "export"])
    asked = export.make_context("export", [one.replace("%i", "openai") for one in arguments[2:]]).params
    assert (asked["name"], asked["watch"], asked["command"]) == ("openai", True, ("/bin/true",))
    assert service["User"] == _unit("cognomen-issuer.service")["Service"]["User"]


def test_only_the_attestor_may_look_at_processes_of_others() -> None:
    issuer, attestor = (_unit(f"cognomen-{daemon}.service")["Service"] for daemon in ("issuer", "attestor"))
    assert issuer["CapabilityBoundingSet"] == ""
    assert attestor["CapabilityBoundingSet"] == attestor["AmbientCapabilities"] == "CAP_SYS_PTRACE"
    assert attestor["ProtectHome"] == "read-only", "an executable that is hidden from it has no unix:path"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for unit in DEPLOY.glob("cognomen-*.*"):
        text = unit.read_text().replace("/opt/cognomen/bin/cognomen", sys.executable)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "cognomen-" in line]
    assert not ours


def _unit(name: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    unit.read(DEPLOY / name)
    return unit
