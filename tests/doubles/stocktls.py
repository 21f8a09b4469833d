"""TLS as somebody else's program speaks it: an ordinary context of an identity, which does what LiveContext does not."""

import ssl
from pathlib import Path

from svid.source import X509Identity

__all__ = ["StockContext", "stock_context"]


class StockContext(ssl.SSLContext):
    """An ordinary context; on the client's side it asks to resume the session that it was given."""

    kept: ssl.SSLSession | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the stdlib's signature
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Resume, where asyncio would begin a new session."""
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session or self.kept)


def stock_context(identity: X509Identity, folder: Path, *, server_side: bool) -> StockContext:
    """Make a context that shows this identity, and trusts its bundles all together."""
    context = StockContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    for bundle in identity.bundles.values():
        context.load_verify_locations(cadata=bundle.x509_der())
    path = folder / f"{identity.svid.serial}.pem"
    path.write_bytes(identity.svid.chain_pem() + identity.svid.key_pem())
    context.load_cert_chain(path)
    return context
