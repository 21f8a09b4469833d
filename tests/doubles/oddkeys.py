"""Key managers as another package may make them: keys that live elsewhere, code that fails or never answers."""

import asyncio
from collections.abc import Sequence
from typing import NoReturn

from issuer.keymanager.memory import MemoryKeyManager
from svid.keys import KeyID, KeyKind, PublicKey, SigningKey

__all__ = ["FailingKeys", "Handle", "HandledKeys", "SilentKeys"]


class Handle:
    """A handle on a key that lives elsewhere, which may fail to sign."""

    def __init__(self, key: SigningKey, *, raises: BaseException | None = None, signs: object = None) -> None:
        self._key, self._raises, self._signs = key, raises, signs

    @property
    def id(self) -> KeyID:
        """The key's name."""
        return self._key.id

    @property
    def kind(self) -> KeyKind:
        """The key's kind."""
        return self._key.kind

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._key.public_key

    def sign(self, data: bytes) -> bytes:
        """Sign, fail, or return something else."""
        if self._raises is not None:
            raise self._raises
        return self._key.sign(data) if self._signs is None else self._signs  # type: ignore[return-value]  # as code without types may


class HandledKeys(MemoryKeyManager):
    """Hands out handles."""

    def __init__(self, *, raises: BaseException | None = None, signs: object = None) -> None:
        super().__init__()
        self._raises, self._signs = raises, signs

    async def generate(self, key_id: KeyID, kind: KeyKind) -> SigningKey:
        """Make a key."""
        return Handle(await super().generate(key_id, kind), raises=self._raises, signs=self._signs)

    async def get(self, key_id: KeyID) -> SigningKey:
        """The key of that name."""
        return Handle(await super().get(key_id), raises=self._raises, signs=self._signs)


class _NoKeys:
    """Has no key, and does one and the same thing at each call."""

    async def generate(self, key_id: KeyID, kind: KeyKind) -> SigningKey:
        """Do it."""
        del key_id, kind
        return await self._do()

    async def get(self, key_id: KeyID) -> SigningKey:
        """Do it."""
        del key_id
        return await self._do()

    async def list(self) -> Sequence[KeyID]:
        """Do it."""
        return await self._do()

    async def delete(self, key_id: KeyID) -> None:
        """Do it."""
        del key_id
        await self._do()

    async def _do(self) -> NoReturn:
        raise NotImplementedError


class FailingKeys(_NoKeys):
    """Raises that at each call."""

    def __init__(self, raises: BaseException) -> None:
        self._raises = raises

    async def _do(self) -> NoReturn:
        raise self._raises


class SilentKeys(_NoKeys):
    """Never answers."""

    async def _do(self) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError
