"""A start that waits for somebody else ends promptly when it is asked to, and leaves a state with which the next start goes on."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

import issuer.main
from bench.rig.child import running
from bench.rig.daemons import COGNOMEN
from tests.doubles.installed import install
from tests.doubles.project import ROOT
from tests.doubles.until import until
from tests.flow.liveissuer import LiveIssuer

SECONDS = 10  # less than the 20 that an upstream authority may take
DOUBLES = {"cognomen.issuer.upstream_authorities": {"silent": "tests.doubles.upstream:SILENT_PLUGIN"}}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_an_issuer_whose_upstream_authority_does_not_answer(
    number: signal.Signals, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    os.mkfifo(asked)
    (tmp_path / "c.toml").write_text(
        f'upstream_authority = "silent"\nplugins.upstream_authority.silent.asked = "{asked}"\ndisk_reserve_mib = 1\n'
    )
    environment = {**os.environ, "PYTHONPATH": f"{install(tmp_path / 'site', DOUBLES)}{os.pathsep}{ROOT}"}
    arguments = [
        *(*COGNOMEN, "issuer", "run", "--trust-domain=example.org", f"--config={tmp_path}/c.toml"),
        *(f"--state={tmp_path}/state", f"--admin-socket={tmp_path}/admin/s"),
        *("--node-address=127.0.0.1:0", "--join-address=127.0.0.1:0"),
    ]
    with running(arguments, tmp_path / "log", environment) as child:
        asked.read_text()  # until the upstream authority is asked
        child.send_signal(number)
        try:
            code = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail((tmp_path / "log").read_text())
    log = (tmp_path / "log").read_text()
    assert (code, "issuer stopped before it had started" in log) == (0, True), log
    assert "Traceback" not in log
    assert not (tmp_path / "admin").exists()


async def test_an_issuer_that_was_stopped_while_it_started_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "site", DOUBLES))
    live, asked, stop = LiveIssuer(tmp_path), tmp_path / "asked", asyncio.Event()
    silent = msgspec.structs.replace(
        live.config, upstream_authority="silent", plugins={"upstream_authority": {"silent": {"asked": str(asked)}}}
    )
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(issuer.main.run(silent, stop=stop))
        await until(asked.exists)
        stop.set()
    async with live.running() as again:
        await again.invite()
