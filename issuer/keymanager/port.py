"""What the issuer asks of a key manager: keys by name, which never leave it."""

from collections.abc import Sequence
from typing import Protocol

from svid.keys import KeyID, KeyKind, SigningKey

__all__ = ["KeyManager"]


class KeyManager(Protocol):
    """Where the authorities' private keys live.

    Raises:
        Refused: UNAVAILABLE when the keys cannot be read or written; EXISTS, NOT_FOUND as said below.
    """

    async def generate(self, key_id: KeyID, kind: KeyKind) -> SigningKey:
        """Make a key, durably, under a name that is not taken (EXISTS)."""

    async def get(self, key_id: KeyID) -> SigningKey:
        """The key of that name (NOT_FOUND)."""

    async def list(self) -> Sequence[KeyID]:
        """The names of all keys, sorted."""

    async def delete(self, key_id: KeyID) -> None:
        """Destroy a key; one that is not there is fine."""
