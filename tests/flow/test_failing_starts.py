"""A start that fails before anything was decided leaves no state behind, and `check` refuses what `run` would refuse for its adapters."""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

import attestor.main
import issuer.main
from attestor.config import AttestorConfig
from cognomen.cli.main import run
from cognomen.daemon.systemd import Systemd
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from issuer.config import IssuerConfig
from svid.bundle import Bundle
from svid.spiffeid import TrustDomain
from tests.doubles.installed import install

TD = TrustDomain("example.org")
SECONDS = 20
INVITE = Invite(
    trust_domain=TD,
    join_address="127.0.0.1:1",
    node_address="127.0.0.1:2",
    token="t" * 43,
    bundle=Bundle(trust_domain=TD),
)
DOUBLES = {
    "cognomen.issuer.upstream_authorities": {"broken": "tests.doubles.upstream:BROKEN_PLUGIN"},
    "cognomen.attestor.node_attestors": {"hardware_key": "tests.doubles.hardwarekey:NODE_PLUGIN"},
}


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "site", DOUBLES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A start that is refused.

    Args:
        keys: of the configuration; {} stands for the directory.
        prepare: what is made in the directory before.
        detail: a part of the refusal.
    """

    keys: dict[str, object]
    detail: str
    prepare: Callable[[Path], object] = lambda _: None
    invite: Invite | None = INVITE


def configured(keys: dict[str, object], directory: Path) -> dict[str, object]:
    """The keys with {} replaced, and texts that name paths as paths."""
    found = {
        key: value.replace("{}", str(directory)) if isinstance(value, str) else value for key, value in keys.items()
    }
    return {key: Path(str(value)) if key.endswith("_socket") else value for key, value in found.items()}


def readable_directory(directory: Path) -> None:
    (directory / "admin").mkdir(mode=0o755)


def open_directory(directory: Path) -> None:
    (directory / "open").mkdir()
    (directory / "open").chmod(0o777)


def a_file(directory: Path) -> None:
    (directory / "file").write_text("precious")


def a_file_for_a_socket(directory: Path) -> None:
    (directory / "admin").mkdir(mode=0o700)
    (directory / "admin" / "s").write_text("precious")


ISSUER = [
    Start(keys={"node_attestors": "join_token,other"}, detail="node_attestors: expected one of"),
    Start(keys={"upstream_authority": "broken"}, detail="upstream_authority: broken cannot be made"),
    Start(keys={"plugins": {"key_manager": {"x": {}}}}, detail="plugins.key_manager.x: expected settings of disk"),
    Start(keys={"audit_checkpoint_file": "~no-such-user/c"}, detail="expected a home directory, found none"),
    Start(keys={}, prepare=readable_directory, detail="expected no access for group and others, found mode 0755"),
    Start(keys={"admin_socket": "{}/open/a/s"}, prepare=open_directory, detail="found mode 0777"),
    Start(keys={"admin_socket": "{}/file/a/s"}, prepare=a_file, detail="not a directory"),
    Start(keys={}, prepare=a_file_for_a_socket, detail="is not a socket"),
    Start(keys={"admin_socket": f"{{}}/admin/{'s' * 108}"}, detail="path too long"),
    Start(
        keys={"node_address": "no-such-host.invalid:1"}, detail="node_address: the name no-such-host.invalid is unknown"
    ),
    Start(keys={"join_address": "192.0.2.1:0"}, detail="join_address"),
]
ATTESTOR = [
    Start(keys={}, invite=None, detail="it has never joined, and there is no invite"),
    Start(keys={"node_attestor": "other"}, detail="node_attestor: expected one of"),
    Start(
        keys={
            "node_attestor": "hardware_key",
            "plugins": {"node_attestor": {"hardware_key": {"machine": "m", "key_file": "/none"}}},
        },
        detail="node_attestor: hardware_key cannot be made: FileNotFoundError",
    ),
    Start(
        keys={"plugins": {"node_attestor": {"x": {}}}},
        detail="plugins.node_attestor.x: expected settings of join_token",
    ),
    Start(
        keys={},
        invite=replace(INVITE, trust_domain=TrustDomain("other.org")),
        detail="invite: expected the trust domain",
    ),
    Start(keys={"workload_socket": "{}/open/s"}, prepare=open_directory, detail="found mode 0777"),
    Start(keys={"workload_socket": "{}/open/a/s"}, prepare=open_directory, detail="found mode 0777"),
    Start(keys={"workload_socket": "{}/file/s"}, prepare=a_file, detail="Not a directory"),
    Start(keys={"workload_socket": f"{{}}/run/{'s' * 108}"}, detail="path too long"),
]


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def attempt(start: Start, directory: Path, daemon: str, systemd: Systemd | None) -> None:
    keys = configured(start.keys, directory)
    async with asyncio.timeout(SECONDS):
        if daemon == "issuer":
            issuer_config = msgspec.structs.replace(issuer_of(directory), **keys)
            await issuer.main.run(issuer_config, stop=asyncio.Event(), systemd=systemd)
        else:
            attestor_config = msgspec.structs.replace(attestor_of(directory), **keys)
            await attestor.main.run(attestor_config, invite=start.invite, stop=asyncio.Event(), systemd=systemd)


async def refused_by(start: Start, directory: Path, daemon: str, *, systemd: Systemd | None = None) -> Refused:
    """Start the daemon, which refuses, and must leave the directory as it was."""
    start.prepare(directory)
    before = names_in(directory)
    with pytest.raises(Refused) as refused:
        await attempt(start, directory, daemon, systemd)
    assert names_in(directory) == before
    return refused.value


def issuer_of(directory: Path) -> IssuerConfig:
    return IssuerConfig(
        trust_domain=TD,
        state_dir=directory / "state",
        admin_socket=directory / "admin" / "s",
        node_address="127.0.0.1:0",
        join_address="127.0.0.1:0",
        disk_reserve_mib=1,
    )


def attestor_of(directory: Path) -> AttestorConfig:
    return AttestorConfig(trust_domain=TD, state_dir=directory / "state", workload_socket=directory / "run" / "s")


@pytest.mark.parametrize("start", ISSUER, ids=lambda start: start.detail)
async def test_an_issuer_that_cannot_start_leaves_nothing_behind(start: Start, tmp_path: Path) -> None:
    assert start.detail in (await refused_by(start, tmp_path, "issuer")).detail


@pytest.mark.parametrize("start", ATTESTOR, ids=lambda start: start.detail)
async def test_an_attestor_that_cannot_start_leaves_nothing_behind(start: Start, tmp_path: Path) -> None:
    assert start.detail in (await refused_by(start, tmp_path, "attestor")).detail


@pytest.mark.parametrize("daemon", ["issuer", "attestor"])
async def test_a_socket_of_systemd_that_nobody_serves_is_refused_before_anything_is_made(
    daemon: str, tmp_path: Path
) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as held:
        systemd = Systemd(sockets={f"{tmp_path}/elsewhere": held})
        refused = await refused_by(Start(keys={}, detail=""), tmp_path, daemon, systemd=systemd)
    assert "handed over by systemd, but not named in the configuration" in refused.detail


@pytest.mark.parametrize("mode", [0o660, 0o666])
async def test_a_socket_of_systemd_that_others_may_use_is_refused_before_anything_is_made(
    mode: int, tmp_path: Path
) -> None:
    config = issuer_of(tmp_path)
    config.admin_socket.parent.mkdir(mode=0o700)
    with closing(socket.socket(socket.AF_UNIX)) as held:
        held.bind(os.fspath(config.admin_socket))
        config.admin_socket.chmod(mode)
        systemd = Systemd(sockets={str(config.admin_socket): held})
        refused = await refused_by(Start(keys={}, detail=""), tmp_path, "issuer", systemd=systemd)
    assert f"has {mode:04o}" in refused.detail


async def test_an_empty_state_directory_stays_empty(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    refused = await refused_by(Start(keys={}, detail="", invite=None), tmp_path, "attestor")
    assert refused.kind is Kind.NOT_FOUND
    assert names_in(tmp_path / "state") == []


@pytest.mark.parametrize(
    ("daemon", "text", "detail"),
    [
        ("issuer", 'upstream_authority = "broken"', "upstream_authority: broken cannot be made"),
        ("issuer", 'audit_checkpoint_file = "~no-such-user/c"', "expected a home directory, found none"),
        (
            "issuer",
            "[plugins.upstream_authority.broken]",
            "plugins.upstream_authority.broken: expected settings of self_signed",
        ),
        (
            "attestor",
            "[plugins.node_attestor.hardware_key]",
            "plugins.node_attestor.hardware_key: expected settings of join_token",
        ),
    ],
)
def test_check_refuses_what_run_refuses(
    daemon: str, text: str, detail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text(f'trust_domain = "example.org"\n{text}\n')
    assert run([daemon, "check", f"--config={tmp_path}/c.toml"]) == 1
    assert detail in capsys.readouterr().err


def test_check_of_an_attestor_with_an_invite_makes_its_node_attestor_and_reads_the_invite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "invite").write_text(str(replace(INVITE, bundle=Bundle(trust_domain=TD))))
    (tmp_path / "invite").chmod(0o600)
    (tmp_path / "c.toml").write_text(
        f'node_attestor = "hardware_key"\n[plugins.node_attestor.hardware_key]\nmachine = "m"\nkey_file = "{tmp_path}/none"\n'
    )
    arguments = ["attestor", "check", f"--config={tmp_path}/c.toml"]
    assert run(arguments) == 0
    assert run([*arguments, f"--invite={tmp_path}/invite"]) == 1
    said = capsys.readouterr().err
    assert "node_attestor: hardware_key cannot be made: FileNotFoundError" in said
    assert "hint: see its settings, plugins.node_attestor.hardware_key in the configuration" in said
    assert run(["attestor", "check", "--trust-domain=other.org", f"--invite={tmp_path}/invite"])
    assert "invite: expected the trust domain" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["table", "json"])
def test_check_shows_the_keys_of_plugins_settings_and_no_values(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text(
        'node_attestor = "hardware_key"\n[plugins.node_attestor.hardware_key]\nmachine = "secret-1"\nkey_file = "/secret-2"\n'
    )
    assert run(["attestor", "check", f"--config={tmp_path}/c.toml", f"--output={output}"]) == 0
    said = capsys.readouterr().out
    assert "plugins.node_attestor.hardware_key" in said
    assert "machine, key_file" in said
    assert "secret-" not in said
