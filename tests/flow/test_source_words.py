"""What a source, a client and the command say while nobody answers: what is waited for, what is wrong, what to do."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cognomen.cli.main import run
from svid.errors import WorkloadAPIError
from svid.workloadapi import client
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.reach import NO_ATTESTOR, explained, is_nobodys_answer
from svid.workloadapi.sources import JWTSource, X509Source

LONG, SHORT = timedelta(seconds=1.3), timedelta(seconds=0.3)
STUCK = "is the attestor stopped or stuck? to check it: cognomen attestor healthcheck"


@pytest.fixture
def absent(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """One that was left behind."""
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    return path


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Path]:
    """One whose attestor is stopped: the kernel connects, and nobody says anything."""
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield path


CASES = {
    "absent": ("expected an attestor that listens, found none", NO_ATTESTOR),
    "dead": ("expected an attestor that listens, found connection refused", NO_ATTESTOR),
    "silent": ("no answer within {:g} s", STUCK),
}
SOCKETS = pytest.mark.parametrize("name", CASES)


def words(path: Path, name: str, waited: timedelta) -> str:
    detail, hint = CASES[name]
    return f"workload socket {path}: {detail.format(waited.total_seconds())}; {hint}"


@SOCKETS
@pytest.mark.parametrize("make", [X509Source, JWTSource])
def test_a_source_warns_after_a_second_and_says_in_the_end_what_to_do(
    name: str, make: type[X509Source | JWTSource], request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    path: Path = request.getfixturevalue(name)
    with pytest.raises(WorkloadAPIError) as caught:
        make(f"unix://{path}", timeout=LONG)
    assert str(caught.value) == words(path, name, LONG)
    assert caught.value.code == "UNAVAILABLE"
    (warning,) = [one.getMessage() for one in caplog.records if one.name == "svid.workloadapi.followedsource"]
    assert warning == f"waiting for the Workload API for up to 1.3 s: {words(path, name, timedelta(seconds=1))}"


@pytest.mark.parametrize("make", [X509Source, JWTSource])
def test_it_is_silence_too_once_grpc_itself_has_given_up_a_connection(
    silent: Path, make: type[X509Source | JWTSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so after 20 s, and a source waits for 30."""
    monkeypatch.setattr(client, "_OPTIONS", (*client._OPTIONS, ("grpc.min_reconnect_backoff_ms", 200)))
    with pytest.raises(WorkloadAPIError) as caught:
        make(f"unix://{silent}", timeout=LONG)
    assert isinstance(caught.value.__cause__, WorkloadAPIError)
    assert is_nobodys_answer(caught.value.__cause__), "else this proves nothing"
    assert str(caught.value) == words(silent, "silent", LONG)


def test_what_we_gave_up_ourselves_is_nobodys_answer(silent: Path) -> None:
    with WorkloadAPIClient(f"unix://{silent}") as asking:
        stream = asking.open_x509_contexts()
        asking.reconnect()
        with pytest.raises(WorkloadAPIError) as caught:
            next(iter(stream))
    assert is_nobodys_answer(caught.value)
    told = explained(caught.value, f"unix:{silent}", LONG, is_silent=True)
    assert (str(told), told.code) == (words(silent, "silent", LONG), "UNAVAILABLE")
    assert explained(caught.value, f"unix:{silent}", LONG) is caught.value, "somebody here closed it"


@SOCKETS
async def test_so_does_one_in_asyncio(
    name: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    path: Path = request.getfixturevalue(name)
    with pytest.raises(WorkloadAPIError, match=re.escape(words(path, name, LONG))):
        await X509Source.connect(f"unix://{path}", timeout=LONG)
    assert [one.levelname for one in caplog.records if "waiting for" in one.getMessage()] == ["WARNING"]


@SOCKETS
@pytest.mark.parametrize(
    "ask",
    [
        WorkloadAPIClient.fetch_x509_context,
        WorkloadAPIClient.fetch_jwt_bundles,
        lambda client: client.fetch_jwt_svid("db"),
        lambda client: client.validate_jwt_svid("a.b.c", "db"),
    ],
)
def test_a_call_says_the_same(
    name: str, ask: Callable[[WorkloadAPIClient], object], request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(name)
    with WorkloadAPIClient(f"unix://{path}", timeout=SHORT) as client, pytest.raises(WorkloadAPIError) as caught:
        ask(client)
    assert str(caught.value) == words(path, name, SHORT)


def test_an_error_over_tcp_is_told_as_it_is() -> None:
    """Nothing can be seen from here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        with (
            WorkloadAPIClient(address, timeout=SHORT) as client,
            pytest.raises(WorkloadAPIError, match="the Workload API answered UNAVAILABLE"),
        ):
            client.fetch_x509_context()


@pytest.mark.parametrize("kind", [["x509"], ["jwt", "--audience", "db"], ["bundles"]])
def test_the_command_says_it_of_a_stopped_attestor(
    silent: Path, kind: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fetch", *kind, "--socket", f"unix://{silent}"]) == 3
    said = capsys.readouterr().err
    assert said == f"error: workload socket {silent}: no answer within 10 s\nhint: {STUCK}\n"


def test_the_command_of_the_hint_is_there() -> None:
    subprocess.run(
        [sys.executable, "-m", "cognomen", "attestor", "healthcheck", "--help"],
        check=True,
        capture_output=True,
    )


def test_where_nobody_has_set_up_logging_the_warning_is_on_standard_error(absent: Path) -> None:
    program = (
        "import sys\nfrom datetime import timedelta\nfrom svid import X509Source\n"
        "X509Source(sys.argv[1], timeout=timedelta(seconds=1.2))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, f"unix://{absent}"], capture_output=True, text=True, timeout=30, check=False
    )
    first, *_, last = ran.stderr.splitlines()
    assert first.startswith("waiting for the Workload API for up to 1.2 s: workload socket")
    assert last.endswith(NO_ATTESTOR)
