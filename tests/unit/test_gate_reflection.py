"""Health and reflection behind the gate, asked by stock messages."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from grpclib.const import Status

from cognomen.daemon.gate import Limits, listen
from cognomen.daemon.health import Health, HealthState
from cognomen.daemon.reflection import Reflection, pool_without_package
from cognomen.daemon.unixrpc import serve
from svid.wire.pb import workload_pb2

SERVICES = ("SpiffeWorkloadAPI", "grpc.health.v1.Health")


def translate(_: Exception) -> tuple[Status, str]:
    return Status.INTERNAL, "internal error"


@pytest.fixture
def state() -> HealthState:
    return HealthState("SpiffeWorkloadAPI")


@pytest.fixture
async def channel(tmp_path: Path, state: HealthState) -> AsyncIterator[grpc.aio.Channel]:
    pool = pool_without_package(workload_pb2.DESCRIPTOR)
    listener = listen(tmp_path / "s", 0o600)
    async with (
        serve(listener, lambda _: [Health(state), Reflection(SERVICES, pool)], Limits(), translate=translate),
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
    assert [service.name for service in response.list_services_response.service] == list(SERVICES)


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


async def test_messages_have_no_extensions(channel: grpc.aio.Channel) -> None:
    (response,) = await reflected(channel, "v1", ServerReflectionRequest(all_extension_numbers_of_type="X509SVID"))
    assert list(response.all_extension_numbers_response.extension_number) == []


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
