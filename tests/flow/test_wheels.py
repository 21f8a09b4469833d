"""Both wheels: built without a network, installed side by side into a fresh environment, used from there."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from bench.rig.daemons import Dev
from tests.doubles.project import ROOT

SECONDS = 20


def run(*command: str | Path, directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(project: Path, target: str, into: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", into, directory=project)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The daemons' wheel, and the SDK's: the latter by way of its source distribution."""
    directory = tmp_path_factory.mktemp("dist")
    archive = build(ROOT / "packaging" / "svid", "sdist", directory / "sdist")
    (directory / "source").mkdir()
    run("tar", "-xzf", archive, directory=directory / "source")
    (unpacked,) = (directory / "source").iterdir()
    return build(ROOT, "wheel", directory / "cognomen"), build(unpacked, "wheel", directory / "svid")


@pytest.fixture(scope="module")
def python(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with both wheels."""
    return environment(tmp_path_factory.mktemp("venv"), *wheels)


def environment(directory: Path, *wheels: Path) -> Path:
    """Make an environment with these wheels; what they need comes from the one that runs the tests."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(directory)
    found = directory / "bin" / "python"
    (packages,) = directory.glob("lib/python3.*/site-packages")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", found, "--disable-pip-version-check", "--quiet"]
    run(*pip, "install", "--no-index", "--no-deps", "--no-compile", *wheels, directory=directory)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return found


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_make_wheels_writes_both(tmp_path: Path) -> None:
    """What the Makefile says, with the environment that runs the tests."""
    recipe = (ROOT / "Makefile").read_text().partition("\nwheels:")[2].partition("\n\n")[0].splitlines()[1:]
    said = "\n".join(recipe).replace("$(CURDIR)/dist", str(tmp_path)).replace("rm -rf dist", "")
    said = said.replace("$(CURDIR)/$(BIN)/python", sys.executable).replace("$(BIN)/python", sys.executable)
    run("sh", "-euc", said, directory=ROOT)
    assert {path.name for path in tmp_path.iterdir()} == {
        "cognomen-0.1.0-py3-none-any.whl",
        "svid-0.1.0-py3-none-any.whl",
    }


def test_no_file_is_in_both_wheels(wheels: tuple[Path, Path]) -> None:
    daemons, sdk = (names(wheel) for wheel in wheels)
    assert not daemons & sdk
    assert {name.partition("/")[0] for name in sdk} == {"svid", "svid-0.1.0.dist-info"}
    assert {name.partition("/")[0] for name in daemons} == {
        "attestor",
        "cognomen",
        "issuer",
        "cognomen-0.1.0.dist-info",
    }


def test_the_sdk_is_whole_typed_and_licensed(wheels: tuple[Path, Path]) -> None:
    sdk = names(wheels[1])
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "svid").rglob("*.py*") if path.suffix != ".pyc"}
    assert ours - {"svid/py.typed"} <= sdk
    assert {"svid/py.typed", "svid-0.1.0.dist-info/licenses/LICENSE"} <= sdk


def test_nothing_but_python_and_the_demos_rules_is_shipped(wheels: tuple[Path, Path]) -> None:
    rules = {f"cognomen/demo/rules/{name}.toml" for name in ("archive", "concierge")}
    assert rules <= set(names(wheels[0])) | set(names(wheels[1]))
    for wheel in wheels:
        code = {name for name in names(wheel) if ".dist-info/" not in name} - rules
        assert {Path(name).suffix for name in code} <= {".py", ".pyi", ".typed", ".sql"}


def test_the_sdk_is_imported_from_its_wheel_and_an_id_costs_no_grpc(python: Path, tmp_path: Path) -> None:
    code = (
        "import svid, sys; svid.SpiffeID.parse('spiffe://example.org/a'); print(svid.__file__, 'grpc' in sys.modules)"
    )
    file, has_grpc = run(python, "-c", code, directory=tmp_path).split()
    assert Path(file).is_relative_to(python.parents[1])
    assert has_grpc == "False"


def test_every_public_name_works_from_the_wheel(python: Path, tmp_path: Path) -> None:
    code = "import svid; print(len([getattr(svid, name) for name in svid.__all__]) == len(svid.__all__))"
    assert run(python, "-c", code, directory=tmp_path).strip() == "True"


def test_the_command_is_installed_with_the_daemons(python: Path, tmp_path: Path) -> None:
    assert "0.1.0" in run(python.parent / "cognomen", "--version", directory=tmp_path)


MTLS = """
import asyncio, importlib.util, ssl
from svid import TrustDomain, X509Source, any_in, client_context, peer_id, server_context

async def main():
    everybody = any_in(TrustDomain("example.org"))
    with X509Source() as source:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context(source, everybody))
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(source, everybody))
        print((await reader.read()).decode())
        writer.close()
        server.close()

async def answer(reader, writer):
    writer.write(str(peer_id(writer.get_extra_info("ssl_object"))).encode())
    writer.close()

asyncio.run(main())
print([name for name in ("cognomen", "issuer", "attestor") if importlib.util.find_spec(name)])
"""


def test_the_sdk_alone_does_mtls_and_brings_no_daemons(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", wheels[1])
    with Dev(tmp_path) as dev:
        command: list[str | Path] = ["env", f"SPIFFE_ENDPOINT_SOCKET=unix://{dev.socket}", python, "-c", MTLS]
        assert run(*command, directory=tmp_path).splitlines() == ["spiffe://example.org/dev/self", "[]"]


@pytest.mark.parametrize("module", ["svid.errors", "cognomen.protocol.errors", "issuer.main", "attestor.main"])
def test_the_development_environment_uses_this_tree_and_no_copy(module: str, tmp_path: Path) -> None:
    code = f"import importlib.util; print(importlib.util.find_spec({module!r}).origin)"
    file = run(sys.executable, "-c", code, directory=tmp_path)
    assert file.strip() == str(ROOT / f"{module.replace('.', '/')}.py")
