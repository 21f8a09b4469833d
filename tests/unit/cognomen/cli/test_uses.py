"""What commands show of very many uses: the last ones, and how many more there are."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from cognomen.cli.admin import Admin, connect
from cognomen.cli.cells import View
from cognomen.cli.uses import FoundUses, print_uses, uses_of
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from cognomen.wire.uses import use_to_pb
from tests.doubles.uses import a_use

FIRST = a_use().first_at
COUNT, SHOWN, PAGE = 2500, 1000, 600


def page_of_uses(request: pb.ListUsesRequest, _: object) -> pb.ListUsesResponse:
    """Uses of which each second one came before those that were reported before it."""
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
    print_uses(asked(admin), View(output="table", trust_domain="example.org"))
    shown, told = capsys.readouterr()
    assert len(shown.splitlines()) == 1 + 1 + SHOWN
    assert told == "and 1,500 more, which were used earlier\n"
