"""Health and reflection behind the gate, asked by stock messages."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from grpclib.const import Handler, Status

from cognomen.gate.caller import Caller
from cognomen.gate.gate import Limits, listen
from cognomen.gate.health import Health, HealthState
from cognomen.gate.reflection import Reflection, pool_without_package
from cognomen.gate.unixrpc import Service, serve
from cognomen.wire.pb import admin_pb2
from svid.wire.pb import workload_pb2

REFLECTION = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]
SERVICES = ["SpiffeWorkloadAPI", "grpc.health.v1.Health", *REFLECTION]


class Workload:
    """A service under the standard's name."""

    def __mapping__(self) -> Mapping[str, Handler]:
        return {"/SpiffeWorkloadAPI/FetchX509SVID": next(iter(Health(HealthState("x")).__mapping__().values()))}


LOADED = admin_pb2.DESCRIPTOR.package
"""In this process, and not served."""


def translate(_: Exception) -> tuple[Status, str]:
    return Status.INTERNAL, "internal error"


@pytest.fixture
def state() -> HealthState:
    return HealthState("SpiffeWorkloadAPI")


@pytest.fixture
async def channel(tmp_path: Path, state: HealthState) -> AsyncIterator[grpc.aio.Channel]:
    pool = pool_without_package(workload_pb2.DESCRIPTOR)
    listener = listen(tmp_path / "s", 0o600)

    def services(_: Caller) -> Sequence[Service]:
        served: list[Service] = [Workload(), Health(state)]
        return [*served, Reflection(served, pool)]

    async with (
        serve(listener, services, Limits(), translate=translate),
        grpc.aio.insecure_channel(f"unix:{tmp_path / 's'}") as opened,
    ):
        yield opened


async def reflected(
    channel: grpc.aio.Channel, version: str, *requests: ServerReflectionRequest
) -> Sequence[ServerReflectionResponse]:
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    return [response async for response in ask(iter(requests))]


@pytest.mark.clause("WE-21")
@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_services_are_listed_in_both_versions(channel: grpc.aio.Channel, version: str) -> None:
    (response,) = await reflected(channel, version, ServerReflectionRequest(list_services=""))
    assert [service.name for service in response.list_services_response.service] == SERVICES


async def test_workload_api_is_shown_without_a_package_and_builds_into_a_pool(channel: grpc.aio.Channel) -> None:
    (response,) = await reflected(channel, "v1", ServerReflectionRequest(file_containing_symbol="SpiffeWorkloadAPI"))
    files = [FileDescriptorProto.FromString(raw) for raw in response.file_descriptor_response.file_descriptor_proto]
    pool = DescriptorPool()
    for file in reversed(files):
        pool.AddSerializedFile(file.SerializeToString())
    method = pool.FindServiceByName("SpiffeWorkloadAPI").methods_by_name["FetchX509SVID"]
    assert method.server_streaming
    assert method.output_type.full_name == "X509SVIDResponse"
    assert {field.name for field in method.output_type.fields} == {"svids", "crl", "federated_bundles"}


async def test_health_is_found_by_symbol_and_by_file_name(channel: grpc.aio.Channel) -> None:
    by_symbol, by_name = await reflected(
        channel,
        "v1",
        ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        ServerReflectionRequest(file_by_filename="grpc_health/v1/health.proto"),
    )
    assert by_symbol.file_descriptor_response == by_name.file_descriptor_response


@pytest.mark.parametrize(
    "request_",
    [
        ServerReflectionRequest(file_by_filename="none.proto"),
        ServerReflectionRequest(file_containing_symbol="none.None"),
        ServerReflectionRequest(file_containing_symbol=f"{LOADED}.Admin"),
        ServerReflectionRequest(file_by_filename=admin_pb2.DESCRIPTOR.name),
        ServerReflectionRequest(all_extension_numbers_of_type=f"{LOADED}.CreateInviteRequest"),
        ServerReflectionRequest(all_extension_numbers_of_type="none.None"),
        ServerReflectionRequest(),
    ],
)
async def test_unknown_names_are_not_found_and_the_stream_goes_on(
    channel: grpc.aio.Channel, request_: ServerReflectionRequest
) -> None:
    first, second = await reflected(channel, "v1", request_, ServerReflectionRequest(list_services=""))
    assert first.error_response.error_code == Status.NOT_FOUND.value
    assert first.original_request == request_
    assert second.HasField("list_services_response")


