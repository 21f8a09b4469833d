"""The issuer's configuration: every key, its default and its bounds.

How a file and flags become this struct is decided in cognomen/daemon/config; what the TTLs mean in issuer/decisions/profile.
"""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import msgspec

from cognomen.daemon.config import check_loopback, format_duration
from svid.entry import MAX_TTL
from svid.spiffeid import TrustDomain

__all__ = ["MAX_INVITE_TTL", "IssuerConfig", "KeyManagerChoice", "OnClone"]

MAX_INVITE_TTL = timedelta(days=1)

_EVERY_INTERFACE = {"0.0.0.0", "[::]"}  # noqa: S104 - recognised, not bound
_MAX_RETURN_WINDOW = timedelta(days=365)
_MAX_RESERVE_MIB = 64 * 1024
_MOST_SVIDS = 1_000_000_000
_LEAST_BURST = 10  # at least one JWT-SVID with as many audiences as one may have
_MAX_AUTHORITY_LIFETIME = timedelta(days=3650)


class KeyManagerChoice(StrEnum):
    """Where the authorities' private keys live."""

    DISK = "disk"
    MEMORY = "memory"  # a new authority at every start: for tests


class OnClone(StrEnum):
    """What becomes of a node whose replaced SVID is shown again, beside its refusal."""

    ALARM = "alarm"
    BAN = "ban"


class IssuerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an issuer is told when it starts.

    Args:
        state_dir: the database and the keys, 0700.
        node_address: host:port to listen on for attested nodes; port 0: any free one.
        join_address: host:port to listen on for joiners.
        advertised_node_address: what an invite says; empty: the address bound, which must then be one that nodes can name.
        advertised_join_address: as above.
        return_window: how long after the end of its SVID a node may return by its key; 0s: never.
        on_clone: what becomes of a node whose replaced SVID is shown again: `alarm`, or `ban`, with which a stolen old SVID puts it out.
        authority_spread: how long an authority stands in the bundle before it signs.
        audit_checkpoint_file: where signed checkpoints of the audit chain are added, a line each; empty: nowhere.
        health_address: host:port of loopback for /live, /ready and /metrics; empty: nowhere.
        disk_reserve_mib: room kept beside the database for removing entries and nodes on a full disk, in MiB; 0: none.
        entry_svids_per_second: how many SVIDs of each kind an entry gets on one node in the long run; each is about 1 kB in the store.
        entry_svids_burst: how many at once, after a rest.
        node_svids_per_second: how many all entries of a node get together.
        node_svids_burst: how many at once, after a rest.

    Raises:
        ValueError: a duration or a number out of its bounds, or an address missing, by name.
    """

    trust_domain: TrustDomain
    state_dir: Path = Path("/var/lib/cognomen/issuer")
    admin_socket: Path = Path("/run/cognomen/admin/issuer.sock")
    node_address: str = "127.0.0.1:8443"
    join_address: str = "127.0.0.1:8444"
    advertised_node_address: str = ""
    advertised_join_address: str = ""
    key_manager: KeyManagerChoice = KeyManagerChoice.DISK
    x509_svid_ttl: timedelta = timedelta(hours=1)
    jwt_svid_ttl: timedelta = timedelta(minutes=5)
    node_svid_ttl: timedelta = timedelta(hours=1)
    issuer_svid_ttl: timedelta = timedelta(hours=1)
    return_window: timedelta = timedelta(days=5)
    invite_ttl: timedelta = timedelta(minutes=10)
    on_clone: OnClone = OnClone.ALARM
    authority_lifetime: timedelta = timedelta(days=14)
    authority_spread: timedelta = timedelta(minutes=10)
    audit_checkpoint_interval: timedelta = timedelta(minutes=5)
    audit_checkpoint_file: str = ""
    audit_checkpoint_syslog: bool = False
    health_address: str = ""
    disk_reserve_mib: int = 16
    entry_svids_per_second: int = 20
    entry_svids_burst: int = 50_000
    node_svids_per_second: int = 200
    node_svids_burst: int = 200_000

    def __post_init__(self) -> None:
        for name in ("x509_svid_ttl", "jwt_svid_ttl", "node_svid_ttl", "issuer_svid_ttl"):
            _check_duration(name, getattr(self, name), MAX_TTL)
        if self.return_window:
            _check_duration("return_window", self.return_window, _MAX_RETURN_WINDOW)
        _check_duration("invite_ttl", self.invite_ttl, MAX_INVITE_TTL)
        _check_duration("audit_checkpoint_interval", self.audit_checkpoint_interval, MAX_TTL)
        _check_duration("authority_lifetime", self.authority_lifetime, _MAX_AUTHORITY_LIFETIME)
        _check_duration("authority_spread", self.authority_spread, self.authority_lifetime / 4)
        for owner in ("entry", "node"):
            _check_allowance(
                f"{owner}_svids", getattr(self, f"{owner}_svids_per_second"), getattr(self, f"{owner}_svids_burst")
            )
        if not 0 <= self.disk_reserve_mib <= _MAX_RESERVE_MIB:
            raise ValueError(f"disk_reserve_mib: expected 0 to {_MAX_RESERVE_MIB}, found {self.disk_reserve_mib}")
        if self.health_address:
            check_loopback("health_address", self.health_address)
        for name in ("node_address", "join_address"):
            host = getattr(self, name).rpartition(":")[0]
            if host in _EVERY_INTERFACE and not getattr(self, f"advertised_{name}"):
                raise ValueError(
                    f"advertised_{name}: expected host:port that nodes can reach, because {name} is {host}"
                )


def _check_allowance(name: str, per_second: int, burst: int) -> None:
    if not 1 <= per_second <= _MOST_SVIDS:
        raise ValueError(f"{name}_per_second: expected 1 to {_MOST_SVIDS}, found {per_second}")
    if not _LEAST_BURST <= burst <= _MOST_SVIDS:
        raise ValueError(f"{name}_burst: expected {_LEAST_BURST} to {_MOST_SVIDS}, found {burst}")


def _check_duration(name: str, found: timedelta, longest: timedelta) -> None:
    longest -= timedelta(microseconds=longest.microseconds)
    if not timedelta(seconds=1) <= found <= longest or found.microseconds:
        raise ValueError(
            f"{name}: expected whole seconds from 1s to {format_duration(longest)}, found {format_duration(found)}"
        )
