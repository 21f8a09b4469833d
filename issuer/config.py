"""The issuer's configuration: every key, its default and its bounds.

cognomen/daemon/config makes this struct from a file and flags; issuer/decisions/profile defines what the TTLs mean.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import msgspec

from cognomen.daemon.config import check_loopback
from cognomen.daemon.plugins import Settings
from cognomen.protocol.addresses import host_and_port
from cognomen.protocol.audiences import check_audiences
from cognomen.protocol.durations import format_duration
from cognomen.protocol.entry import MAX_TTL
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.openid import check_issuer_url
from svid.keys import KeyKind
from svid.spiffeid import TrustDomain

__all__ = ["MAX_INVITE_TTL", "DatastoreChoice", "IssuerConfig", "OnClone", "Provider", "longest_lives"]

MAX_INVITE_TTL = timedelta(days=1)

_EVERY_INTERFACE = {"0.0.0.0", "[::]"}  # noqa: S104 - recognised, not bound
_MAX_RETURN_WINDOW = timedelta(days=365)
_MAX_RESERVE_MIB = 64 * 1024
_MOST_SVIDS = 1_000_000_000
_LEAST_BURST = 10  # enough for one JWT-SVID with the most audiences that it may have
_MAX_AUTHORITY_LIFETIME = timedelta(days=3650)
_MAX_LIFE_OF_A_PROVIDERS_TOKEN = timedelta(days=365)
_LONGEST_OPEN = timedelta(minutes=10)
_MAX_USES_KEPT = timedelta(days=3650)


_IN_MEMORY = "memory"  # the key manager that keeps nothing


class DatastoreChoice(StrEnum):
    """Where the issuer stores its data."""

    SQLITE = "sqlite"
    MEMORY = "memory"  # a new trust domain at every start: for tests


class OnClone(StrEnum):
    """What happens to a node whose replaced SVID is shown again, besides the refusal."""

    ALARM = "alarm"
    BAN = "ban"


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A relying party that trades JWT-SVIDs for tokens of its own, which no revocation of ours reaches.

    Args:
        audience: that of the JWT-SVIDs.
        longest_life: how long its own token lives at most.

    Raises:
        ValueError: it names the key.
    """

    audience: str
    longest_life: timedelta

    def __post_init__(self) -> None:
        try:
            check_audiences([self.audience], field="audience")
        except Refused as refused:
            raise ValueError(refused.detail) from refused
        _check_duration("longest_life", self.longest_life, _MAX_LIFE_OF_A_PROVIDERS_TOKEN)


def longest_lives(providers: Iterable[Provider]) -> Mapping[str, timedelta]:
    """How long the tokens of providers live, by audience; of two with the same audience the longer."""
    return {one.audience: one.longest_life for one in sorted(providers, key=lambda one: one.longest_life)}


class IssuerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings with which an issuer starts.

    Args:
        state_dir: the directory of the database and the keys, mode 0700.
        datastore: a file in state_dir, or memory; data in memory ends with the process, and the keys must do the same.
        node_address: host:port to listen on for attested nodes; port 0: any free one.
        join_address: host:port to listen on for joiners.
        advertised_node_address: the address in an invite; empty: the address bound, which must then be one that nodes can use.
        advertised_join_address: as above.
        jwt_issuer: an https URL that JWT-SVIDs name as their issuer, for relying parties of OpenID Connect; empty: they name none.
        jwt_authority_key: the kind of key that JWT authorities made from now on sign with.
        providers: by name, those that trade JWT-SVIDs for tokens of their own, so that we can say how long these live.
        web_address: host:port on which relying parties find the keys of jwt_issuer, and nothing else; empty: nowhere.
        web_certificate_file, web_key_file: PEM; the listener serves HTTPS with them, and reads them again when they change.
        web_behind_proxy: the listener serves HTTP to a proxy that serves HTTPS, and says so with each request.
        key_manager, upstream_authority: the name of an installed one.
        node_attestors: the names of those that let nodes in, separated by commas.
        plugins: tables of settings, by the key that names a plugin and by its name.
        return_window: how long after its SVID expired a node may return with its key; 0s: never.
        on_clone: what happens to a node whose replaced SVID is shown again: `alarm`, or `ban`, which lets a stolen old SVID shut it out.
        authority_spread: how long an authority is in the bundle before it signs.
        audit_checkpoint_file: where to append signed checkpoints of the audit chain, one per line; empty: nowhere.
        health_address: host:port on loopback for /live, /ready and /metrics; empty: nowhere.
        disk_reserve_mib: space kept beside the database for removing entries and nodes on a full disk, in MiB; 0: none.
        entry_svids_per_second: how many SVIDs of each kind an entry gets on one node in the long run; each is about 1 kB in the store.
        entry_svids_burst: how many it gets at once after a pause.
        node_svids_per_second: how many all entries of a node get together.
        node_svids_burst: how many they get at once after a pause.
        breaker_open: how long the breaker of a limit on issuance stays open at first; each time that it opens again, twice as long.
        uses_kept: for how long it is kept which process used an identity, from its last use on.

    Raises:
        ValueError: a duration or a number is out of its bounds, or an address is missing; it names the key.
        Refused: INVALID if only one of datastore and keys outlives the process.
    """

    trust_domain: TrustDomain
    state_dir: Path = Path("/var/lib/cognomen/issuer")
    admin_socket: Path = Path("/run/cognomen/admin/issuer.sock")
    node_address: str = "127.0.0.1:8443"
    join_address: str = "127.0.0.1:8444"
    advertised_node_address: str = ""
    advertised_join_address: str = ""
    datastore: DatastoreChoice = DatastoreChoice.SQLITE
    key_manager: str = "disk"
    node_attestors: str = "join_token"
    upstream_authority: str = "self_signed"
    jwt_issuer: str = ""
    jwt_authority_key: KeyKind = KeyKind.EC_P256
    providers: dict[str, Provider] = msgspec.field(default_factory=dict)
    web_address: str = ""
    web_certificate_file: str = ""
    web_key_file: str = ""
    web_behind_proxy: bool = False
    plugins: Settings = msgspec.field(default_factory=dict)
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
    uses_kept: timedelta = timedelta(days=90)
    breaker_open: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        _check_lives(self.datastore, self.key_manager)
        for name in ("x509_svid_ttl", "jwt_svid_ttl", "node_svid_ttl", "issuer_svid_ttl"):
            _check_duration(name, getattr(self, name), MAX_TTL)
        if self.return_window:
            _check_duration("return_window", self.return_window, _MAX_RETURN_WINDOW)
        _check_duration("invite_ttl", self.invite_ttl, MAX_INVITE_TTL)
        _check_duration("audit_checkpoint_interval", self.audit_checkpoint_interval, MAX_TTL)
        _check_duration("authority_lifetime", self.authority_lifetime, _MAX_AUTHORITY_LIFETIME)
        _check_duration("uses_kept", self.uses_kept, _MAX_USES_KEPT)
        _check_duration("breaker_open", self.breaker_open, _LONGEST_OPEN)
        _check_duration("authority_spread", self.authority_spread, self.authority_lifetime / 4)
        for owner in ("entry", "node"):
            _check_allowance(
                f"{owner}_svids", getattr(self, f"{owner}_svids_per_second"), getattr(self, f"{owner}_svids_burst")
            )
        if not 0 <= self.disk_reserve_mib <= _MAX_RESERVE_MIB:
            raise ValueError(f"disk_reserve_mib: expected 0 to {_MAX_RESERVE_MIB}, found {self.disk_reserve_mib}")
        if self.jwt_issuer:
            _check_issuer(self.jwt_issuer)
        self._check_web()
        if self.health_address:
            check_loopback("health_address", self.health_address)
        for name in ("node_address", "join_address"):
            _check_address(name, getattr(self, name), least_port=0)
            if advertised := getattr(self, f"advertised_{name}"):
                _check_address(f"advertised_{name}", advertised, least_port=1)
            host = getattr(self, name).rpartition(":")[0]
            if host in _EVERY_INTERFACE and not getattr(self, f"advertised_{name}"):
                raise ValueError(
                    f"advertised_{name}: expected host:port that nodes can reach, because {name} is {host}"
                )

    def _check_web(self) -> None:
        """Check that whoever is pointed to our keys can reach them over HTTPS."""
        files = (self.web_certificate_file, self.web_key_file)
        if not self.web_address:
            for name in ("web_certificate_file", "web_key_file", "web_behind_proxy"):
                if getattr(self, name):
                    raise ValueError(f"{name}: expected nothing without web_address, found {getattr(self, name)}")
            return
        _check_address("web_address", self.web_address, least_port=0)
        if not self.jwt_issuer:
            raise ValueError("web_address: expected jwt_issuer too: the URL under which relying parties look for it")
        if all(files) == self.web_behind_proxy or any(files) != all(files):
            raise ValueError(
                "web_address: expected either web_certificate_file and web_key_file, or web_behind_proxy,"
                " because relying parties come over HTTPS"
            )


def _check_issuer(url: str) -> None:
    try:
        check_issuer_url(url)
    except ValueError as e:
        raise ValueError(f"jwt_issuer: {e}") from e


def _check_address(name: str, address: str, *, least_port: int) -> None:
    try:
        _, port = host_and_port(address)
    except ValueError as e:
        raise ValueError(f"{name}: {e}") from e
    if port < least_port:
        raise ValueError(f"{name}: expected a port of {least_port} to 65535, found {port}")


def _check_lives(datastore: DatastoreChoice, key_manager: str) -> None:
    """Check that both store and keys outlive the process, or neither does: each refers to the other."""
    if datastore is DatastoreChoice.MEMORY and key_manager != _IN_MEMORY:
        raise Refused(
            Kind.INVALID,
            f"key_manager: expected memory, because datastore is memory, found {key_manager}",
            hint="each start would leave keys behind that no store knows, and that nobody can use or retire;"
            ' set key_manager = "memory", or datastore = "sqlite"',
        )
    if datastore is not DatastoreChoice.MEMORY and key_manager == _IN_MEMORY:
        raise Refused(
            Kind.INVALID,
            f"key_manager: expected one that keeps its keys, because datastore is {datastore}, found memory",
            hint="the store would name authorities whose keys were lost with the process, and the issuer could not start again;"
            ' set key_manager = "disk", or datastore = "memory"',
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
