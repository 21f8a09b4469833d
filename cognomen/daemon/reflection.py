"""gRPC reflection (v1 and v1alpha) for a gated Unix socket, from a descriptor pool of one's own.

Both versions have the same messages on the wire, so both are served with those of grpcio-reflection, mapped by hand (ADR-0001).
Decided here: how the Workload API is shown under the standard's name without a package. Not decided here: what is served (the doors).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from grpc_reflection.v1alpha.reflection_pb2 import (
    ErrorResponse,
    ExtensionNumberResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)
from grpclib.const import Cardinality, Handler, Status
from grpclib.server import Stream

__all__ = ["Reflection", "pool_without_package"]


def pool_without_package(file: FileDescriptor) -> DescriptorPool:
    """Copy a file and what it imports into a new pool, the file itself without its package.

    The standard's file has no package; ours has one, because two such files cannot live in one process's default pool.
    """
    pool = DescriptorPool()
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    for imported in file.dependencies:
        _copy(imported, pool)
    prefix, proto.package = f".{proto.package}.", ""
    for message in proto.message_type:
        _strip(message, prefix)
    for method in (method for service in proto.service for method in service.method):
        method.input_type = _stripped(method.input_type, prefix)
        method.output_type = _stripped(method.output_type, prefix)
    pool.Add(proto)
    return pool


def _copy(file: FileDescriptor, pool: DescriptorPool) -> None:
    for imported in file.dependencies:
        _copy(imported, pool)
    pool.AddSerializedFile(file.serialized_pb)


def _strip(message: DescriptorProto, prefix: str) -> None:
    for field in message.field:
        if field.type_name:
            field.type_name = _stripped(field.type_name, prefix)
    for nested in message.nested_type:
        _strip(nested, prefix)


def _stripped(name: str, prefix: str) -> str:
    return f".{name.removeprefix(prefix)}" if name.startswith(prefix) else name


class Reflection:
    """The reflection services of one connection.

    Args:
        services: full names of what the socket serves.
        pool: where their descriptors are; those of health and reflection are found by themselves.
    """

    def __init__(self, services: Sequence[str], pool: DescriptorPool) -> None:
        self._services = services
        self._pools = (pool, Default())

    def __mapping__(self) -> Mapping[str, Handler]:
        handler = Handler(self._answer, Cardinality.STREAM_STREAM, ServerReflectionRequest, ServerReflectionResponse)
        return {
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo": handler
            for version in ("v1", "v1alpha")
        }

    async def _answer(self, stream: Stream[ServerReflectionRequest, ServerReflectionResponse]) -> None:
        async for request in stream:
            response = self._response(request)
            response.original_request.CopyFrom(request)
            await stream.send_message(response)

    def _response(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        with suppress(KeyError):
            match request.WhichOneof("message_request"):
                case "list_services":
                    named = [ServiceResponse(name=name) for name in self._services]
                    return ServerReflectionResponse(list_services_response=ListServiceResponse(service=named))
                case "file_by_filename":
                    return _files(self._find(lambda pool: pool.FindFileByName(request.file_by_filename)))
                case "file_containing_symbol":
                    return _files(
                        self._find(lambda pool: pool.FindFileContainingSymbol(request.file_containing_symbol))
                    )
                case "all_extension_numbers_of_type":
                    name = request.all_extension_numbers_of_type
                    self._find(lambda pool: pool.FindMessageTypeByName(name).file)
                    numbers = ExtensionNumberResponse(base_type_name=name)  # none: proto3 has no extensions
                    return ServerReflectionResponse(all_extension_numbers_response=numbers)
        error = ErrorResponse(
            error_code=Status.NOT_FOUND.value, error_message="expected a name that this socket serves, found another"
        )
        return ServerReflectionResponse(error_response=error)

    def _find(self, look: Callable[[DescriptorPool], FileDescriptor]) -> FileDescriptor:
        for pool in self._pools:
            with suppress(KeyError):
                return look(pool)
        raise KeyError


def _files(file: FileDescriptor) -> ServerReflectionResponse:
    """The file and all it imports, each once."""
    found: dict[str, bytes] = {}

    def collect(one: FileDescriptor) -> None:
        if one.name not in found:
            found[one.name] = one.serialized_pb
            for imported in one.dependencies:
                collect(imported)

    collect(file)
    return ServerReflectionResponse(
        file_descriptor_response=FileDescriptorResponse(file_descriptor_proto=found.values())
    )
