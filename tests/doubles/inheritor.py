"""A program that connects to a Workload API, forks and exits; its child asks for X509-SVIDs on the connection it inherited.

`python -m tests.doubles.inheritor SOCKET` prints the SPIFFE IDs that the child got, or `refused`. Unless it is told `--at-once`, the parent
goes on when its standard input ends: once the server has accepted the connection.
"""

import asyncio
import os
import signal
import socket
import sys

from grpclib.client import Channel
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol

from svid.wire.pb import workload_pb2 as pb
from tests.doubles.workloadside import open_stream

_END_SECONDS = 30


class _InheritedChannel(Channel):
    """A channel on a connection that is there already."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(path="inherited")
        self._connection = connection

    async def _create_connection(self) -> H2Protocol:
        _, protocol = await self._loop.create_unix_connection(self._protocol_factory, sock=self._connection)
        return protocol


async def _ask(connection: socket.socket) -> str:
    channel = _InheritedChannel(connection)
    try:
        async with open_stream(channel, "FetchX509SVID", pb.X509SVIDRequest(), pb.X509SVIDResponse) as answers:
            return ",".join(svid.spiffe_id for svid in (await answers.next()).svids)
    except (
        GRPCError,
        StreamTerminatedError,
        OSError,
        AttributeError,
    ):  # the last: grpclib's word for one closed before
        return "refused"
    finally:
        channel.close()


def main(path: str, *, at_once: bool) -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    if not at_once:
        sys.stdin.read()
    life, of_parent = os.pipe()
    if os.fork() != 0:
        os._exit(0)
    os.close(of_parent)
    signal.alarm(_END_SECONDS)  # nobody else ends it
    os.read(life, 1)  # returns when the parent has exited
    print(asyncio.run(_ask(connection)), flush=True)  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main(sys.argv[1], at_once="--at-once" in sys.argv)
