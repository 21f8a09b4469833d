"""`cognomen revoke` against real daemons, as an operator runs it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.rig.daemons import Dev
from cognomen.cli.main import run
from svid.tls.authorize import exactly
from svid.tls.context import server_context
from svid.workloadapi.sources import X509Source
from tests.flow.commandline import Command, Done
from tests.flow.test_status import following
from tests.flow.twodaemons import World

ME = f"unix:uid:{os.geteuid()}"
UNKNOWN = "f" * 32
NOBODY = "nobody"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("r"), "--entry", f"/dev={ME}") as running:
        yield running


@pytest.fixture(scope="module")
def admin_socket(dev: Dev) -> Path:
    return dev.state / "admin" / "issuer.sock"


@pytest.fixture
def entry(dev: Dev, command: Command, path: str) -> str:
    """The id of an entry of this user's programs with that path, for which an X509-SVID was signed."""
    (node,) = command("node", "list", "--output=json").rows("nodes")
    done = command(
        "entry", "create", f"--spiffe-id={path}", f"--parent={node['spiffe_id']}", f"--selector={ME}",
        f"--selector=unix:gid:{os.getegid()}", "--output=json",
    )  # fmt: skip
    wait_for_svid(dev, path)
    return str(done.rows("entries")[0]["id"])


def wait_for_svid(dev: Dev, path: str) -> None:
    for _ in range(100):  # each takes its time
        if f'"spiffe://example.org{path}"' in dev.command("fetch", "x509", "--output=json"):
            return
    raise AssertionError(f"no SVID came for {path}")


def live(command: Command, path: str) -> list[str]:
    """The serials and jtis of a path that are not revoked."""
    rows = command("svid", "list", f"--spiffe-id={path}", "--live", "--output=json").rows("credentials")
    return [str(row["serial"]) for row in rows]


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"  # noqa: TID251 - the real daemons' clock


def revocation(done: Done) -> dict[str, object]:
    found = done.document["revocation"]
    assert isinstance(found, dict)
    return found


def test_an_svid_ends_by_its_serial_as_openssl_writes_it(command: Command, path: str, entry: str) -> None:
    del entry
    (serial,) = live(command, path)
    written = ":".join(re.findall("..", serial.upper()))
    done = command("revoke", "svid", written, "--reason=keyCompromise", "--comment=käse", "--wait", "--output=json")
    said = revocation(done)
    assert (said["denied"], said["reason"], said["comment"], said["blocks"]) == (1, "keyCompromise", "käse", False)
    assert said["actor"] == f"uid:{os.geteuid()}"
    enforcement = done.document["enforcement"]
    assert isinstance(enforcement, dict)
    assert (enforcement["attestors"], enforcement["enforcing"], enforcement["silent"]) == (1, 1, [])
    assert (enforcement["points"], enforcement["points_enforcing"]) == (0, 0)
    assert enforcement["ends_at"] > now()
    rows = [json.loads(line) for line in command("audit", "tail", "--output=json").out.splitlines()]
    (row,) = [one for one in rows if one["action"] == "revocation enforced"]
    assert (row["subject"], row["facts"]["attestors"], row["facts"]["everywhere"]) == (
        str(said["number"]),
        "1 of 1",
        "yes",
    )
    (fallen,) = done.rows("fallen")
    assert (fallen["spiffe_id"], fallen["kind"], fallen["count"]) == (f"spiffe://example.org{path}", "x509", 1)
    revoked = command("svid", "list", f"--spiffe-id={path}", "--revoked", "--output=json").rows("credentials")
    assert [row["serial"] for row in revoked] == [serial]


def test_the_example_of_the_help_names_what_can_be_revoked(
    command: Command, path: str, entry: str, tmp_path: Path
) -> None:
    del entry
    (serial,) = live(command, path)
    (node,) = command("node", "list", "-o", "json").rows("nodes")
    example = re.search(r"cognomen (svid list --node-id ID .*-o json) ", command("revoke", "svid", "--help").out)
    assert example is not None
    listed = command(*example[1].replace("ID", str(node["id"])).split()).rows("credentials")
    serials = tmp_path / "serials"
    serials.write_text("".join(f"{one['serial']}\n" for one in listed))
    assert serial in serials.read_text()
    assert command("revoke", "svid", f"--from={serials}", "--dry-run").code == 0


