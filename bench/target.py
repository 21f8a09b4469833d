"""The process that is revoked in the rows of revocation: it serves with an identity that it fetched once, even after that was revoked."""

import asyncio
import contextlib
import json
import ssl
import sys

from bench.sdk_rows import plain_context
from svid import JWTSource, SpiffeID, X509Source

__all__ = ["AUDIENCE"]

AUDIENCE = "db"
_PAUSE_SECONDS = 0.1


async def _send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a byte again and again, until nobody reads it."""
    with contextlib.suppress(OSError):
        while not writer.is_closing():
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(_PAUSE_SECONDS)


async def _serve(context: ssl.SSLContext, shown: dict[str, str]) -> None:
    server = await asyncio.start_server(_send, "127.0.0.1", 0, ssl=context)
    async with server:
        print(json.dumps({**shown, "port": server.sockets[0].getsockname()[1]}), flush=True)
        await server.serve_forever()


def main(endpoint: str, spiffe_id: SpiffeID) -> None:
    """Fetch an X509-SVID and a token for that SPIFFE ID, report them, and serve."""
    with (
        X509Source(endpoint, pick=lambda svids: next(one for one in svids if one.spiffe_id == spiffe_id)) as x509,
        JWTSource(endpoint) as jwt,
    ):
        svid, token = x509.svid, jwt.fetch(AUDIENCE, spiffe_id=spiffe_id)
        roots = x509.bundle_for(spiffe_id.trust_domain).x509_der()
    shown = {
        "serial": f"{svid.serial:032x}",
        "jti": token.jti or "",
        "token": token.token,
        "chain": svid.chain_der().hex(),
    }
    asyncio.run(_serve(plain_context(svid, roots, server_side=True), shown))


if __name__ == "__main__":
    main(sys.argv[1], SpiffeID.parse(sys.argv[2]))
