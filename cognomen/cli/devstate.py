"""What `cognomen dev` keeps between two runs, beside the state of the daemons themselves; one run at a time has it."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.privatefile import private_directory, read_private, write_private

__all__ = ["DevState", "Kept"]

_ANY_PORT = "127.0.0.1:0"


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in `dev.json`: the trust domain, and host:port of the issuer's doors, which the node remembers, too."""

    trust_domain: str
    node_address: str = _ANY_PORT
    join_address: str = _ANY_PORT


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

    def load(self, trust_domain: str) -> Kept:
        """What the last run kept; ports that are taken by now count as not kept.

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
            return Kept(trust_domain=trust_domain)
        if kept.trust_domain != trust_domain:
            raise Refused(
                Kind.INVALID,
                f"--trust-domain: expected {kept.trust_domain}, as the state has it, found {trust_domain}",
                hint="name another directory with --state",
            )
        if _is_free(kept.node_address) and _is_free(kept.join_address):
            return kept
        return Kept(trust_domain=trust_domain)

    def save(self, kept: Kept) -> None:
        """Keep it for the next run."""
        write_private(self._file, msgspec.json.encode(kept))


def _is_free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except (OSError, ValueError, OverflowError):
            return False
    return True
