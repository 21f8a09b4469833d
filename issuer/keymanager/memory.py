"""Keys in this process's memory, lost when it ends. For tests, and for issuers that need no past."""

from collections.abc import Sequence

from cognomen.daemon.plugins import NoSettings, Plugin, PluginContext
from cognomen.protocol.errors import Kind, Refused
from issuer.keymanager.port import check_key_id
from svid.keys import KeyID, KeyKind, LocalSigningKey, SigningKey, generate_private_key

__all__ = ["PLUGIN", "MemoryKeyManager"]


class MemoryKeyManager:
    """Keys by name, in a dictionary."""

    def __init__(self) -> None:
        self._keys: dict[KeyID, SigningKey] = {}

    async def generate(self, key_id: KeyID, kind: KeyKind) -> SigningKey:
        """Make a key under a name that is not taken (EXISTS)."""
        check_key_id(key_id)
        if key_id in self._keys:
            raise Refused(Kind.EXISTS, f"key: {key_id} already exists")
        self._keys[key_id] = LocalSigningKey(key_id, generate_private_key(kind))
        return self._keys[key_id]

    async def get(self, key_id: KeyID) -> SigningKey:
        """The key of that name (NOT_FOUND)."""
        check_key_id(key_id)
        if key_id not in self._keys:
            raise Refused(Kind.NOT_FOUND, f"key: {key_id} does not exist")
        return self._keys[key_id]

    async def list(self) -> Sequence[KeyID]:
        """The names of all keys, sorted."""
        return sorted(self._keys)

    async def delete(self, key_id: KeyID) -> None:
        """Forget a key, if it exists."""
        check_key_id(key_id)
        self._keys.pop(key_id, None)


PLUGIN: Plugin[NoSettings, PluginContext, MemoryKeyManager] = Plugin(
    NoSettings, lambda _settings, _surroundings: MemoryKeyManager()
)
