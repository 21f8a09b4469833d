"""Who used an identity: what a program is given reaches the record of an issuer in another process, and an auditor reads it."""

import os
import sys
from collections.abc import Iterator

import msgspec
import pytest

from cognomen.cli.main import run
from svid.workloadapi.client import WorkloadAPIClient
from tests.flow.twodaemons import World

PROGRAM = os.path.realpath(sys.executable)


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


class Auditor:
    """Types commands for the issuer, in this process: that is faster."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        return (code, *self._capsys.readouterr())

    def command(self, *arguments: str) -> dict[str, object]:
        code, shown, told = self.run(*arguments, "--output=json")
        assert code == 0, told
        return msgspec.json.decode(shown, type=dict[str, object])

    def issued(self) -> Row:
        """The X509-SVID of /web."""
        (found,) = rows(self.command("svid", "list", "--kind=x509", "--spiffe-id=/web"), "credentials")
        return found


@pytest.fixture
def auditor(world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Auditor:
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(world.admin))
    return Auditor(world, capsys)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An issuer, and an attestor that has given this process both kinds of SVIDs of /web and has stopped since."""
    world = World(tmp_path_factory.mktemp("uses"))
    with world.issuer:
        with world.joined(), WorkloadAPIClient(f"unix://{world.workload}") as client:
            client.fetch_x509_context()
            client.fetch_jwt_svids(["db"])
        yield world


def test_a_credential_is_shown_with_the_programs_that_used_it(auditor: Auditor) -> None:
    first = auditor.issued()
    (use,) = rows(auditor.command("svid", "show", first.serial), "uses")
    assert (use.uid, use.gid, use.pid, use.processes) == (os.getuid(), os.getgid(), os.getpid(), 1)
    assert use.executable == PROGRAM
    assert use.started > 0
    assert (use.x509, use.jwt) == (True, True)
    assert (use.entry_id, use.node_id) == (first.entry_id, first.node_id)
    assert first.issued_at[:10] == use.first_at[:10]
    text = auditor.run("svid", "show", first.serial)[1]
    assert f"{os.getpid()}" in text
    assert "X.509, JWT" in text


def test_who_held_it_then_is_shown_with_the_programs_that_used_it(auditor: Auditor) -> None:
    moment = auditor.issued().issued_at
    shown = auditor.command("audit", "who", "--spiffe-id=/web", f"--at={moment}")
    assert [one.entry_id for one in rows(shown, "credentials")] == [auditor.issued().entry_id]
    assert [use.pid for use in rows(shown, "uses")] == [os.getpid()]
    text = auditor.run("audit", "who", "--spiffe-id=/web", f"--at={moment}")[1]
    assert PROGRAM in text.partition("\n\n")[2]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--below=/web", "--since=2020-01-01T00:00:00Z"], 2),
        (["--owner=", "--since=2020-01-01T00:00:00Z"], 2),
        (["--owner=", "--spiffe-id=/web", "--since=2020-01-01T00:00:00Z"], 2),
        (["--below=/web", "--since=2020-01-01T00:00:00Z", "--until=2020-01-02T00:00:00Z"], 0),
    ],
)
def test_who_is_asked_by_what_is_above_by_owner_and_by_a_time(auditor: Auditor, options: list[str], count: int) -> None:
    shown = auditor.command("audit", "who", *options)
    assert sum(bool(one.entry_id) for one in rows(shown, "credentials")) == count
    assert len(rows(shown, "uses")) == bool(count)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--below=/we", "--since=2020-01-01T00:00:00Z"], 4),
        (["--owner=ann", "--since=2020-01-01T00:00:00Z"], 4),
        (["--below=/web", "--since=2099-01-01T00:00:00Z", "--until=2099-01-02T00:00:00Z"], 2),
    ],
)
def test_whom_nobody_can_name_is_refused_and_not_nobody(auditor: Auditor, options: list[str], code: int) -> None:
    assert auditor.run("audit", "who", *options)[:2] == (code, "")


@pytest.mark.parametrize(
    "options",
    [
        ["--at=2026-01-01T00:00:00Z"],
        ["--spiffe-id=/a", "--below=/a", "--at=2026-01-01T00:00:00Z"],
        ["--spiffe-id=/a"],
        ["--spiffe-id=/a", "--at=2026-01-01T00:00:00Z", "--since=2026-01-01T00:00:00Z"],
        ["--spiffe-id=/a", "--until=2026-01-01T00:00:00Z"],
    ],
)
def test_who_needs_a_name_and_a_time(auditor: Auditor, options: list[str]) -> None:
    code, _, told = auditor.run("audit", "who", *options)
    assert code == 2
    assert "expected" in told


def test_an_auditor_learns_since_when_uses_are_known(auditor: Auditor) -> None:
    assert "uses are recorded since" in auditor.run("entry", "list", "--unused-for=30d")[2]


def test_entries_that_were_used_are_told_from_those_that_were_not(auditor: Auditor) -> None:
    auditor.world.entry("/idle", "/nodes", "unix:uid:4242")
    assert paths(auditor.command("entry", "list")) == {"/idle": False, "/nodes": False, "/web": True}
    assert paths(auditor.command("entry", "list", "--unused-for=0s")) == {"/idle": False, "/web": True}
    assert paths(auditor.command("entry", "list", "--unused-for=30d")) == {}


def test_an_entry_list_can_be_written_back(auditor: Auditor) -> None:
    file = auditor.world.directory / "entries.json"
    file.write_text(auditor.run("entry", "list", "--below=/web", "--output=json")[1])
    auditor.command("entry", "update", f"--from={file}")


def test_what_was_not_used_for_longer_than_uses_are_kept_is_not_known(auditor: Auditor) -> None:
    code, _, told = auditor.run("entry", "list", "--unused-for=91d")
    assert code == 1
    assert "unused_for: expected at most 90d, for which uses are kept, found 91d" in told


def paths(document: dict[str, object]) -> dict[str, bool]:
    """Of each entry, whether it was used."""
    found = msgspec.convert(document["entries"], list[dict[str, object]])
    return {str(one["spiffe_id"]).removeprefix("spiffe://example.org"): one["last_used"] is not None for one in found}
