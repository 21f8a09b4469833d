"""The generated services: each method of a service at both ends, and what the generator refuses."""

from operator import methodcaller
from typing import TypeVar

import pytest
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from attestor.api.inspect import Inspect
from cognomen.wire.generate import answer
from cognomen.wire.pb import admin_pb2, inspect_pb2
from cognomen.wire.pb.admin_rpc import AdminClient, AdminServicer
from cognomen.wire.pb.inspect_rpc import InspectClient, InspectServicer
from issuer.api.admin.service import AdminService

ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"]
INSPECT = inspect_pb2.DESCRIPTOR.services_by_name["Inspect"]
ReplyT = TypeVar("ReplyT", bound=Message)


def types_of(service: ServiceDescriptor) -> dict[str, tuple[str, str]]:
    """What the .proto file says: the names of request and reply, by path."""
    return {
        f"/{service.full_name}/{method.name}": (method.input_type.full_name, method.output_type.full_name)
        for method in service.methods
    }


def bound(_: object, request: type[Message], reply: type[Message], /) -> tuple[str, str]:
    return request.DESCRIPTOR.full_name, reply.DESCRIPTOR.full_name


@pytest.mark.parametrize(
    ("servicer", "made", "service"),
    [(AdminServicer, AdminService, ADMIN), (InspectServicer, Inspect, INSPECT)],
    ids=["admin", "inspect"],
)
def test_each_method_of_a_service_is_bound(
    servicer: type[AdminServicer | InspectServicer],
    made: type[AdminService | Inspect],
    service: ServiceDescriptor,
) -> None:
    door = made.__new__(made)
    assert issubclass(made, servicer)
    assert door.bind(bound) == types_of(service)


@pytest.mark.parametrize(
    ("client", "service"), [(AdminClient, ADMIN), (InspectClient, INSPECT)], ids=["admin", "inspect"]
)
def test_each_method_of_a_service_can_be_called(
    client: type[AdminClient | InspectClient], service: ServiceDescriptor
) -> None:
    asked: dict[str, tuple[str, str]] = {}

    def ask(path: str, request: Message, reply: type[ReplyT], /) -> ReplyT:
        asked[path] = bound(ask, type(request), reply)
        return reply()

    made = client(ask)
    for method in service.methods:
        request = [GetMessageClass(method.input_type)()] if method.input_type.fields else []
        assert methodcaller(snake(method.name), *request)(made).DESCRIPTOR is method.output_type
    assert asked == types_of(service)


def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")


def request_for(comment: str, *, streams: bool = False) -> CodeGeneratorRequest:
    """What protoc asks for a file with one service of one method."""
    file = FileDescriptorProto(name="some/where/door.proto", package="some.v1")
    outer = file.message_type.add(name="Knock")
    outer.field.add(name="times", number=1)
    outer.nested_type.add(name="Answer")
    method = file.service.add(name="Door").method.add(name="KnockX509Door", input_type=".some.v1.Knock")
    method.output_type, method.server_streaming = ".some.v1.Knock.Answer", streams
    file.source_code_info.location.add(path=[6, 0, 2, 0], leading_comments=comment)
    return CodeGeneratorRequest(file_to_generate=[file.name], proto_file=[file])


def test_a_comment_of_the_proto_file_is_the_docstring_at_both_ends() -> None:
    (made,) = answer(request_for(" Knock.\n Who is there says so.\n")).file
    assert made.name == "some/where/door_rpc.py"
    compile(made.content, made.name, "exec")
    docstring = '        """Knock.\n\n        Who is there says so.\n        """\n'
    sign = "def knock_x509_door(self, request: door_pb2.Knock) -> door_pb2.Knock.Answer:\n"
    assert made.content.count(sign + docstring) == 2
    assert "from some.where import door_pb2\n" in made.content


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        (request_for(""), "expected a comment above it"),
        (request_for(' """ + exit() + """\n'), "without quotes"),
        (request_for(" Knock.\n", streams=True), "found a stream"),
    ],
    ids=["no comment", "quotes", "stream"],
)
def test_a_method_that_cannot_be_written_is_refused(asked: CodeGeneratorRequest, fault: str) -> None:
    made = answer(asked)
    assert fault in made.error
    assert "some.v1.Door/KnockX509Door" in made.error
    assert not made.file
