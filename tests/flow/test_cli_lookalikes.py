"""SPIFFE IDs that end with the id of a node, and belong to another trust domain or node attestor: they are not this node's."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.daemons import Dev
from tests.flow.commandline import Command

ME = f"unix:uid:{os.getuid()}"
LIKE = (
    "spiffe://evil.org/cognomen/node/join_token/{}",
    "spiffe://evil.org/cognomen/node/k8s/{}",
    "/cognomen/node/zzz/{}",
)
COMMANDS = (
    ("node", "show", "{}"),
    ("node", "rename", "{}", "taken"),
    ("node", "evict", "{}"),
    ("node", "ban", "{}"),
    ("node", "unban", "{}"),
    ("node", "invite", "--node-id={}"),
    ("svid", "list", "--node-id={}"),
    ("audit", "list", "--node-id={}"),
    ("audit", "export", "--node-id={}"),
    ("revoke", "node", "{}", "--dry-run"),
    ("revoke", "node", "{}"),
    ("revoke", "issued-before", "2026-01-01T00:00:00Z", "--node-id={}"),
)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("l"), "--entry", f"/web={ME}") as running:
        running.command("fetch", "x509")
        yield running


@pytest.fixture(scope="module")
def admin_socket(dev: Dev) -> Path:
    return dev.state / "admin" / "issuer.sock"


@pytest.mark.parametrize("like", LIKE)
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_no_command_takes_it_for_the_node(command: Command, node: str, like: str, arguments: tuple[str, ...]) -> None:
    before = command("node", "show", node, "-o", "json").document
    other = like.format(node)
    done = command(*(one.format(other) for one in arguments))
    assert (done.code, done.out) == (4, ""), done
    assert f"has the id, SPIFFE ID or name {other}" in done.err.replace("'", "") or "no node has the id" in done.err
    after = command("node", "show", node, "-o", "json").document
    assert (after["id"], after["name"], after["state"]) == (before["id"], before["name"], "active")


def test_an_entry_with_such_a_parent_is_warned_of_and_its_parent_is_shown_as_it_is(command: Command, node: str) -> None:
    like, real = LIKE[2].format(node), f"/cognomen/node/join_token/{node}"
    selector = "--selector=unix:uid:4294967290"
    done = command("entry", "create", "--spiffe-id=/like", f"--parent={like}", selector)
    assert f"no node or node group is spiffe://example.org{like} yet" in done.err
    assert like in done.out
    assert like in command("entry", "list", "--below=/like").out
    assert not command("entry", "create", "--spiffe-id=/like/not", f"--parent={real}", selector).err
    (row,) = (line for line in command("entry", "list", "--below=/like").out.splitlines() if "/like/not" in line)
    assert node[:8] in row
    assert real not in row


def test_what_was_refused_for_it_is_no_row_of_the_node(command: Command, node: str) -> None:
    other = LIKE[0].format(node)
    command("node", "evict", other, "--comment", "not ours")
    assert command("audit", "list", f"--subject={other}", "-o", "json").rows("rows")
    subjects = {str(row["subject"]) for row in command("audit", "list", f"--node-id={node}", "-o", "json").rows("rows")}
    assert subjects
    assert other not in subjects
