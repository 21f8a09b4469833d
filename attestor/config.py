"""The attestor's configuration: every key, its default and its bounds.

How a file and flags become this struct is decided in cognomen/daemon/config. Which issuer it speaks to stands in the invite, then in the
state.
"""

from pathlib import Path

import msgspec

from cognomen.daemon.config import check_loopback
from svid.spiffeid import TrustDomain

__all__ = ["AttestorConfig"]


class AttestorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an attestor is told when it starts.

    Args:
        trust_domain: an invite or a state of another one is refused; absent: whichever the invite names.
        state_dir: the node's key, SVID and bundle, 0700.
        workload_socket: where the Workload API is served, in a directory that only its owner writes.
        connections_per_uid: how many connections to the workload socket one uid may hold.
        health_address: host:port of loopback for /live, /ready and /metrics; empty: nowhere.

    Raises:
        ValueError: a number out of its bounds, or an address of others, by name.
    """

    trust_domain: TrustDomain | None = None
    state_dir: Path = Path("/var/lib/cognomen/attestor")
    workload_socket: Path = Path("/run/cognomen/api.sock")
    connections_per_uid: int = 256
    health_address: str = ""

    def __post_init__(self) -> None:
        if self.connections_per_uid < 1:
            raise ValueError(f"connections_per_uid: expected at least 1, found {self.connections_per_uid}")
        if self.health_address:
            check_loopback("health_address", self.health_address)