def test_serials_are_read_from_a_file(command: Command, path: str, entry: str, tmp_path: Path) -> None:
    del entry
    (serial,) = live(command, path)
    listed = tmp_path / "serials"
    listed.write_text(f"\n  {serial.upper()}\r\n\n")
    assert revocation(command("revoke", "svid", f"--from={listed}", "--output=json"))["denied"] == 1
    again = command("revoke", "svid", f"--from={listed}", "--reason=keyCompromise")
    assert re.fullmatch(
        r"revocation \d+: 0 credentials ended; 1 that had ended before counts as compromised from now on\n", again.err
    )


def test_a_token_ends_by_its_jti(dev: Dev, command: Command, path: str, entry: str) -> None:
    del entry
    dev.command("fetch", "jwt", "--audience=db", f"--spiffe-id=spiffe://example.org{path}")
    listed = command("svid", "list", f"--spiffe-id={path}", "--kind=jwt", "--output=json").rows("credentials")
    jti = str(listed[0]["serial"])
    (fallen,) = command("revoke", "svid", jti, "--output=json").rows("fallen")
    assert (fallen["kind"], fallen["audiences"], fallen["count"]) == ("jwt", ["db"], 1)


def test_what_was_issued_before_a_moment_ends_and_no_more(command: Command, path: str, entry: str) -> None:
    assert live(command, path)
    done = command("revoke", "issued-before", now(), f"--spiffe-id={path}")
    assert done.code == 0
    assert re.fullmatch(r"revocation \d+: [01] credentials? ended\n", done.err), "within one second either is right"
    assert (
        revocation(command("revoke", "issued-before", "2020-01-01T00:00:00Z", f"--entry={entry}", "-ojson"))["denied"]
        == 0
    )


def test_an_entry_is_ended_and_blocked_until_it_is_lifted_once(
    dev: Dev, command: Command, path: str, entry: str
) -> None:
    done = command("revoke", "entry", entry, "--comment=task ended", "--wait=20s")
    assert done.code == 0
    (number,) = re.findall(
        r"^revocation (\d+): 1 credential ended, and nothing more is signed until it is lifted\n", done.err
    )
    told = (
        r"^1 of 1 attestors and 0 of 0 enforcement points enforce it, \d+ ms after the revocation"
        r"(; among the last: attestor of node .*)?$"
    )
    assert re.search(told, done.err, re.MULTILINE)
    assert path in done.out
    shown = command("revoke", "show", number)
    assert re.search(r"^attestors +1 of 1 enforce it$", shown.out, re.MULTILINE)
    assert re.search(r"^points +0 of 0 enforcement points enforce it$", shown.out, re.MULTILINE)
    assert re.search(rf"^what +{entry}$", shown.out, re.MULTILINE)
    assert live(command, path) == []
    lifted = command("revoke", "lift", number, "--output=json")
    assert (revocation(lifted)["blocks"], revocation(lifted)["lifted_by"]) == (False, f"uid:{os.geteuid()}")
    wait_for_svid(dev, path)
    again = command("revoke", "lift", number)
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith("error: number: expected a block in force, found one that uid:")


def test_a_spiffe_id_and_all_below_it_are_ended(command: Command, path: str, entry: str) -> None:
    del entry
    done = command("revoke", "spiffe-id", path.rpartition("/")[0], "--below", "--dry-run", "--output=json")
    assert f"spiffe://example.org{path}" in {row["spiffe_id"] for row in done.rows("fallen")}
    assert revocation(done)["number"] == 0
    done = command("revoke", "spiffe-id", path, "--below", "--output=json")
    assert [row["spiffe_id"] for row in done.rows("fallen")] == [f"spiffe://example.org{path}"]
    assert (revocation(done)["denied"], revocation(done)["blocks"]) == (1, True)


def test_a_selector_is_ended(command: Command) -> None:
    done = command("revoke", "selector", "unix:path:/opt/nobody", "--output=json")
    assert (revocation(done)["denied"], done.rows("fallen")) == (0, [])
    command("revoke", "lift", str(revocation(done)["number"]))


