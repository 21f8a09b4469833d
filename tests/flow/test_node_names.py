"""Nodes as an operator sees them: by name, from where they last called, and lost when they are."""

import json
import os
import re
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from bench.rig.daemons import Dev
from cognomen.wire.pb import admin_pb2
from svid.clock import SystemClock
from tests.flow.issuer_harness import attest, new_key, running
from tests.flow.twodaemons import World

ME = f"unix:uid:{os.geteuid()}"
MICROSECONDS = 1_000_000


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("d"), "--entry", f"/a={ME}") as running:
        yield running


def the_node(dev: Dev) -> dict[str, object]:
    (node,) = dev.admin("node", "list")["nodes"]
    return node


def said(dev: Dev, *arguments: str) -> dict[str, object]:
    document: dict[str, object] = {**dev.admin(*arguments)}
    return document


def refusal(dev: Dev, *arguments: str) -> str:
    done = dev.run(*arguments, "--socket", str(dev.state / "admin" / "issuer.sock"))
    assert done.returncode != 0
    return done.stderr


def test_a_node_has_its_host_name_and_says_where_it_is(dev: Dev) -> None:
    node = the_node(dev)
    host = socket.gethostname()
    assert node["name"] == (host if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", host) else str(node["id"])[:8])
    assert (node["state"], node["connected"], node["address"]) == ("active", True, "127.0.0.1")
    seen = datetime.fromisoformat(str(node["last_seen"]))
    assert abs((SystemClock().now() - seen).total_seconds()) < 60
    assert datetime.fromisoformat(str(node["returns_until"])) > datetime.fromisoformat(str(node["svid_not_after"]))
    shown = dev.command("node", "list", "--socket", str(dev.state / "admin" / "issuer.sock"))
    assert shown.split()[:3] == ["name", "id", "state"]


def test_every_command_that_takes_a_node_takes_its_name(dev: Dev) -> None:
    node = the_node(dev)
    renamed = said(dev, "node", "rename", str(node["id"]), "build-7", "--comment", "rack 7")
    assert renamed["name"] == "build-7"
    for name in ("build-7", str(node["spiffe_id"]), str(node["id"])):
        assert said(dev, "node", "show", name)["id"] == node["id"]
        assert {row["kind"] for row in dev.admin("svid", "list", "--node-id", name)["credentials"]} >= {"node"}
        found = dev.admin("audit", "list", "--node", name, "--action", "node renamed")["rows"]
        assert [json.loads(str(row["body"]))["facts"]["after"] for row in found] == ["build-7"]
        moment = "2020-01-01T00:00:00Z"
        asked = said(dev, "revoke", "issued-before", moment, "--node", name, "--dry-run")
        revocation = asked["revocation"]
        assert isinstance(revocation, dict)
        assert [node["id"]] == revocation["target"]["node_ids"]
    assert said(dev, "revoke", "node", "build-7", "--dry-run")["fallen"]
    invite = said(dev, "node", "invite", "--node", "build-7")
    assert invite["node_spiffe_id"] == node["spiffe_id"]
    assert "no node has the id, SPIFFE ID or name build-8" in refusal(dev, "node", "evict", "build-8")
    assert "name: expected 1 to 253" in refusal(dev, "node", "rename", "build-7", "build 7")


def test_a_node_is_called_as_its_attestor_was_told(tmp_path: Path) -> None:
    world = World(tmp_path, attestor_options=("--node-name=rack-7",))
    with world.issuer:
        for name in ("rack-7", "rack-7-2"):
            world.command("node", "invite", "--write", str(tmp_path / "invite"))
            with world.attestor:
                assert name in {str(node["name"]) for node in world.listed("node", "nodes")}
            shutil.rmtree(tmp_path / "attestor")


async def test_what_a_joiner_calls_itself_is_only_believed_if_a_node_may_have_that_name(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        for said in ("web", "", "-x\n", "\0", "web"):
            await attest(await issuer.invite(), new_key(), node_name=said)
        listed = await issuer.admin("ListNodes", admin_pb2.ListNodesRequest(), admin_pb2.ListNodesResponse)
        assert isinstance(listed, admin_pb2.ListNodesResponse)
        named = [node for node in listed.nodes if not node.name.startswith("web")]
        assert {node.name for node in listed.nodes if node not in named} == {"web", "web-2"}
        assert [node.name for node in named] == [node.id[:8] for node in named]


async def test_a_joiner_cannot_pass_for_another_node_by_its_id(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:

        async def names() -> dict[str, str]:
            listed = await issuer.admin("ListNodes", admin_pb2.ListNodesRequest(), admin_pb2.ListNodesResponse)
            assert isinstance(listed, admin_pb2.ListNodesResponse)
            return {node.id: node.name for node in listed.nodes}

        await attest(await issuer.invite(), new_key(), node_name="web")
        (web,) = await names()
        for said in (web, web[:8], web[:8].upper(), web[:12], f"{web[:8]}-2", f"{web}.example.org", f"{web[:8]}_"):
            known = await names()
            await attest(await issuer.invite(), new_key(), node_name=said)
            ((node_id, name),) = (await names()).items() - known.items()
            assert name == node_id[:8], said


def test_a_node_whose_svid_expired_while_it_was_away_is_lost(tmp_path: Path) -> None:
    with Dev(tmp_path) as dev:
        only = the_node(dev)
    an_hour_ago = int(SystemClock().now().timestamp() - 3600) * MICROSECONDS
    with closing(sqlite3.connect(dev.state / "issuer" / "issuer.db")) as database:
        assert database.execute("SELECT address, seen_at > 0 FROM node").fetchall() == [("127.0.0.1", 1)]
        for node_id, end in (("returns", an_hour_ago), ("forgotten", MICROSECONDS)):
            database.execute(
                "INSERT INTO node (id, spiffe_id, attestor, selectors, attested_at, svid_not_after, state, current_serial,"
                " pending_serial, acknowledged) SELECT ?1, spiffe_id || ?1, attestor, selectors, 1, ?2, 'active', '', '', 0 FROM node"
                " WHERE id = ?3",
                (node_id, end, only["id"]),
            )
        database.commit()
    with dev:
        nodes = {str(node["id"]): node for node in dev.admin("node", "list")["nodes"]}
        dev.command("node", "rename", str(only["id"]), "zoe", "--socket", str(dev.state / "admin" / "issuer.sock"))
        listed = [node["name"] for node in dev.admin("node", "list")["nodes"]]
    assert listed == ["forgotten", "returns", "zoe"]
    assert {node_id: (node["state"], node["name"]) for node_id, node in nodes.items()} == {
        str(only["id"]): ("active", only["name"]),
        "returns": ("lost", "returns"),
        "forgotten": ("lost", "forgotten"),
    }
    assert datetime.fromisoformat(str(nodes["returns"]["returns_until"])) > SystemClock().now()
    assert nodes["forgotten"]["returns_until"] is None
    assert nodes["forgotten"]["last_seen"] is None
