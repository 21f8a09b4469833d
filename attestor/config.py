"""The attestor's configuration: every key, its default and its bounds.

How a file and flags become this struct is decided in cognomen/daemon/config. The issuer's address comes from the invite, and later from
the state.
"""

from pathlib import Path

import msgspec

from cognomen.daemon.config import check_loopback
from cognomen.daemon.plugins import Settings
from cognomen.protocol.names import NODE_NAME_RULE, is_node_name
from svid.spiffeid import TrustDomain

__all__ = ["AttestorConfig"]


class AttestorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings that an attestor starts with.

    Args:
        trust_domain: an invite or a state of another one is refused; absent: the one that the invite names.
        state_dir: the node's key, SVID and bundle, 0700.
        workload_socket: where the Workload API is served, in a directory that only its owner can write to.
        node_attestor: the name of the node attestor that proves this node when it joins.
        node_name: what people call this node, if it joins; empty: its host name. The issuer keeps names apart, and can change them.
        workload_attestors: the names of the workload attestors that identify callers, separated by commas.
        plugins: tables of settings, by the key that names a plugin and by its name.
        connections_per_uid: how many connections to the workload socket one uid may hold, including its subordinate uids.
        health_address: host:port of loopback for /live, /ready and /metrics; empty: nowhere.

    Raises:
        ValueError: a number is out of its bounds, a name is one that no node may have, or an address is not of loopback; the message names
            the key.
    """

    trust_domain: TrustDomain | None = None
    state_dir: Path = Path("/var/lib/cognomen/attestor")
    workload_socket: Path = Path("/run/cognomen/api.sock")
    node_attestor: str = "join_token"
    node_name: str = ""
    workload_attestors: str = "unix"
    plugins: Settings = msgspec.field(default_factory=dict)
    connections_per_uid: int = 256
    health_address: str = ""

    def __post_init__(self) -> None:
        if self.connections_per_uid < 1:
            raise ValueError(f"connections_per_uid: expected at least 1, found {self.connections_per_uid}")
        if self.node_name and not is_node_name(self.node_name):
            raise ValueError(f"node_name: expected {NODE_NAME_RULE}, found {self.node_name[:80]!r}")
        if self.health_address:
            check_loopback("health_address", self.health_address)