def test_a_dry_run_ends_nothing(command: Command, path: str, entry: str) -> None:
    before = command("revoke", "list", "--all", "--output=json").rows("revocations")
    done = command("revoke", "entry", entry, "--dry-run")
    assert (done.code, done.err) == (
        0,
        "dry run: 1 credential would end, and nothing more would be signed until it is lifted\n",
    )
    assert path in done.out
    assert len(live(command, path)) == 1
    assert command("revoke", "list", "--all", "--output=json").rows("revocations") == before


def test_revocations_are_listed_newest_first_page_by_page(command: Command) -> None:
    numbers = [
        revocation(command("revoke", "selector", f"unix:path:/opt/{name}", "--output=json"))["number"] for name in "ab"
    ]
    first = command("revoke", "list", "--page-size=1", "--output=json")
    assert [row["number"] for row in first.rows("revocations")] == [numbers[1]]
    token = str(first.document["next_page_token"])
    second = command("revoke", "list", "--page-size=1", f"--page-token={token}")
    assert f"{numbers[0]} " in second.out
    assert "unix:path:/opt/a" in second.out
    for number in numbers:
        command("revoke", "lift", str(number))


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            ["svid", UNKNOWN],
            4,
            f"error: serial: expected one that we signed, found '{UNKNOWN}'\nhint: list the serials and jtis",
        ),
        (["svid"], 2, "error: expected serials or --from, found neither"),
        (["svid", UNKNOWN, "--from=/dev/null"], 2, "error: expected serials or --from, found both"),
        (
            ["svid", "--from=/dev/null"],
            1,
            "error: /dev/null: expected at least 1 serial or jti, one a line, found none",
        ),
        (["issued-before", "2020-01-01T00:00:00Z", "--spiffe-id="], 2, "expected a value, found an empty string"),
        (["issued-before", "2020-01-01T00:00:00Z", "--entry="], 2, "expected a value, found an empty string"),
        (["issued-before", "2020-01-01T00:00:00Z", "--node="], 2, "expected a value, found an empty string"),
        (["issued-before", "2020-01-01T00:00:00Z", "--entry=typo"], 4, "error: entry: no entry has the id 'typo'"),
        (["issued-before", "2020-01-01T00:00:00Z", "--node=typo"], 4, "error: node: no node has the id 'typo'"),
        (["svid", UNKNOWN, "--dry-run"], 4, "error: serial: expected one that we signed"),
        (["svid", UNKNOWN, "--dry-run", "--wait"], 2, "expected --dry-run or --wait, found both"),
        (["svid", UNKNOWN, "--reason=certificateHold"], 2, "error: invalid value for '--reason'"),
        (
            ["entry", NOBODY],
            4,
            "error: entry: no entry has the id 'nobody'\nhint: to revoke what was signed for an entry",
        ),
        (
            ["node", NOBODY],
            4,
            "error: node: no node has the id 'nobody'\nhint: to revoke what was signed for a node that is gone",
        ),
        (["selector", "unix"], 2, "selector"),
        (["selector", "unix:uid:1", "--wait=25h"], 2, "expected a --wait of at most a day"),
        (["issued-before", "yesterday"], 2, "yesterday"),
        (["issued-before", "2999-01-01T00:00:00Z"], 1, "error: before: expected a time in the past, found 2999"),
        (["spiffe-id", "web"], 1, "error: "),
        (
            ["show", "999999"],
            4,
            "error: number: no revocation has the number 999999\nhint: list them: cognomen revoke list",
        ),
        (["lift", "999999"], 4, "error: number: no revocation has the number 999999"),
        (["lift", "0"], 2, "0"),
        (["show", str(2**63)], 2, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_refused_by_its_exit_code(
    command: Command, arguments: list[str], code: int, told: str
) -> None:
    done = command("revoke", *arguments)
    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["selector", "unix:path:/a", "--comment=\x1b[2Jall is well"],
        ["entry", "\x1b[2J"],
        ["node", "\x1b[2J"],
        ["svid", "\x1b[2J"],
        ["selector", "unix:path:/\x1b[2J"],
        ["spiffe-id", "/\x1b[2J"],
    ],
    ids=["comment", "entry", "node", "serial", "selector", "spiffe id"],
)
def test_nothing_that_was_given_speaks_to_the_terminal(command: Command, arguments: list[str]) -> None:
    done = command("revoke", *arguments)
    assert done.code != 0
    assert "\x1b" not in done.err + command("revoke", "list", "--all").out


