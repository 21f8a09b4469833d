"""Rows of the SDK: what a LiveContext costs compared with a context that is made once, and what denials cost."""

import os
import secrets
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TypeAlias

from bench.house import House
from bench.results import Measured
from bench.settings import Settings
from svid import TrustDomain, X509Source, any_in, client_context, server_context
from svid.denials import Denial, Denials
from svid.source import X509Identity
from svid.x509svid import X509SVID

__all__ = ["handshakes", "handshakes_denied", "open_connection", "plain_context"]

_ROUNDS = 15
_A_ROUND = 100
_DENIALS = 10_000
_RECORD_BYTES = 16 * 1024
_SMALL_BYTES = 256
_PASSED_A_ROUND = 4000

_Pair: TypeAlias = tuple[ssl.SSLContext, ssl.SSLContext]


def handshakes(settings: Settings) -> Measured:
    """Full mutual TLS 1.3 handshakes between buffers, alternating with plain contexts; the chain is known after the first."""
    with House.serving(settings.directory) as house:
        house.create(house.entry("self"))
        with X509Source(f"unix://{house.socket}") as source:
            live = _live_pair(source)
            plain = _plain_pair(source)
            ratios, rates = [], []
            for _ in range(settings.count(_ROUNDS)):
                before, ours = _seconds(*plain), _seconds(*live)
                ratios.append(before / ours)
                rates.append(_A_ROUND / ours)
    figures = {"times plain": statistics.median(ratios), "per CPU-second": statistics.median(rates)}
    return Measured(figures=figures, samples=len(ratios))


class _Knowing:
    """The identity of a source, and that many denials of its trust domain, none of which concerns a peer here."""

    def __init__(self, source: X509Source, denials: int) -> None:
        self.svid, self.bundles = source.svid, source.bundles
        self._held = {source.svid.spiffe_id.trust_domain: Denials()}
        for held in self._held.values():
            held.add(Denial(secrets.randbits(128), source.svid.not_after) for _ in range(denials))

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        """What a source answers."""
        held = self._held.get(trust_domain)
        return held is not None and number in held

    def on_denied(self, _: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:  # noqa: ARG002 - the Protocol's
        """Nothing more will change."""
        return lambda: None

    def denials_age(self) -> timedelta:
        """The issuer was heard just now."""
        return timedelta()


def handshakes_denied(settings: Settings) -> Measured:
    """The same handshakes of LiveContexts, alternately with 10,000 denials of others and with none."""
    with House.serving(settings.directory) as house:
        house.create(house.entry("self"))
        with X509Source(f"unix://{house.socket}") as source:
            none, many = (_live_pair(_Knowing(source, count)) for count in (0, _DENIALS))
            ratios = []
            for _ in range(settings.count(_ROUNDS)):
                before = _seconds(*none)
                ratios.append(_seconds(*many) / before)
    return Measured(figures={"times none": statistics.median(ratios)}, samples=len(ratios))


def open_connection(settings: Settings) -> Measured:
    """Bytes over an open connection of LiveContexts, read and written alternately in one thread, compared with one of plain contexts."""
    with House.serving(settings.directory) as house:
        house.create(house.entry("self"))
        with X509Source(f"unix://{house.socket}") as source, ExitStack() as stack:
            live, plain = _connected(*_live_pair(source)), _connected(*_plain_pair(source))
            for side in (*live, *plain):
                stack.enter_context(closing(side))
            ratios: dict[int, list[float]] = {_RECORD_BYTES: [], _SMALL_BYTES: []}
            rates = []
            for _ in range(settings.count(_ROUNDS)):
                for size, found in ratios.items():
                    before, ours = _passing_seconds(*plain, size), _passing_seconds(*live, size)
                    found.append(before / ours)
                    if size == _RECORD_BYTES:
                        rates.append(size * _PASSED_A_ROUND / ours / 2**20)
    figures = {
        "times plain": statistics.median(ratios[_RECORD_BYTES]),
        f"times plain, {_SMALL_BYTES} bytes at a time": statistics.median(ratios[_SMALL_BYTES]),
        "MiB per CPU-second": statistics.median(rates),
    }
    return Measured(figures=figures, samples=len(rates))


def _live_pair(source: X509Identity) -> _Pair:
    everybody = any_in(TrustDomain("example.org"))
    return client_context(source, everybody), server_context(source, everybody)


def _connected(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    near, far = socket.socketpair()
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(server.wrap_socket, far, server_side=True)
        connected = client.wrap_socket(near)
        return connected, accepted.result()


def _passing_seconds(near: ssl.SSLSocket, far: ssl.SSLSocket, size: int) -> float:
    """The CPU that a round of messages takes, from one end to the other."""
    message = bytes(size)
    began = time.process_time()
    for _ in range(_PASSED_A_ROUND):
        near.sendall(message)
        left = size
        while left:
            left -= len(far.recv(left))
    return time.process_time() - began


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


def _plain_pair(source: X509Source) -> _Pair:
    roots = source.bundle_for(source.svid.spiffe_id.trust_domain).x509_der()
    return plain_context(source.svid, roots, server_side=False), plain_context(source.svid, roots, server_side=True)


def plain_context(svid: X509SVID, roots: bytes, *, server_side: bool) -> ssl.SSLContext:
    """What a developer without the SDK would set up by hand, once."""
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
