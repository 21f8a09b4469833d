"""The client of the service Inspect, in which an attestor describes itself over its workload socket."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from cognomen.cli.asking import Asking
from cognomen.cli.options import workload_address
from cognomen.cli.reach import check_workload_api
from cognomen.wire.pb.inspect_rpc import InspectClient
from svid.workloadapi.address import endpoint_target

__all__ = ["inspecting"]

_SECONDS = 10.0
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.default_authority", "localhost"))


@contextmanager
def inspecting(socket: str) -> Iterator[InspectClient]:
    """Connect to an attestor's workload socket; each call raises the attestor's refusal.

    Raises:
        Refused: UNAVAILABLE when no attestor listens there.
    """
    target = endpoint_target(check_workload_api(workload_address(socket)))
    with grpc.insecure_channel(target, options=_OPTIONS) as channel:
        yield InspectClient(Asking(channel, "attestor", lambda _: _SECONDS))
