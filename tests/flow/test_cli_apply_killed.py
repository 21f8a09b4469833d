"""A long file of entries whose issuer is killed while it carries it out: the same command goes on with the rest."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.rig.daemons import Daemon
from cognomen.cli.admin import connect
from cognomen.wire.pb import admin_pb2 as pb
from tests.flow.commandline import NODE

COUNT = 2500  # five slices


def test_a_file_whose_issuer_was_killed_is_finished_by_the_same_command(tmp_path: Path) -> None:
    socket = tmp_path / "admin" / "s"
    arguments = ["issuer", "run", "--trust-domain", "example.org", "--state", f"{tmp_path}/state"]
    arguments += ["--admin-socket", str(socket), "--node-address", "127.0.0.1:0", "--join-address", "127.0.0.1:0"]
    file = tmp_path / "entries.json"
    entries = [{"spiffe_id": f"/a{n}", "parent_id": NODE, "selectors": [f"unix:uid:{n}"]} for n in range(COUNT)]
    file.write_text(json.dumps({"entries": entries}))
    command = [sys.executable, "-m", "cognomen", "entry", "apply", str(file)]
    environment = {**os.environ, "COGNOMEN_ADMIN_SOCKET": str(socket)}

    def ended() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    with Daemon(arguments, log=tmp_path / "log", ready="COGNOMEN_ADMIN_SOCKET=") as issuer:
        applied = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        with connect(socket) as admin:
            while not admin.list_entries(pb.ListEntriesRequest(page_size=1)).entries:
                assert applied.poll() is None
        issuer.kill()
        _, said = applied.communicate(timeout=60)
    assert applied.returncode == 0 or "the same command goes on with the rest" in said
    with Daemon(arguments, log=tmp_path / "log2", ready="COGNOMEN_ADMIN_SOCKET="):
        assert ended().returncode == 0
        again = ended()
        assert (again.returncode, again.stdout.splitlines()[-1]) == (0, f"nothing to do: {COUNT} unchanged")
