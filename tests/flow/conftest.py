"""What tests of the command share: an issuer for all tests of a file, and a way to type commands for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cognomen.cli.main import run
from tests.flow.commandline import Command, Done, issuer_at, socket_at


@pytest.fixture(scope="module")
def admin_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The admin socket of an issuer; a file whose tests need more than an issuer has a fixture of this name of its own."""
    directory = tmp_path_factory.mktemp("i")
    with issuer_at(directory):
        yield socket_at(directory)


@pytest.fixture
def command(admin_socket: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Types commands for that issuer."""
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(admin_socket))

    def call(*arguments: str) -> Done:
        code = run(arguments)
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture
def node(command: Command) -> str:
    """The id of the only node, where there is one."""
    (found,) = command("node", "list", "-o", "json").rows("nodes")
    return str(found["id"])


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """A path that no other test uses."""
    return f"/test/{abs(hash(request.node.nodeid))}"
