"""The two network doors as gRPC servers behind fronts: which TLS they use, how much a peer may send and hold open.

issuer/flows/renew_issuer_svid decides which SVID they present and whom they trust. join and node are the services; front is the front.
"""

import os
import ssl
from collections.abc import Callable
from typing import cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cognomen.process.descriptors import descriptor_share
from cognomen.wire.pb.node_pb2_grpc import (
    JoinServicer,
    NodeServicer,
    add_JoinServicer_to_server,
    add_NodeServicer_to_server,
)
from issuer.api.crowd import CrowdLimits, KnownAddresses
from issuer.api.front import Front, FrontLimits
from issuer.api.interceptors import AdmitNodes, AnswerRefusals
from issuer.api.join import JoinService
from issuer.api.node import NodeService
from issuer.api.passage import Proof
from issuer.api.peers import node_of
from issuer.decisions.identity import IssuerIdentity
from issuer.flows.admit_call import AdmitCall
from issuer.keepers.node_sightings import NodeSightings
from issuer.keepers.refusal_record import RefusalRecord
from issuer.metrics import Metrics

__all__ = [
    "DESCRIPTORS",
    "DoorCredentials",
    "join_crowd",
    "join_front",
    "join_server",
    "node_crowd",
    "node_front",
    "node_server",
]

DESCRIPTORS = 3  # per connection: its own, and both ends of the one to gRPC
_MOST_JOINERS, _MOST_NODES, _MOST_STRANGERS = 512, 10_000, 1024
_PER_ADDRESS = 64
_JOIN_SECONDS = 65.0  # no longer than gRPC keeps one
_STRANGER_SECONDS = 15.0  # long enough to learn why a certificate is not a node's
_COMMON = (
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
)
_JOIN = (
    ("grpc.max_receive_message_length", 32 * 1024),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.max_connection_idle_ms", 15_000),
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
)
_NODE_MESSAGE_BYTES = 512 * 1024
"""A message is received and parsed before the caller is admitted. An attestor's batches are smaller: attestor/issuerclient/port."""

_NODE = (
    ("grpc.max_receive_message_length", _NODE_MESSAGE_BYTES),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    ("grpc.max_concurrent_streams", 8),  # an attestor has at most a feed, two mints, an acknowledgement and a renewal
    ("grpc.keepalive_time_ms", 20_000),  # a node whose network is gone must not hold a feed
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 30_000),  # if its kernel still acknowledges; as in attestor/issuerclient/grpc
    ("grpc.keepalive_permit_without_calls", 1),
)


class DoorCredentials:
    """The TLS side of a door, replaced as a whole: each handshake uses the latest.

    It allows TLS 1.3 and nothing older, and no tickets, so no session is resumed.
    """

    def __init__(self, identity: IssuerIdentity, *, demand_client_certificate: bool) -> None:
        self._demand = demand_client_certificate
        self.present(identity)

    def present(self, identity: IssuerIdentity) -> None:
        """Present this SVID and trust its bundle, from the next handshake on."""
        self.presented = identity
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.set_alpn_protocols(["h2"])
        _agree_cheaply(context)
        _load(context, identity)
        if self._demand:
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority need not be self-signed to be trusted
            context.load_verify_locations(cadata=identity.bundle.x509_der())
        self._context = context

    def context(self) -> ssl.SSLContext:
        """The context for a handshake now."""
        return self._context


def _agree_cheaply(context: ssl.SSLContext) -> None:
    """Allow only one cheap group for key agreement. The other end chooses, and with ffdhe8192 a hello costs us a quarter of a second.

    Python before 3.11.3 does not accept X25519 as a curve. There we use P-256, at one more round trip for clients that begin with X25519.
    """
    try:
        context.set_ecdh_curve("X25519")
    except (ssl.SSLError, ValueError):
        context.set_ecdh_curve("prime256v1")


def _load(context: ssl.SSLContext, identity: IssuerIdentity) -> None:
    """Have OpenSSL read chain and key from a file that is not on any disk, because it requires a path."""
    pem = serialization.Encoding.PEM
    chain = b"".join(x509.load_der_x509_certificate(der).public_bytes(pem) for der in identity.chain)
    key = identity.private_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.memfd_create("issuer", os.MFD_CLOEXEC), "wb") as file:
        file.write(chain + key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")


def join_front(credentials: DoorCredentials, known: KnownAddresses, metrics: Metrics) -> Front:
    """The front of the door for strangers, who may not stay long; those from addresses where nodes are have their own room."""
    limits = FrontLimits(door="join", crowd=join_crowd(), stranger_seconds=_JOIN_SECONDS)
    return Front(credentials.context, lambda _: None, limits, known, metrics)


def node_front(credentials: DoorCredentials, known: KnownAddresses, metrics: Metrics) -> Front:
    """The front of the door for nodes."""
    limits = FrontLimits(door="node", crowd=node_crowd(), stranger_seconds=_STRANGER_SECONDS)
    return Front(credentials.context, node_of, limits, known, metrics)


def join_crowd() -> CrowdLimits:
    """How many the join door holds: 3/16 of the process's descriptors."""
    share = _connections(8, most=_MOST_JOINERS)
    return CrowdLimits(strangers=share, per_address=min(_PER_ADDRESS, share), reserved=share // 2)


def node_crowd() -> CrowdLimits:
    """How many the node door holds: 5/8 of the process's descriptors.

    A stranger there counts as much as a node: with a workload's SVID it reaches gRPC, which tells it why it is not a node.
    """
    nodes, strangers = _connections(2, most=_MOST_NODES), _connections(16, most=_MOST_STRANGERS)
    return CrowdLimits(strangers=strangers, per_address=min(_PER_ADDRESS, strangers), reserved=strangers, nodes=nodes)


def _connections(parts: int, *, most: int) -> int:
    return descriptor_share(parts, most=most * DESCRIPTORS) // DESCRIPTORS


def join_server(service: JoinService, proof: Callable[[str], Proof | None], refusals: RefusalRecord) -> grpc.aio.Server:
    """A server for strangers, who may send little, and not for long.

    Args:
        proof: returns what TLS proved about a peer, by gRPC's name for it.
    """
    server = grpc.aio.server(interceptors=[AnswerRefusals(proof, refusals)], options=[*_COMMON, *_JOIN])
    # The generated types know streaming methods as generators; grpc.aio also takes coroutines that write.
    add_JoinServicer_to_server(cast("JoinServicer", service), server)
    return server


def node_server(
    service: NodeService, admit: AdmitCall, front: Front, refusals: RefusalRecord, sightings: NodeSightings
) -> grpc.aio.Server:
    """A server for nodes."""
    interceptor = AdmitNodes(admit, front.proof, refusals, used=front.note_use, seen=sightings.note)
    server = grpc.aio.server(interceptors=[interceptor], options=[*_COMMON, *_NODE])
    add_NodeServicer_to_server(cast("NodeServicer", service), server)  # as above
    return server