@pytest.mark.parametrize("service", SERVICES)
async def test_each_service_that_is_listed_builds_into_a_pool(channel: grpc.aio.Channel, service: str) -> None:
    (response,) = await reflected(channel, "v1", ServerReflectionRequest(file_containing_symbol=service))
    pool = DescriptorPool()
    for raw in reversed(response.file_descriptor_response.file_descriptor_proto):
        pool.AddSerializedFile(raw)
    assert pool.FindServiceByName(service).methods


async def test_messages_have_no_extensions(channel: grpc.aio.Channel) -> None:
    (response,) = await reflected(channel, "v1", ServerReflectionRequest(all_extension_numbers_of_type="X509SVID"))
    assert list(response.all_extension_numbers_response.extension_number) == []


async def test_a_stream_has_an_end_to_its_requests(channel: grpc.aio.Channel) -> None:
    one = ServerReflectionRequest(list_services="")
    assert len(await reflected(channel, "v1", *[one] * 32)) == 32
    with pytest.raises(grpc.aio.AioRpcError, match="too many requests, expected at most 32") as refused:
        await reflected(channel, "v1", *[one] * 33)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


class AllAtOnce:
    """A stream whose requests are all there, and whose peer takes everything."""

    def __init__(self, requests: int) -> None:
        self._left = requests
        self.turns: list[int] = []
        self.turn = 0

    def __aiter__(self) -> "AllAtOnce":
        return self

    async def __anext__(self) -> ServerReflectionRequest:
        self._left -= 1
        if self._left < 0:
            raise StopAsyncIteration
        return ServerReflectionRequest(list_services="")

    async def send_message(self, _: ServerReflectionResponse) -> None:
        self.turns.append(self.turn)

    async def count(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


async def test_one_request_is_answered_in_each_turn_of_the_loop_however_many_ask() -> None:
    streams = [AllAtOnce(10) for _ in range(5)]
    counting = [asyncio.create_task(stream.count()) for stream in streams]
    handlers = [next(iter(Reflection([]).__mapping__().values())) for _ in streams]
    await asyncio.gather(*(handler.func(stream) for handler, stream in zip(handlers, streams, strict=True)))
    for one in counting:
        one.cancel()
    assert len({turn for stream in streams for turn in stream.turns}) == 50


@pytest.mark.parametrize("service", ["", "SpiffeWorkloadAPI"])
async def test_health_says_whether_we_serve(channel: grpc.aio.Channel, state: HealthState, service: str) -> None:
    stub, request = HealthStub(channel), HealthCheckRequest(service=service)
    assert (await stub.Check(request)).status == HealthCheckResponse.NOT_SERVING
    state.set_serving(serving=True)
    assert (await stub.Check(request)).status == HealthCheckResponse.SERVING


async def test_health_of_an_unknown_service_is_not_found(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await HealthStub(channel).Check(HealthCheckRequest(service="other"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watched_health_is_told_at_once_and_at_each_change(channel: grpc.aio.Channel, state: HealthState) -> None:
    watched = HealthStub(channel).Watch(HealthCheckRequest())
    assert (await watched.read()).status == HealthCheckResponse.NOT_SERVING
    state.set_serving(serving=True)
    assert (await watched.read()).status == HealthCheckResponse.SERVING


async def test_watched_unknown_service_is_said_to_be_unknown(channel: grpc.aio.Channel) -> None:
    watched = HealthStub(channel).Watch(HealthCheckRequest(service="other"))
    assert (await watched.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
