"""How a plan shows what the nodes answered: one line for each program, and which nodes gave no answer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from cognomen.cli.admin import Admin, connect
from cognomen.cli.planned import Planned
from cognomen.cli.planreach import print_reach, reach_document, reach_of
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.whole import read_whole
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2

TD = "spiffe://example.org"


def shown(capsys: pytest.CaptureFixture[str], *nodes: pb.AskedNode) -> list[str]:
    print_reach(pb.AskAttestorsResponse(nodes=nodes))
    return capsys.readouterr().out.splitlines()


def test_each_program_is_a_line_and_nodes_without_an_answer_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    crm = node_pb2.ProgramChange(
        pid=4711, uid=1003, executable="/opt/crm/bin/python", loses=[f"{TD}/agent/concierge/crm"]
    )
    both = node_pb2.ProgramChange(
        pid=7, uid=0, gains=[f"{TD}/a", f"{TD}/b"], gains_more=3, loses=[f"{TD}/c"], executable="/bin/a\u202e \u2800"
    )
    assert shown(
        capsys,
        pb.AskedNode(node_id="i1", name="n1", outcome="answered", programs=[crm, both], programs_more=2, unknown=1),
        pb.AskedNode(node_id="i2", name="n2", outcome="silent"),
        pb.AskedNode(node_id="i3", outcome="silent"),
        pb.AskedNode(node_id="i4", name="n4", outcome="older"),
        pb.AskedNode(node_id="i5", name="n5", outcome="too_many"),
    ) == [
        "node n1: pid 4711 (uid 1003, /opt/crm/bin/python) loses /agent/concierge/crm",
        r'node n1: pid 7 (uid 0, "/bin/a\\u202e \\u2800") gains /a, /b and 3 more; loses /c',
        "node n1: 2 more programs gain or lose an identity",
        "node n1: 1 program could not be looked at",
        "1 of 5 nodes answered; silent: n2, i3; of an earlier release: n4; too many changes for one question: n5",
        "a program that has not called its attestor within the last 10 minutes is not known to it",
    ]


@pytest.mark.parametrize(
    ("executable", "words"),
    [
        ("/srv/x) loses /agent/billing/ledger; y (z", '"/srv/x) loses /agent/billing/ledger; y (z"'),
        ("/srv/x, /agent/a", '"/srv/x, /agent/a"'),
        ("/srv/x)", '"/srv/x)"'),
        ('/srv/"x', '"/srv/\\"x"'),
        ("/usr/bin/python3.11 (deleted)", '"/usr/bin/python3.11 (deleted)"'),
        ("unknown program", '"unknown program"'),
        ("/home/Zoë/a_b-c+d@1~2", "/home/Zoë/a_b-c+d@1~2"),
        ("", "unknown program"),
    ],
)
def test_no_name_of_a_program_says_another_part_of_its_line(
    executable: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = node_pb2.ProgramChange(pid=7, uid=1000, executable=executable, gains=[f"{TD}/agent/a/b"])
    line, *_ = shown(capsys, pb.AskedNode(node_id="i1", name="n1", outcome="answered", programs=[program]))
    assert line == f"node n1: pid 7 (uid 1000, {words}) gains /agent/a/b"


def test_a_node_that_answers_with_no_spiffe_id_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    program = node_pb2.ProgramChange(pid=7, uid=1000, executable="/x", gains=[f"{TD}/a; loses /b\x1b[2J"])
    line, *_ = shown(capsys, pb.AskedNode(node_id="i1", name="n1", outcome="answered", programs=[program]))
    assert line == r'node n1: pid 7 (uid 1000, /x) gains "/a; loses /b\\x1b[2J"'


def test_a_plan_that_concerns_no_connected_node_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == []
    print_reach(None)
    assert capsys.readouterr().out == ""


def test_the_document_tells_nodes_that_were_not_asked_from_none_that_are_concerned() -> None:
    assert reach_document(None) == {"nodes": None}
    assert reach_document(pb.AskAttestorsResponse()) == {"nodes": []}
    program = node_pb2.ProgramChange(pid=1, uid=2, executable="/a", gains=[f"{TD}/a"])
    asked = pb.AskedNode(node_id="i1", name="n1", outcome="answered", programs=[program], unknown=1)
    assert reach_document(pb.AskAttestorsResponse(nodes=[asked])) == {
        "nodes": [
            {
                "id": "i1",
                "name": "n1",
                "outcome": "answered",
                "programs": [
                    {
                        "pid": 1,
                        "uid": 2,
                        "executable": "/a",
                        "gains": [f"{TD}/a"],
                        "loses": [],
                        "gains_more": 0,
                        "loses_more": 0,
                    }
                ],
                "programs_more": 0,
                "unknown": 1,
            }
        ]
    }


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Admin]:
    """An issuer that knows no method, as one of an earlier release does not know this one."""
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_insecure_port(f"unix://{tmp_path}/s")
    server.start()
    with connect(tmp_path / "s") as admin:
        yield admin
    server.stop(None).wait()


def planned(*changes: pb.PlannedChange) -> Planned:
    rulebook, _ = read_whole({})
    plan = pb.RulebookPlan(changes=changes)
    return Planned(rulebook=rulebook, files={}, before=rulebook, files_before={}, let_expire=False, plan=plan)


def test_an_issuer_of_an_earlier_release_plans_as_before(older: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    assert reach_of(older, planned(pb.PlannedChange()), ask=True) is None
    assert capsys.readouterr().err == (
        "warning: the issuer is of an earlier release: it does not ask the nodes who gains or loses an identity\n"
    )


def test_a_plan_that_changes_nothing_and_one_that_is_not_to_ask_do_not_call_the_issuer(
    older: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reach_of(older, planned(), ask=True) == pb.AskAttestorsResponse()
    assert reach_of(older, planned(pb.PlannedChange()), ask=False) is None
    assert capsys.readouterr().err == ""


def test_other_refusals_are_those_of_the_command(tmp_path: Path) -> None:
    class Full(Admin):
        def ask_attestors(self, request: pb.AskAttestorsRequest) -> pb.AskAttestorsResponse:
            del request
            raise Refused(Kind.EXHAUSTED, "attestors: too many")

    with grpc.insecure_channel(f"unix://{tmp_path}/s") as channel, pytest.raises(Refused, match="too many"):
        reach_of(Full(channel), planned(pb.PlannedChange()), ask=True)
