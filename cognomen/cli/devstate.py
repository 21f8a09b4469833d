"""What `cognomen dev` keeps between two runs, beside the state of the daemons themselves; one run at a time has it."""

import contextlib
import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.privatefile import private_directory, read_private, write_private

__all__ = ["DevState", "Kept"]

_HOST = "127.0.0.1"
_PORTS = range(20_000, 30_000)  # below those that the system gives to outgoing connections while we are away


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in `dev.json`: the trust domain, and host:port of the issuer's doors, which the node remembers, too."""

    trust_domain: str
    node_address: str
    join_address: str

    @classmethod
    def fresh(cls, trust_domain: str) -> "Kept":
        """Choose two free ports."""
        node_address = _free_address()
        return cls(trust_domain=trust_domain, node_address=node_address, join_address=_free_address(node_address))


@dataclass(frozen=True, slots=True, kw_only=True)
class DevState:
    """The directory of one `cognomen dev`."""

    path: Path

    @property
    def admin_socket(self) -> Path:
        """Where the issuer is administrated."""
        return self.path / "admin" / "issuer.sock"

    @property
    def _file(self) -> Path:
        return self.path / "dev.json"

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Have the directory to ourselves.

        Raises:
            Refused: CONFLICT when another run has it.
        """
        private_directory(self.path)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(lock)
            yield
        finally:
            os.close(lock)

    def _lock(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise Refused(
                Kind.CONFLICT,
                f"state {self.path}: expected no other run on it, found one",
                hint="end the other cognomen dev, or name another directory with --state",
            ) from e

    def load(self, trust_domain: str) -> Kept | None:
        """What the last run kept, None where there was none or where the ports are taken by now.

        Raises:
            Refused: INVALID when the state is of another trust domain, or no state.
        """
        try:
            kept = msgspec.json.decode(read_private(self._file), type=Kept)
        except msgspec.DecodeError as e:
            raise Refused(Kind.INVALID, f"file {self._file}: {e}", hint=f"remove {self.path} to begin anew") from e
        except Refused as e:
            if e.kind is not Kind.NOT_FOUND:
                raise
            return None
        if kept.trust_domain != trust_domain:
            raise Refused(
                Kind.INVALID,
                f"--trust-domain: expected {kept.trust_domain}, as the state has it, found {trust_domain}",
                hint="name another directory with --state",
            )
        return kept if _is_free(kept.node_address) and _is_free(kept.join_address) else None

    def save(self, kept: Kept) -> None:
        """Keep it for the next run."""
        write_private(self._file, msgspec.json.encode(kept))


def _free_address(other_than: str = "") -> str:
    while True:
        address = f"{_HOST}:{secrets.choice(_PORTS)}"
        if address != other_than and _is_free(address):
            return address


def _is_free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except (OSError, ValueError, OverflowError):
            return False
    return True
