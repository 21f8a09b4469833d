"""Who has an SVID of a node that was replaced may dial, and takes nothing from the node by it."""

import asyncio
import contextlib
import socket
from pathlib import Path

import grpc

from tests.flow.issuer_harness import running
from tests.flow.test_issuer_node_door import tls


async def test_connections_by_a_replaced_svid_end_none_by_which_the_node_is_served(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        old = await issuer.join()
        node = await old.renew()
        feed = node.follow()
        await feed.read()  # from here on the first SVID is superseded
        await old.close()
        context, host, port = tls(old, tmp_path), *issuer.bound.node_address.rpartition(":")[::2]

        def dial_often() -> None:
            with contextlib.ExitStack() as held:
                for _ in range(12):
                    plain = held.enter_context(socket.create_connection((host, int(port)), timeout=20))
                    with contextlib.suppress(OSError):
                        held.enter_context(context.wrap_socket(plain)).sendall(b"PRI")

        await asyncio.to_thread(dial_often)
        async with asyncio.timeout(20):
            assert await feed.read() is not grpc.aio.EOF  # a word every 5 s
        feed.cancel()
        await node.close()
