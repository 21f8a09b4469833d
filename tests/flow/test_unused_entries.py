"""Which entries nobody used: those that a node has which reports no uses are listed apart, with that node."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import msgspec
import pytest

from cognomen.cli.main import run
from svid.clock import SystemClock
from tests.flow.twodaemons import World

UNUSED = ("entry", "list", "--unused-for=30d")


class Listed(msgspec.Struct):
    """What `entry list --unused-for` prints, as far as the tests look."""

    entries: list[dict[str, object]]
    not_known: list[dict[str, object]]
    not_reporting: list[dict[str, object]]

    def paths(self) -> tuple[list[str], list[str], list[object]]:
        """The paths of both kinds, and the names of the nodes."""
        return _paths(self.entries), _paths(self.not_known), [one["name"] for one in self.not_reporting]


def _paths(entries: list[dict[str, object]]) -> list[str]:
    return [str(one["spiffe_id"]).removeprefix("spiffe://example.org") for one in entries]


def age(world: World) -> None:
    """Make everything 40 days old, and let there be a second node of the same group, whose attestor is of an earlier release."""
    before = int((SystemClock().now() - timedelta(days=40)).timestamp()) * 1_000_000
    with closing(sqlite3.connect(world.directory / "issuer" / "issuer.db", isolation_level=None)) as database:
        database.execute("UPDATE meta SET uses_since = ?", [before])
        database.execute("UPDATE entry SET created_at = ?", [before])
        database.execute("UPDATE node SET attested_at = ?, name = 'new'", [before])
        database.execute("UPDATE node SET uses_since = ? WHERE uses_since > 0", [before])
        names = [row[1] for row in database.execute("PRAGMA table_info (node)")]
        others = {"id": "'old'", "name": "'old'", "spiffe_id": "'spiffe://example.org/cognomen/node/join_token/old'"}
        values = ", ".join(others.get(name, "NULL" if name in {"uses_since", "uses_until"} else name) for name in names)
        database.execute(f"INSERT INTO node ({', '.join(names)}) SELECT {values} FROM node")  # noqa: S608 - our own names


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An issuer with two old nodes, which reports of one."""
    world = World(tmp_path_factory.mktemp("unused"))
    with world.issuer:
        world.join()
        (node,) = world.listed("node", "nodes")
        world.entry("/own", str(node["spiffe_id"]), "unix:uid:4242")
        world.entry("/theirs", "/cognomen/node/join_token/old", "unix:uid:4242")
        world.entry("/nobodys", "/cognomen/node/join_token/gone", "unix:uid:4242")
    age(world)
    with world.issuer:
        yield world


def listed(world: World, *options: str) -> Listed:
    return msgspec.convert(world.command(*UNUSED, *options), Listed)


def test_what_a_silent_node_may_have_used_is_not_listed_as_unused(world: World) -> None:
    expected = (["/nobodys", "/own"], ["/theirs", "/web"], ["old"])
    assert listed(world).paths() == expected
    pages = [listed(world, "--all", "--page-size=1").paths(), listed(world, "--below=/theirs").paths()]
    assert pages == [expected, ([], ["/theirs"], ["old"])]
    assert listed(world, "--below=/own").paths() == (["/own"], [], [])


def test_the_table_has_what_nobody_used_and_a_warning_names_the_rest(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(world.admin))
    assert run(UNUSED) == 0
    shown, warned = capsys.readouterr()
    assert [line.split()[1] for line in shown.splitlines()[1:]] == ["/nobodys", "/own"]
    assert (
        "warning: 2 entries not listed, because a use may not have been reported: /theirs, /web;"
        " nodes that did not report all uses in that time: old (none)"
    ) in warned


def test_an_attestor_that_has_ended_has_reported_everything(world: World) -> None:
    nodes = {str(one["name"]): one for one in world.listed("node", "nodes")}
    assert nodes["new"]["uses_since"] is not None
    assert nodes["new"]["uses_until"] is None
    assert nodes["old"]["uses_since"] is None


def test_once_the_silent_node_is_evicted_it_does_not_matter(world: World) -> None:
    world.command("node", "evict", "old")
    assert listed(world).paths() == (["/nobodys", "/own", "/theirs", "/web"], [], [])
