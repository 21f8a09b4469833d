"""Rows of the SDK: what a LiveContext costs beside a context that is made once."""

import os
import ssl
import statistics
import tempfile
import time

from bench.house import House
from bench.results import Measured
from bench.settings import Settings
from svid import TrustDomain, X509Source, any_in, client_context, server_context
from svid.x509svid import X509SVID

__all__ = ["handshakes"]

_ROUNDS = 15
_A_ROUND = 100


def handshakes(settings: Settings) -> Measured:
    """Full mutual TLS 1.3 handshakes between buffers, turn by turn with plain contexts; the chain is known after the first."""
    with House.serving(settings.directory) as house:
        house.create(house.entry("self"))
        with X509Source(f"unix://{house.socket}") as source:
            everybody = any_in(TrustDomain("example.org"))
            live = client_context(source, everybody), server_context(source, everybody)
            roots = source.bundle_for(source.svid.spiffe_id.trust_domain).x509_der()
            plain = _plain(source.svid, roots, server_side=False), _plain(source.svid, roots, server_side=True)
            ratios, rates = [], []
            for _ in range(settings.count(_ROUNDS)):
                before, ours = _seconds(*plain), _seconds(*live)
                ratios.append(before / ours)
                rates.append(_A_ROUND / ours)
    figures = {"times plain": statistics.median(ratios), "per CPU-second": statistics.median(rates)}
    return Measured(figures=figures, samples=len(ratios))


def _seconds(client: ssl.SSLContext, server: ssl.SSLContext) -> float:
    """The CPU that a round takes."""
    began = time.process_time()
    for _ in range(_A_ROUND):
        _shake_hands(client, server)
    return time.process_time() - began


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    waiting = [
        client.wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)


def _plain(svid: X509SVID, roots: bytes, *, server_side: bool) -> ssl.SSLContext:
    """What somebody without the SDK would set up by hand, once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=roots)
    if server_side:
        context.num_tickets = 0
    with tempfile.NamedTemporaryFile() as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(svid.chain_pem() + svid.key_pem())
        file.flush()
        context.load_cert_chain(file.name)
    return context
