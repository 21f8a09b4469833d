"""The two network doors as gRPC servers: where they listen, which TLS they speak, how much a peer may send and hold open.

Which SVID they present and whom they trust: issuer/flows/renew_issuer_svid. What they serve: join, node.
"""

from typing import cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cognomen.daemon.descriptors import descriptor_share
from cognomen.daemon.errors import Kind, Refused
from cognomen.wire.pb.node_pb2_grpc import (
    JoinServicer,
    NodeServicer,
    add_JoinServicer_to_server,
    add_NodeServicer_to_server,
)
from issuer.api.interceptors import AdmitNodes, AnswerRefusals
from issuer.api.join import JoinService
from issuer.api.node import NodeService
from issuer.flows.admit_call import AdmitCall
from issuer.flows.renew_issuer_svid import IssuerIdentity
from svid.tls.grpc_server import LatestConfiguration

__all__ = ["DoorCredentials", "bind", "join_server", "node_server"]

_MOST_CONNECTIONS = (
    "grpc.max_allowed_incoming_connections"  # those in a handshake count, too; without it gRPC accepts until it aborts
)
_MOST_JOINERS, _MOST_NODES = 256, 10_000
_COMMON = (
    ("grpc.so_reuseport", 0),  # without it a port that is taken is bound without a word
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
)
_NODE_MESSAGE_BYTES = 512 * 1024
"""It is received and parsed before the caller is admitted. An attestor's batches are smaller: attestor/issuerclient/port."""

_NODE = (
    ("grpc.max_receive_message_length", _NODE_MESSAGE_BYTES),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    ("grpc.max_concurrent_streams", 8),  # an attestor has a feed, two mints, an acknowledgement and a renewal at most
    ("grpc.keepalive_time_ms", 30_000),  # a node whose network is gone holds no feed
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class DoorCredentials:
    """The TLS side of a door, replaced as a whole: each handshake takes what was presented last.

    Sessions may be resumed (svid/tls/grpc_server says why), and decisions/admission refuses who does.
    """

    def __init__(self, identity: IssuerIdentity, *, demand_client_certificate: bool) -> None:
        self._demand = demand_client_certificate
        self.present(identity)

    def present(self, identity: IssuerIdentity) -> None:
        """Present this SVID and trust its bundle, from the next handshake on."""
        pem = serialization.Encoding.PEM
        self.presented = identity
        chain = b"".join(x509.load_der_x509_certificate(der).public_bytes(pem) for der in identity.chain)
        key = identity.private_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        roots = b"".join(root.public_bytes(pem) for root in identity.bundle.x509_authorities)
        self._now = grpc.ssl_server_certificate_configuration(
            [(key, chain)], root_certificates=roots if self._demand else None
        )

    def for_server(self) -> grpc.ServerCredentials:
        """What a server's port is added with."""
        return LatestConfiguration(lambda: self._now).for_port(demand_client_certificate=self._demand)


def join_server(service: JoinService) -> grpc.aio.Server:
    """A server for strangers: little may be sent, and not for long."""
    most = _MOST_CONNECTIONS, descriptor_share(8, most=_MOST_JOINERS)
    server = grpc.aio.server(interceptors=[AnswerRefusals()], options=[*_COMMON, *_JOIN, most])
    # The generated types know streaming methods as generators; grpc.aio also takes coroutines that write.
    add_JoinServicer_to_server(cast("JoinServicer", service), server)
    return server


def node_server(service: NodeService, admit: AdmitCall) -> grpc.aio.Server:
    """A server for nodes."""
    most = _MOST_CONNECTIONS, descriptor_share(2, most=_MOST_NODES)
    server = grpc.aio.server(interceptors=[AdmitNodes(admit)], options=[*_COMMON, *_NODE, most])
    add_NodeServicer_to_server(cast("NodeServicer", service), server)  # as above
    return server


def bind(server: grpc.aio.Server, address: str, credentials: DoorCredentials, *, key: str) -> str:
    """Bind a server to host:port, and say what it became (port 0: a free one).

    Args:
        key: the configuration key that holds the address.

    Raises:
        Refused: INVALID for no address, UNAVAILABLE for one that cannot be bound.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) < 2**16):
        raise Refused(Kind.INVALID, f"{key}: expected host:port, found {address!r}")
    try:
        bound = server.add_secure_port(address, credentials.for_server())
    except RuntimeError as e:
        raise Refused(
            Kind.UNAVAILABLE,
            f"{key}: expected an address that is free, cannot bind {address}",
            hint=f"is another issuer running? name another {key}",
        ) from e
    return f"{host}:{bound}"
