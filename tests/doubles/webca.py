"""An authority as the web has them: it vouches for host names, `localhost` by default, and knows nothing of SPIFFE IDs."""

import ssl
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.ca import CA_USAGE, Draft, make_authority, make_leaf
from svid.clock import SystemClock

__all__ = ["WebAuthority"]

_HOUR = timedelta(hours=1)


class WebAuthority:
    """Its certificate is in the file `path`, as `verify=` and variables of the environment name one.

    What it vouches for is in `identity`.
    """

    def __init__(self, folder: Path, *, name: str = "web authority", hosts: tuple[str, ...] = ("localhost",)) -> None:
        now = SystemClock().now()
        authority = make_authority(
            Draft(
                name=name,
                subject=name,
                uris=(),
                ca=True,
                usage=CA_USAGE,
                extended_usage=None,
                not_before=now - _HOUR,
                not_after=now + 24 * _HOUR,
            ),
            trust_domain="web.example",
        )
        leaf, key = make_leaf(
            Draft(
                name=f"localhost by {name}",
                subject="localhost",
                uris=(),
                dns_names=hosts,
                san_critical=False,
                not_before=now - _HOUR,
                not_after=now + _HOUR,
            ),
            authority,
        )
        self.path = folder / "web-authority.pem"
        self.path.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        self.identity = folder / "localhost.pem"
        self.identity.write_bytes(
            leaf.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )

    def server_context(self) -> ssl.SSLContext:
        """The TLS of a server that has one of the names, and asks for no certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.identity)
        return context

    def client_context(self) -> ssl.SSLContext:
        """The TLS of an ordinary client that trusts this authority."""
        return ssl.create_default_context(cafile=self.path)
