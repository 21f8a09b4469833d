"""What `cognomen dev` keeps between two runs, besides the state of the daemons; only one run at a time may use it."""

import contextlib
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cognomen.process.privatefile import alone_in, private_directory, read_private, write_private
from cognomen.process.wholefile import sweep
from cognomen.protocol.errors import Kind, Refused

__all__ = ["DevState", "Kept"]

_HOST = "127.0.0.1"
_PORTS = range(20_000, 30_000)  # below those that the system may give to outgoing connections while dev is off


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contents of `dev.json`: the trust domain, and host:port of the issuer's doors, which the node also remembers."""

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
        """The issuer's admin socket."""
        return self.path / "admin" / "issuer.sock"

    @property
    def _file(self) -> Path:
        return self.path / "dev.json"

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the directory for this run alone.

        Raises:
            Refused: CONFLICT when another run holds it; as private_directory.
        """
        private_directory(self.path)
        with contextlib.ExitStack() as leaving:
            try:
                leaving.enter_context(alone_in(self.path, "dev"))
            except Refused as e:
                if e.kind is not Kind.EXISTS:
                    raise
                raise Refused(
                    Kind.CONFLICT,
                    f"state {self.path}: already in use by another run",
                    hint="stop the other cognomen dev, or name another directory with --state",
                ) from e
            sweep(self.path)
            yield

    def load(self, trust_domain: str) -> Kept | None:
        """What the last run kept; None if there was no last run, or if its ports are now taken.

        Raises:
            Refused: INVALID when the state belongs to another trust domain, or is not a state.
        """
        try:
            kept = msgspec.json.decode(read_private(self._file), type=Kept)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise Refused(Kind.INVALID, f"file {self._file}: {e}", hint=f"remove {self.path} to start over") from e
        except Refused as e:
            if e.kind is not Kind.NOT_FOUND:
                raise
            return None
        if kept.trust_domain != trust_domain:
            raise Refused(
                Kind.INVALID,
                f"--trust-domain: expected {kept.trust_domain}, as in the state directory, found {trust_domain}",
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
