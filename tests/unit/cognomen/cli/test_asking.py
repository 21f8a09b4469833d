"""Which calls change something, and what a command says when a daemon ends before it answers."""

from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.message import Message

from cognomen.cli.asking import is_change, refused
from cognomen.protocol.errors import Kind
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import inspect_pb2

CHANGES = frozenset({
    "ActivateAuthority", "ApplyEntries", "BanNode", "ConfirmClock", "CreateEntries", "CreateInvite", "DeleteEntries", "EvictNode",
    "ForgetExport", "LiftRevocation", "PrepareAuthority", "PurgeNodes", "RecordExport", "RenameNode", "Revoke", "RevokeAuthority",
    "RotateAuthority", "TaintAuthority", "UnbanNode", "UpdateEntries", "ApplyRulebook", "SuspendAgent", "ResumeAgent", "RetireAgent",
    "ExportAgentReview",
})  # fmt: skip


def methods() -> Iterator[str]:
    for file in (pb.DESCRIPTOR, inspect_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            yield from service.methods_by_name


def test_every_method_that_changes_something_is_known_as_one() -> None:
    assert {name for name in methods() if is_change(f"/service/{name}", pb.GetStatusRequest())} == CHANGES


@pytest.mark.parametrize("request_type", [pb.ApplyEntriesRequest, pb.PurgeNodesRequest, pb.RevokeRequest])
def test_a_dry_run_changes_nothing(request_type: type[Message]) -> None:
    assert is_change("/service/Change", request_type())
    assert not is_change("/service/Change", request_type(dry_run=True))


class Failure(grpc.RpcError, grpc.Call):
    """A call that failed, with a code and details, as grpcio raises it."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._said = code, details

    def code(self) -> grpc.StatusCode:
        return self._said[0]

    def details(self) -> str:
        return self._said[1]

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: object) -> bool:
        del callback
        return False


@dataclass(frozen=True, kw_only=True)
class Row:
    code: grpc.StatusCode
    said: str
    detail: str


NONE = "issuer: expected an answer, found none"
CUT = "issuer: expected an answer, found the end of the connection"
ROWS = [
    Row(code=grpc.StatusCode.UNAVAILABLE, said="failed to connect to all addresses; last error: Socket closed", detail=NONE),
    Row(code=grpc.StatusCode.DEADLINE_EXCEEDED, said="Deadline Exceeded", detail=NONE),
    Row(code=grpc.StatusCode.DEADLINE_EXCEEDED, said="Stream removed (Deadline Exceeded)", detail=NONE),
    Row(code=grpc.StatusCode.UNAVAILABLE, said="Stream removed (Socket closed)", detail=CUT),
    Row(code=grpc.StatusCode.UNAVAILABLE, said="recvmsg:Connection reset by peer (104)", detail=CUT),
    Row(code=grpc.StatusCode.UNAVAILABLE, said="GOAWAY received", detail=CUT),
    Row(code=grpc.StatusCode.INTERNAL, said="Received RST_STREAM with error code 2", detail=CUT),
    Row(code=grpc.StatusCode.CANCELLED, said="CANCELLED", detail=CUT),
    Row(code=grpc.StatusCode.UNAVAILABLE, said="store: locked\ntry again", detail="store: locked"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.said)
def test_what_grpc_says_of_a_lost_daemon_is_said_in_our_words(row: Row) -> None:
    found = refused(Failure(row.code, row.said), "issuer")
    assert (found.kind, found.detail) == (Kind.UNAVAILABLE, row.detail)
    assert found.hint
