"""A key manager whose code is another package's: whatever it does, its callers get a key, or a refusal that names it.

cognomen/daemon/plugincalls says what becomes of exceptions and silence. A key in this process's memory is handed out as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cognomen.daemon.plugincalls import PluginCalls
from issuer.keymanager.port import KeyManager
from svid.keys import KeyID, KeyKind, LocalSigningKey, PublicKey, SigningKey

__all__ = ["GuardedKeyManager"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedKeyManager:
    """Guards each call of a key manager, and each signature of its keys.

    Args:
        name: its name in the configuration.
        seconds: how long a call may take, less than an operator's command waits.

    Raises:
        Refused: as the key manager; UNAVAILABLE when it fails, gives no answer, or answers what no key manager may.
    """

    inner: KeyManager
    name: str
    seconds: float = 20.0
    calls: PluginCalls = field(default_factory=PluginCalls)

    async def generate(self, key_id: KeyID, kind: KeyKind) -> SigningKey:
        """Make a key, durably, under a name that is not taken (EXISTS)."""
        async with self.calls.within(self._plugin, self.seconds):
            return self._checked(await self.inner.generate(key_id, kind), key_id)

    async def get(self, key_id: KeyID) -> SigningKey:
        """The key of that name (NOT_FOUND)."""
        async with self.calls.within(self._plugin, self.seconds):
            return self._checked(await self.inner.get(key_id), key_id)

    async def list(self) -> Sequence[KeyID]:
        """The names of all keys, sorted."""
        async with self.calls.within(self._plugin, self.seconds):
            return sorted(await self.inner.list())

    async def delete(self, key_id: KeyID) -> None:
        """Destroy a key, if it exists."""
        async with self.calls.within(self._plugin, self.seconds):
            await self.inner.delete(key_id)

    @property
    def _plugin(self) -> str:
        return f"key manager {self.name}"

    def _checked(self, key: SigningKey, key_id: KeyID) -> SigningKey:
        if key.id != key_id:
            raise ValueError(f"expected the key {key_id}, found {key.id!r}")
        if isinstance(key, LocalSigningKey):
            return key
        return _GuardedKey(
            inner=key,
            id=key.id,
            kind=KeyKind(key.kind),
            public_key=key.public_key,
            plugin=self._plugin,
            calls=self.calls,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _GuardedKey:
    """A handle on a key that lives elsewhere. It also signs in threads, and so without a deadline."""

    inner: SigningKey = field(repr=False)
    id: KeyID
    kind: KeyKind
    public_key: PublicKey
    plugin: str
    calls: PluginCalls = field(repr=False)

    def sign(self, data: bytes) -> bytes:
        """Sign these bytes.

        Raises:
            Refused: UNAVAILABLE when the key manager's code fails.
        """
        with self.calls.calling(self.plugin):
            return bytes(memoryview(self.inner.sign(data)))
