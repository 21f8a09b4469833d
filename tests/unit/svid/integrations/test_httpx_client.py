"""What a client of httpx for asyncio leaves behind."""

import asyncio
import socket

import pytest

from svid.integrations.httpx_client import httpx_async_client
from svid.tls.authorize import exactly
from tests.doubles.identity import SERVER, Identity


@pytest.mark.parametrize("by_proxy", [False, True])
async def test_a_request_that_is_cancelled_amidst_the_handshake_closes_its_connection(
    client: Identity, *, by_proxy: bool
) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"//127.0.0.1:{listener.getsockname()[1]}/"
        proxy = f"http:{url}" if by_proxy else None
        async with asyncio.timeout(20), httpx_async_client(client, exactly(SERVER), proxy=proxy) as session:
            asking = asyncio.ensure_future(session.get(f"https:{url}"))
            near, _ = await loop.sock_accept(listener)
            with near:
                if by_proxy:
                    assert (await loop.sock_recv(near, 4096)).startswith(b"CONNECT ")
                    await loop.sock_sendall(near, b"HTTP/1.1 200 OK\r\n\r\n")
                assert await loop.sock_recv(near, 4096), "the beginning of the handshake"
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                assert await loop.sock_recv(near, 4096) == b""
