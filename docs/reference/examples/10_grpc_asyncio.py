"""gRPC over mutual TLS in asyncio.

`grpc_aio_interceptor` adds a `BearerCheck`, or checks the calls of a server that you make yourself.

Names: grpc_aio_server, grpc_aio_channel, grpc_aio_interceptor
"""

import asyncio

import grpc

from svid import (
    BearerCheck,
    JWTSource,
    PeerCheck,
    X509Source,
    exactly,
    grpc_aio_channel,
    grpc_aio_interceptor,
    grpc_aio_server,
    grpc_bearer_credentials,
)


async def book(place: bytes, _: grpc.aio.ServicerContext) -> bytes:
    return place + b", booked"


async def main() -> None:
    web = exactly("spiffe://example.org/web")
    handler = grpc.unary_unary_rpc_method_handler(book)
    with await X509Source.connect() as source, await JWTSource.connect() as tokens:
        bearer = BearerCheck(tokens, audience="bookings", authorize=web)
        server, port = grpc_aio_server(
            "127.0.0.1:0",
            PeerCheck(source, web),
            interceptors=[grpc_aio_interceptor(bearer)],
            handlers=[grpc.method_handlers_generic_handler("travel.Connector", {"Book": handler})],
        )
        await server.start()
        async with grpc_aio_channel(f"127.0.0.1:{port}", source, web) as channel:
            call = channel.unary_unary("/travel.Connector/Book")
            credentials = grpc_bearer_credentials(tokens, "bookings")
            print((await call(b"Lisbon", credentials=credentials, timeout=10)).decode())
        await server.stop(0)


asyncio.run(main())
