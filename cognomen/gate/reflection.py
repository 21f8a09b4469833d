"""gRPC reflection (v1 and v1alpha) for a gated Unix socket: shows what it serves, and nothing else that this process has loaded.

Both versions have the same messages on the wire, so we serve both with those of grpcio-reflection, mapped by hand (ADR-0001).
Decided here: how the Workload API is shown under the standard's name without a package. Not decided here: what is served (the doors).
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Protocol
from weakref import WeakKeyDictionary

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from grpc_reflection.v1alpha.reflection_pb2 import (
    DESCRIPTOR,
    ErrorResponse,
    ExtensionNumberResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

__all__ = ["Reflection", "pool_without_package"]

_MOST_REQUESTS = 32  # on one stream: a frame can hold two thousand, which no earlier limit counts; a client with more opens another stream
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""We answer one request in each turn of the loop, for all clients: arrived requests are read without a wait, and others need a turn."""


def pool_without_package(file: FileDescriptor) -> DescriptorPool:
    """Copy a file and its imports into a new pool; the file itself loses its package.

    The standard's file has no package; ours has one, because two files without one cannot be in the default pool of one process.
    """
    return _pool_of(file, name=file.name, package="")


def _pool_of(file: FileDescriptor, *, name: str, package: str) -> DescriptorPool:
    pool = DescriptorPool()
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    for imported in file.dependencies:
        _copy(imported, pool)
    old, new = f".{proto.package}.", f".{package}." if package else "."
    proto.name, proto.package = name, package
    for message in proto.message_type:
        _rename(message, old, new)
    for method in (method for service in proto.service for method in service.method):
        method.input_type = _renamed(method.input_type, old, new)
        method.output_type = _renamed(method.output_type, old, new)
    pool.Add(proto)
    return pool


def _copy(file: FileDescriptor, pool: DescriptorPool) -> None:
    for imported in file.dependencies:
        _copy(imported, pool)
    pool.AddSerializedFile(file.serialized_pb)


def _rename(message: DescriptorProto, old: str, new: str) -> None:
    for field in message.field:
        if field.type_name:
            field.type_name = _renamed(field.type_name, old, new)
    for nested in message.nested_type:
        _rename(nested, old, new)


def _renamed(name: str, old: str, new: str) -> str:
    return f"{new}{name.removeprefix(old)}" if name.startswith(old) else name


_V1 = _pool_of(DESCRIPTOR, name="grpc/reflection/v1/reflection.proto", package="grpc.reflection.v1")
"""grpcio has only v1alpha."""


class Serves(Protocol):
    """A service, of which we use only the paths of its methods."""

    def __mapping__(self) -> Mapping[str, Handler]:
        """Shape: {"/package.Service/Method": …}."""


class Reflection:
    """The reflection services of one connection.

    Args:
        served: what else its socket serves.
        pool: holds descriptors that the default pool does not have.
    """

    def __init__(self, served: Sequence[Serves], pool: DescriptorPool | None = None) -> None:
        self._served = served
        self._pools = (_V1, Default()) if pool is None else (pool, _V1, Default())

    def __mapping__(self) -> Mapping[str, Handler]:
        handler = Handler(self._answer, Cardinality.STREAM_STREAM, ServerReflectionRequest, ServerReflectionResponse)
        return {
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo": handler
            for version in ("v1", "v1alpha")
        }

    async def _answer(self, stream: Stream[ServerReflectionRequest, ServerReflectionResponse]) -> None:
        turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        answered = 0
        async for request in stream:
            if answered == _MOST_REQUESTS:
                raise GRPCError(
                    Status.RESOURCE_EXHAUSTED, f"stream: too many requests, expected at most {_MOST_REQUESTS}"
                )
            answered += 1
            async with turn:
                await asyncio.sleep(0)
                response = self._response(request)
            response.original_request.CopyFrom(request)
            await stream.send_message(response)  # outside the lock, so that nobody waits for a peer that does not read

    @cached_property
    def _names(self) -> Sequence[str]:
        return sorted({path.split("/")[1] for one in (*self._served, self) for path in one.__mapping__()})

    def _response(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        with suppress(KeyError):
            match request.WhichOneof("message_request"):
                case "list_services":
                    named = [ServiceResponse(name=name) for name in self._names]
                    return ServerReflectionResponse(list_services_response=ListServiceResponse(service=named))
                case "file_by_filename":
                    return _files(self._shown[request.file_by_filename])
                case "file_containing_symbol":
                    return _files(self._file_of(request.file_containing_symbol))
                case "all_extension_numbers_of_type":
                    name = request.all_extension_numbers_of_type
                    self._file_of(name)
                    numbers = ExtensionNumberResponse(base_type_name=name)  # empty: proto3 has no extensions
                    return ServerReflectionResponse(all_extension_numbers_response=numbers)
        error = ErrorResponse(error_code=Status.NOT_FOUND.value, error_message="name: not served on this socket")
        return ServerReflectionResponse(error_response=error)

    @cached_property
    def _shown(self) -> Mapping[str, FileDescriptor]:
        """The files of what is served, and all their imports, by name."""
        found: dict[str, FileDescriptor] = {}
        for name in self._names:
            _collect(self._find(name), found)
        return found

    def _file_of(self, symbol: str) -> FileDescriptor:
        file = self._find(symbol)
        if self._shown.get(file.name) is not file:
            raise KeyError(symbol)
        return file

    def _find(self, symbol: str) -> FileDescriptor:
        for pool in self._pools:
            with suppress(KeyError):
                return pool.FindFileContainingSymbol(symbol)
        raise KeyError(symbol)


def _collect(file: FileDescriptor, found: dict[str, FileDescriptor]) -> None:
    if file.name not in found:
        found[file.name] = file
        for imported in file.dependencies:
            _collect(imported, found)


def _files(file: FileDescriptor) -> ServerReflectionResponse:
    """The file and all its imports, each once."""
    found: dict[str, FileDescriptor] = {}
    _collect(file, found)
    return ServerReflectionResponse(
        file_descriptor_response=FileDescriptorResponse(
            file_descriptor_proto=[one.serialized_pb for one in found.values()]
        )
    )
