"""Mutual TLS in asyncio.

`end_when_revoked` is for loops other than asyncio's own, such as uvloop: it ends an idle connection too.

Names: end_when_revoked
"""

import asyncio

from svid import X509Source, any_in, client_context, end_when_revoked, peer_id, server_context


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    end_when_revoked(writer.transport)
    writer.write(f"hello, {peer_id(writer.get_extra_info('ssl_object'))}".encode())
    writer.close()


async def main() -> None:
    everybody = any_in("example.org")
    with await X509Source.connect() as source:
        server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server_context(source, everybody))
        async with server:
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address, ssl=client_context(source, everybody))
            print((await reader.read()).decode())
            writer.close()


asyncio.run(main())
