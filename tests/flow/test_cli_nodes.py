"""Nodes that an operator sends away: what the commands print is what is, and what was done before a refusal is said."""

import asyncio
import itertools
from collections.abc import Callable, Iterator

import pytest

from cognomen.protocol.invite import Invite
from tests.flow.commandline import Command, Done
from tests.flow.issuer_harness import attest, new_key

Join = Callable[[], str]


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


NOWHERE = "f" * 32
UNKNOWN = [
    (("audit", "list", "--node-id=nosuch"), "node: no node has the id, SPIFFE ID or name 'nosuch'"),
    (("audit", "export", f"--node-id={NOWHERE}"), "node: no node has the id, SPIFFE ID or name"),
    (("audit", "list", "--actor=nosuch"), "actor: expected uid:UID, a node, a SPIFFE ID or one of"),
    (("audit", "list", f"--entry-id={NOWHERE[:8]}"), "entry: no entry has the id or SPIFFE ID"),
    (("audit", "list", f"--credential={NOWHERE[:8]}"), "credential: none with the serial or jti"),
    (("audit", "list", "--action=nosuch"), "action: no action is called 'nosuch'"),
    (("svid", "list", "--node-id=nosuch"), "node: no node has the id, SPIFFE ID or name 'nosuch'"),
    (("svid", "list", "--entry-id=/nosuch"), "entry: no entry has the id or SPIFFE ID '/nosuch'"),
    (("entry", "list", "--parent-id=nosuch"), "node: no node has the id, SPIFFE ID or name 'nosuch'"),
    (
        ("entry", "create", "--spiffe-id=/a", "--parent-id=nosuch", "--selector=unix:uid:1"),
        "node: no node has the id, SPIFFE ID or name 'nosuch'",
    ),
    (("entry", "delete", "nosuch"), "no entry has the id 'nosuch'"),
]


@pytest.mark.parametrize(("arguments", "trouble"), UNKNOWN)
def test_what_is_not_there_and_not_on_record_is_refused_with_a_hint(
    command: Command, arguments: tuple[str, ...], trouble: str
) -> None:
    done = command(*arguments)
    assert (done.code, done.out) == (4, "")
    assert trouble in done.err
    assert "hint: " in done.err


def test_a_node_that_is_gone_is_found_by_its_id_and_its_spiffe_id(command: Command, join: Join) -> None:
    name = join()
    (gone,) = command("node", "evict", name, "-o", "json").rows("nodes")
    for text in (gone["id"], gone["spiffe_id"]):
        assert command("audit", "list", f"--node-id={text}", "--action=node evicted", "-o", "json").rows("rows")
        assert command("svid", "list", f"--node-id={text}", "-o", "json").rows("credentials")
    done = command("audit", "list", f"--node-id={name}")
    assert (done.code, "of one that is gone, only the id and the SPIFFE ID are known" in done.err) == (4, True)
    hint = command("revoke", "issued-before", "2026-01-01T00:00:00Z", f"--node-id={name}").err
    assert "hint: to revoke what was signed for a node that is gone, give its id: " in hint
    assert command("revoke", "issued-before", "2020-01-01T00:00:00Z", f"--node-id={gone['id']}", "--dry-run").code == 0


def test_a_node_that_was_invited_and_never_came_is_on_record(command: Command) -> None:
    node_id = str(command("node", "invite", "-o", "json").document["node_spiffe_id"]).rpartition("/")[2]
    found = command("audit", "list", f"--node-id={node_id}", "-o", "json").rows("rows")
    assert ["invite created" in str(one) for one in found] == [True]


def test_an_action_that_did_not_happen_is_no_mistake(command: Command) -> None:
    for action in ("store restored", "jwt issued"):
        assert command("audit", "list", f"--action={action}", "-o", "json").rows("rows") == []


@pytest.mark.parametrize("noun", [("entry", "list"), ("node", "list"), ("svid", "list"), ("revoke", "list")])
def test_a_page_token_that_nobody_gave_is_refused(command: Command, noun: tuple[str, ...]) -> None:
    done = command(*noun, "--page-token=garbage")
    assert (done.code, done.out) == (1, "")
    assert "page_token: invalid, use the one from an earlier page" in done.err


def test_pages_of_nodes_go_on_where_the_last_ended(command: Command, join: Join) -> None:
    join(), join()
    first = command("node", "list", "--page-size=1", "-o", "json").document
    second = command("node", "list", "--page-size=1", f"--page-token={first['next_page_token']}", "-o", "json")
    assert second.rows("nodes") != first["nodes"]


def test_a_row_after_the_last_is_no_page_token(command: Command) -> None:
    done = command("audit", "list", "--page-token=1000000")
    assert (done.code, "which is the last row, found 1000000" in done.err) == (1, True)


@pytest.mark.parametrize("arguments", [("audit", "list"), ("audit", "export"), ("audit", "who", "--spiffe-id=/a")])
def test_a_time_that_ends_before_it_begins_is_wrong_usage(command: Command, arguments: tuple[str, ...]) -> None:
    done = command(*arguments, "--since=2026-11-23T08:00:00Z", "--until=2026-11-22T08:00:00Z")
    assert (done.code, done.out) == (2, "")
    assert "expected a --since that is not after --until" in done.err


def test_an_entry_that_has_another_spiffe_id_now_is_found_in_the_record_as_the_hint_says(
    command: Command, join: Join
) -> None:
    arguments = (
        "entry",
        "create",
        "--spiffe-id=/concierge",
        f"--parent-id={join()}",
        "--selector=unix:uid:1",
        "-o",
        "json",
    )
    (entry,) = command(*arguments).rows("entries")
    command("entry", "update", "/concierge", "--spiffe-id=/porter")
    done = command("entry", "history", "/concierge")
    hint = "cognomen audit list --subject /concierge -o wide"
    assert (done.code, hint in done.err) == (4, True)
    shown = command(*hint.split()[1:]).out
    assert str(entry["id"]) in shown
    assert command("entry", "history", str(entry["id"])).code == 0
