"""What the issuer asks of a key manager: keys by name, which never leave it."""

import re
from collections.abc import Sequence
from typing import Protocol

from cognomen.daemon.plugins import PluginContext, Seam
from cognomen.protocol.errors import Kind, Refused
from svid.keys import KeyID, KeyKind, SigningKey

__all__ = ["KEY_MANAGERS", "KeyManager", "check_key_id"]

_KEY_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def check_key_id(key_id: KeyID) -> None:
    """Check that a name suits every key manager, including as a file name.

    Raises:
        Refused: INVALID
    """
    if not _KEY_ID.fullmatch(key_id):
        raise Refused(Kind.INVALID, f"key: expected a name of 1 to 63 of a-z 0-9 -, found {key_id!r}")


class KeyManager(Protocol):
    """Where the authorities' private keys live.

    Raises:
        Refused: UNAVAILABLE when the keys cannot be read or written; INVALID for a malformed name, and for keys that others can
            read; EXISTS, NOT_FOUND as said below.
    """

    async def generate(self, key_id: KeyID, kind: KeyKind) -> SigningKey:
        """Make a key, durably, under a name that is not taken (EXISTS)."""

    async def get(self, key_id: KeyID) -> SigningKey:
        """The key of that name (NOT_FOUND)."""

    async def list(self) -> Sequence[KeyID]:
        """The names of all keys, sorted."""

    async def delete(self, key_id: KeyID) -> None:
        """Destroy a key, if it exists."""


KEY_MANAGERS: Seam[PluginContext, KeyManager] = Seam(group="cognomen.issuer.key_managers", key="key_manager")
"""Where to find the installed ones."""