def test_a_banned_nodes_attestor_enforces_nothing_any_more(tmp_path: Path) -> None:
    with Dev(tmp_path, "--entry", f"/a={ME}") as dev:
        wait_for_svid(dev, "/a")
        admin = f"--socket={dev.state}/admin/issuer.sock"
        (node,) = json.loads(dev.command("node", "list", admin, "--output=json"))["nodes"]
        done = json.loads(dev.command("revoke", "node", node["id"], "--wait", admin, "--output=json"))
        assert {row["kind"] for row in done["fallen"]} == {"node", "x509"}
        assert done["revocation"]["denied"] == sum(row["count"] for row in done["fallen"])
        assert done["enforcement"]["silent"] == []
        assert json.loads(dev.command("node", "show", node["id"], admin, "--output=json"))["state"] == "banned"


def test_an_attestor_that_does_not_answer_is_named_and_the_exit_code_is_3(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.running():
        assert live_svid(world)
        os.kill(world.attestor.pid, signal.SIGSTOP)
        try:
            done = world.run("revoke", "spiffe-id", "/web", "--wait=1s")
            assert done.returncode == 3
            assert "0 of 1 attestors and 0 of 0 enforcement points enforce it, 1" in done.stderr
            assert "what it revoked can be used there until 2" in done.stderr
            assert "error: wait: expected revocation 1 enforced everywhere, found 0 of 1 attestors" in done.stderr
            hint = re.findall(r"^hint: to follow it: cognomen (.*)$", done.stderr, re.MULTILINE)[0]
            shown = world.run(*hint.split())
            (node,) = [row["id"] for row in world.command("node", "list")["nodes"]]  # type: ignore[attr-defined]  # a list of documents
            assert f"does not enforce it: attestor of node {node}\n" in shown.stderr
        finally:
            os.kill(world.attestor.pid, signal.SIGCONT)
        for arguments in (["spiffe-id", "/web", "--wait=20s"], ["show", "1"]):
            status = world.command("revoke", *arguments)["enforcement"]
            assert isinstance(status, dict)
            assert (status["attestors"], status["enforcing"], status["silent"]) == (1, 1, [])


def test_a_node_that_is_away_is_waited_for_and_counted_and_the_exit_code_is_3(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.running():
        serial = live_svid(world)
        world.attestor.kill()
        done = world.run("revoke", "svid", serial, "--wait=1s")
        assert done.returncode == 3
        assert "nodes that are away, and will learn of it when they return: 1" in done.stderr
        assert "what it revoked can be used there until 2" in done.stderr
        assert "found 0 of 0 attestors, 0 of 0 enforcement points; nodes away: 1" in done.stderr
        assert "away 1 nodes" in " ".join(world.run("revoke", "show", "1").stdout.split())
        nothing = world.run("revoke", "svid", serial, "--wait=1s")
        assert nothing.returncode == 0, nothing.stderr


@pytest.mark.parametrize("output", ["table", "json"])
def test_whoever_interrupts_the_waiting_knows_what_was_revoked(tmp_path: Path, output: str) -> None:
    world = World(tmp_path)
    with world.running():
        assert live_svid(world)
        os.kill(world.attestor.pid, signal.SIGSTOP)
        try:
            with world.start("revoke", "spiffe-id", "/web", "--wait=25s", f"--output={output}") as waiting:
                assert waiting.stderr is not None
                assert waiting.stderr.readline().startswith("revocation 1: ")
                waiting.send_signal(signal.SIGINT)
                out, _ = waiting.communicate(timeout=20)
            assert waiting.returncode == 130
            assert "/web" in out
            if output == "json":
                assert json.loads(out).keys() == {"revocation", "fallen", "more", "exchanged"}
        finally:
            os.kill(world.attestor.pid, signal.SIGCONT)


def test_where_ctrl_c_is_ignored_whoever_reads_what_was_revoked_can_interrupt_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_end, bytes(4096))  # until nothing more fits: the command stops where it tells what it did
    os.set_blocking(write_end, True)
    with world.running():
        assert live_svid(world)
        usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            waiting = world.start("revoke", "spiffe-id", "/web", "--wait=25s", stderr=write_end)
        finally:
            signal.signal(signal.SIGINT, usual)
            os.close(write_end)
        with waiting, os.fdopen(read_end, "rb"):
            assert waiting.stdout is not None
            assert waiting.stdout.readline().startswith("kind ")
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(20) == 130


@pytest.mark.parametrize(("more", "code"), [([], 3), (["--wait"], 1)])
def test_exit_code_3_of_a_wait_never_says_that_the_issuer_was_not_reached(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, more: list[str], code: int
) -> None:
    assert run(["revoke", "selector", "unix:uid:1", f"--socket={tmp_path}/issuer.sock", *more]) == code
    told = capsys.readouterr().err
    assert told.startswith("error: admin socket ")
    assert ("hint: nothing is known to be revoked: start it" in told) is bool(more)


def test_enforcement_points_are_waited_for_and_the_silent_ones_are_named(tmp_path: Path) -> None:
    world = World(tmp_path)

    def end() -> "subprocess.CompletedProcess[str]":
        return world.run("revoke", "svid", live_svid(world), "--wait=2s")

    with world.running(), X509Source(f"unix://{world.workload}") as source:
        context = server_context(source, exactly("spiffe://example.org/web"))
        done = end()
        assert done.returncode == 0, done.stderr
        assert "1 of 1 attestors and 1 of 1 enforcement points enforce it" in done.stderr
        with following(world.workload):
            done = end()
            assert done.returncode == 3
            assert "1 of 1 attestors and 1 of 2 enforcement points enforce it" in done.stderr
            silent = f"does not enforce it: guard 1 of pid {os.getpid()}, uid {os.getuid()}, on node "
            assert silent in done.stderr
            assert silent in world.run("revoke", "show", "2").stderr
        ref = weakref.ref(context)
        del context
        assert ref() is None
        assert "1 of 1 attestors and 0 of 0 enforcement points enforce it" in end().stderr


def live_svid(world: World) -> str:
    """The serial of an X509-SVID of /web that is not revoked, once there is one."""
    for _ in range(100):  # each takes its time
        rows = world.command("svid", "list", "--spiffe-id=/web", "--live", "--kind=x509")["credentials"]
        assert isinstance(rows, list)
        if rows:
            return str(rows[0]["serial"])
    raise AssertionError("no SVID came")


@pytest.mark.parametrize("how", ["evict", "ban"])
def test_the_attestor_of_a_node_that_was_sent_away_gives_nobody_an_identity_and_says_why(
    how: str, tmp_path: Path
) -> None:
    world = World(tmp_path)
    with world.running():
        assert live_svid(world)
        (node,) = [row["id"] for row in world.command("node", "list")["nodes"]]  # type: ignore[attr-defined]  # a list of documents
        world.command("node", how, str(node))
        fetch = ("fetch", "x509", f"--socket={world.workload}")
        while "sent this node away" not in (done := world.run(*fetch)).stderr:  # pytest's timeout ends it
            pass
        assert done.returncode == 5
        assert "no identity issued: the issuer sent this node away" in done.stderr
        assert "cognomen status attestor says how it comes back" in done.stderr
        assert "hint: this concerns every program of this machine" in done.stderr
        explained = world.run("why", f"--socket={world.workload}")
        assert explained.returncode == 1
        assert "no identity for anybody on this node, whatever the entries are: the issuer sent" in explained.stdout
        health = world.run("attestor", "healthcheck", f"--socket={world.workload}")
        assert (health.returncode, health.stdout) == (1, "not serving\n")
        assert health.stderr == f"hint: cognomen status attestor --socket {world.workload} says why\n"
        status = world.run("status", "attestor", f"--socket={world.workload}").stdout
        assert "cognomen node invite (without --node-id)" in status
