"""What commands show of very many uses: the last ones, and how many more there are."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from cognomen.cli.admin import Admin, connect
from cognomen.cli.cells import View
from cognomen.cli.uses import FoundUses, print_uses, uses_of, warn_of_silence
from cognomen.wire.admin import document_from_message, moment_to_text
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from cognomen.wire.uses import use_to_pb
from tests.doubles.uses import a_use

FIRST = a_use().first_at
COUNT, SHOWN, PAGE = 2500, 1000, 600


def page_of_uses(request: pb.ListUsesRequest, _: object) -> pb.ListUsesResponse:
    """Uses of which each second one came before those that were reported before it."""
    if request.node_ids:
        silent = pb.SilentNode(id="n1", name="web-1", uses_since=time_to_pb(FIRST))
        return pb.ListUsesResponse(not_reporting=[silent, pb.SilentNode(id="n2", name="db-1")])
    after = int(request.page_token or "0")
    numbers = range(after, min(after + PAGE, COUNT))
    answer = pb.ListUsesResponse(uses_since=time_to_pb(FIRST), next_page_token=str(numbers.stop % COUNT or ""))
    for number in numbers:
        use: node_pb2.Use = answer.uses.add()
        last_at = FIRST + timedelta(seconds=COUNT + (number if number % 2 else -number))
        use.CopyFrom(use_to_pb(a_use(pid=number, last_at=last_at)))
        use.node_id = "n1"
    return answer


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    """The admin socket of something that knows one method only."""
    listed = grpc.unary_unary_rpc_method_handler(
        page_of_uses,
        request_deserializer=pb.ListUsesRequest.FromString,
        response_serializer=pb.ListUsesResponse.SerializeToString,
    )
    known = grpc.method_handlers_generic_handler("cognomen.admin.v1.Admin", {"ListUses": listed})
    server = grpc.server(ThreadPoolExecutor(1), handlers=[known])
    server.add_insecure_port(f"unix://{tmp_path}/s")
    server.start()
    try:
        with connect(tmp_path / "s") as admin:
            yield admin
    finally:
        server.stop(None).wait()


def test_a_path_forges_no_cells(capsys: pytest.CaptureFixture[str]) -> None:
    use = {**document_from_message(use_to_pb(a_use(executable="/x  X.509  1m ago\u0338\u3164"))), "node_id": "n1"}
    print_uses(FoundUses([use], more=0), View())
    lines = capsys.readouterr().out.splitlines()
    header, cells = (re.split(" {2,}", line.strip()) for line in lines if line)
    assert len(cells) == len(header)
    assert r'"/x\\x20 X.509\\x20 1m ago\\u0338\\u3164"' in cells


def asked(admin: Admin) -> FoundUses:
    held = pb.Credential(
        entry_id="web", node_id="n1", issued_at=time_to_pb(FIRST), not_after=time_to_pb(FIRST + timedelta(hours=1))
    )
    return uses_of(admin, [held])


def test_the_last_thousand_are_shown_and_the_data_say_that_there_are_more(admin: Admin) -> None:
    found = asked(admin)
    newest = [number for number in range(COUNT - 1, 0, -1) if number % 2][:SHOWN]
    assert [use["pid"] for use in found.uses] == newest
    assert json.loads(json.dumps(found.as_json()))["uses_more"] == COUNT - SHOWN


def test_the_table_says_that_there_are_more(admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(admin)
    capsys.readouterr()
    print_uses(found, View(output="table", trust_domain="example.org"))
    shown, told = capsys.readouterr()
    assert len(shown.splitlines()) == 1 + 1 + SHOWN
    assert told == "and 1,500 more, which were used earlier\n"


def test_nodes_that_did_not_report_are_named_by_a_warning_and_in_the_data(
    admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(admin)
    assert capsys.readouterr().err == (
        "warning: uses may be missing; nodes that did not report all uses in that time:"
        f" db-1 (none), web-1 (only from {moment_to_text(FIRST)})\n"
    )
    document = json.loads(json.dumps(found.as_json()))
    assert [(one["name"], one["uses_since"]) for one in document["not_reporting"]] == [
        ("db-1", None),
        ("web-1", moment_to_text(FIRST)),
    ]


def test_a_warning_names_ten_and_says_how_many_more_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    until = pb.SilentNode(name="n0", uses_since=time_to_pb(FIRST), uses_until=time_to_pb(FIRST + timedelta(hours=1)))
    warn_of_silence([], "nothing")
    warn_of_silence([until, *(pb.SilentNode(name=f"n{number}") for number in range(1, 12))], "some")
    (line,) = capsys.readouterr().err.splitlines()
    first, last = moment_to_text(FIRST), moment_to_text(FIRST + timedelta(hours=1))
    assert f"n0 (only from {first} until {last}), n1 (none), " in line
    assert line.endswith("n9 (none), and 2 more")
