"""gRPC over mutual TLS, with a token on top.

A `PeerCheck` checks the connection's X509-SVID at each call, and a `BearerCheck` the token that came with the call.

Names: PeerCheck, BearerCheck, grpc_server, grpc_interceptor, grpc_channel, grpc_bearer_credentials
"""

from concurrent.futures import ThreadPoolExecutor

import grpc

from svid import (
    BearerCheck,
    JWTSource,
    PeerCheck,
    X509Source,
    exactly,
    grpc_bearer_credentials,
    grpc_channel,
    grpc_interceptor,
    grpc_server,
)

web = exactly("spiffe://example.org/web")
with X509Source() as source, JWTSource() as tokens, ThreadPoolExecutor(8) as workers:
    check = PeerCheck(source, web)
    bearer = BearerCheck(tokens, audience="bookings", authorize=web)

    def book(place: bytes, context: grpc.ServicerContext) -> bytes:
        return f"{place.decode()} for {check(context)}".encode()

    methods = {"Book": grpc.unary_unary_rpc_method_handler(book)}
    server, port = grpc_server(
        "127.0.0.1:0",
        check,
        workers,
        interceptors=[grpc_interceptor(bearer)],
        handlers=[grpc.method_handlers_generic_handler("travel.Connector", methods)],
    )
    server.start()
    with grpc_channel(f"127.0.0.1:{port}", source, web) as channel:
        call = channel.unary_unary("/travel.Connector/Book")
        print(call(b"Lisbon", credentials=grpc_bearer_credentials(tokens, "bookings"), timeout=10).decode())
        try:
            call(b"Lisbon", timeout=10)
        except grpc.RpcError as e:
            assert e.code() is grpc.StatusCode.UNAUTHENTICATED
    server.stop(0).wait()
