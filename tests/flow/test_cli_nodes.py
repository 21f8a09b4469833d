"""Nodes that an operator sends away: what the commands print is what is, and what was done before a refusal is said."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.rig.daemons import Daemon
from cognomen.cli.main import run
from cognomen.protocol.invite import Invite
from tests.flow.issuer_harness import attest, new_key
from tests.flow.test_cli_issuer import Command, Done

Join = Callable[[], str]


@pytest.fixture(scope="module")
def admin_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("i")
    arguments = [
        "issuer", "run", "--trust-domain=example.org", f"--state={directory}/state", f"--admin-socket={directory}/a/s",
        "--node-address=127.0.0.1:0", "--join-address=127.0.0.1:0",
    ]  # fmt: skip
    with Daemon(arguments, log=directory / "log", ready="COGNOMEN_ADMIN_SOCKET="):
        yield directory / "a" / "s"


@pytest.fixture
def command(admin_socket: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(admin_socket))
    return lambda *arguments: Done(run(arguments), *capsys.readouterr())


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def join(command: Command, numbers: Iterator[int]) -> Join:
    """Let a node join, with a name that no other has; returns the name."""

    def one() -> str:
        invite, name = Invite.parse(command("node", "invite").out), f"web-{next(numbers)}"
        asyncio.run(attest(invite, new_key(), node_name=name))
        return name

    return one


def states(done: Done) -> list[tuple[object, ...]]:
    return [(one["name"], one["state"], one["connected"]) for one in done.rows("nodes")]


def test_a_node_that_was_sent_away_is_printed_as_what_it_is_now(command: Command, join: Join) -> None:
    evicted, banned = join(), join()
    done = command("node", "evict", evicted, "-o", "json")
    assert states(done) == [(evicted, "evicted", False)]
    assert done.rows("nodes")[0]["returns_until"] in {None, ""}
    assert states(command("node", "ban", banned, "-o", "json")) == [(banned, "banned", False)]
    assert states(command("node", "unban", banned, "-o", "json")) == [(banned, "unbanned", False)]


@pytest.mark.parametrize(("verb", "action"), [("evict", "node evicted"), ("ban", "node banned")])
def test_the_operators_comment_is_on_the_revocation_of_a_node(
    command: Command, join: Join, verb: str, action: str
) -> None:
    command("node", verb, join(), "--comment", "disk stolen")
    command("node", verb, join())
    plain, said, *_ = command("revoke", "list", "-o", "json").rows("revocations")
    assert (said["comment"], plain["comment"]) == ("disk stolen", action)


@pytest.mark.parametrize("verb", ["evict", "ban"])
def test_if_one_of_several_nodes_is_unknown_nothing_is_done(command: Command, join: Join, verb: str) -> None:
    known = join()
    done = command("node", verb, known, "nosuch", "-o", "json")
    assert (done.code, done.out) == (4, "")
    assert "no node has the id, SPIFFE ID or name nosuch" in done.err
    assert command("node", "show", known, "-o", "json").document["state"] == "active"


def test_what_was_done_before_a_refusal_is_printed(command: Command, join: Join) -> None:
    first, banned, last = join(), join(), join()
    command("node", "ban", banned)
    done = command("node", "evict", first, banned, last, "-o", "json")
    assert (done.code, "node: banned" in done.err) == (1, True)
    assert states(Done(0, done.out, "")) == [(first, "evicted", False)]
    assert command("node", "show", first).code == 4
    assert command("node", "show", last).code == 0


def test_a_node_that_is_named_twice_is_sent_away_once(command: Command, join: Join) -> None:
    name = join()
    assert states(command("node", "evict", name, name, "-o", "json")) == [(name, "evicted", False)]
