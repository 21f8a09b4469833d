"""Ask one of our daemons over its Unix socket whether it is serving, for supervisors and probes."""

import click
import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from cognomen.cli.asking import refused

__all__ = ["tell_health"]

_SECONDS = 5.0
_NOT_SERVING = 1


def tell_health(target: str, *, more: str) -> int:
    """Print whether it is serving, and how to see why not; returns the exit code of the command.

    Args:
        more: the command that says why.
        target: in gRPC's notation, such as unix:/run/cognomen/api.sock.

    Raises:
        Refused: UNAVAILABLE when it does not answer in time.
    """
    options = (("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.default_authority", "localhost"))
    with grpc.insecure_channel(target, options=options) as channel:
        check: grpc.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse] = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        try:
            serves = check(HealthCheckRequest(), timeout=_SECONDS).status == HealthCheckResponse.SERVING
        except grpc.RpcError as e:
            raise refused(e, "daemon") from e
    click.echo("serving" if serves else "not serving")
    if not serves:
        click.echo(f"hint: {more} says why", err=True)
    return 0 if serves else _NOT_SERVING
