"""Who used an identity: what a program is given reaches the record of an issuer in another process, and an auditor reads it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from svid.workloadapi.client import WorkloadAPIClient
from tests.flow.twodaemons import World


class Row(msgspec.Struct):
    """A credential or a use, as far as the tests look."""

    entry_id: str
    node_id: str
    serial: str = ""
    issued_at: str = ""
    first_at: str = ""
    last_at: str = ""
    uid: int = -1
    gid: int = -1
    pid: int = -1
    started: int = -1
    processes: int = -1
    executable: str = ""
    x509: bool = False
    jwt: bool = False


def rows(document: dict[str, object], key: str) -> list[Row]:
    return msgspec.convert(document[key], list[Row])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An issuer, and an attestor that has given this process both kinds of SVIDs of /web and has stopped since."""
    world = World(tmp_path)
    with world.issuer:
        with world.joined(), WorkloadAPIClient(f"unix://{world.workload}") as client:
            client.fetch_x509_context()
            client.fetch_jwt_svids(["db"])
        yield world


def test_a_credential_is_shown_with_the_programs_that_used_it(world: World) -> None:
    (first,) = rows(world.command("svid", "list", "--kind=x509", "--spiffe-id=/web"), "credentials")
    (use,) = rows(world.command("svid", "show", first.serial), "uses")
    assert (use.uid, use.gid, use.pid, use.processes) == (os.getuid(), os.getgid(), os.getpid(), 1)
    assert use.executable == os.path.realpath(sys.executable)
    assert use.started > 0
    assert (use.x509, use.jwt) == (True, True)
    assert (use.entry_id, use.node_id) == (first.entry_id, first.node_id)
    assert first.issued_at[:10] == use.first_at[:10]
    text = world.run("svid", "show", first.serial).stdout
    assert f"{os.getpid()}" in text
    assert "X.509, JWT" in text
