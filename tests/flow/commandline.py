"""Type commands in this process, for an issuer in a process of its own."""

import json
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.rig.daemons import Daemon

__all__ = ["NODE", "Command", "Done", "issuer_at", "socket_at"]

NODE = "/cognomen/node/join_token/0123456789abcdef0123456789abcdef"
"""A node that need not have joined."""


class Done(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, object]:
        """What it printed as JSON."""
        assert self.code == 0, self.err
        found: dict[str, object] = json.loads(self.out)
        return found

    def rows(self, name: str) -> list[dict[str, object]]:
        """The list of that name in what it printed."""
        found = self.document[name]
        assert isinstance(found, list)
        return found


class Command(Protocol):
    """Types one command."""

    def __call__(self, *arguments: str) -> Done: ...


def socket_at(directory: Path) -> Path:
    """The admin socket of `issuer_at`."""
    return directory / "a" / "s"


def issuer_at(directory: Path, *more: str, state: str = "state") -> Daemon:
    """An issuer with all its files below a directory.

    Args:
        more: further options of `issuer run`.
        state: the name of its state directory.
    """
    arguments = [
        "issuer", "run", "--trust-domain=example.org", f"--state={directory / state}", f"--admin-socket={socket_at(directory)}",
        "--node-address=127.0.0.1:0", "--join-address=127.0.0.1:0", *more,
    ]  # fmt: skip
    return Daemon(arguments, log=directory / "log", ready="COGNOMEN_ADMIN_SOCKET=")
