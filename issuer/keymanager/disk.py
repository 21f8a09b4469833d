"""Keys on disk: one file each, `<name>.key`, PKCS #8 in DER, mode 0600, in a directory of mode 0700.

What counts as private, and how a file is replaced as a whole: cognomen.daemon.privatefile.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.privatefile import private_directory, read_private, sync_directory, write_private
from issuer.keymanager.port import check_key_id
from svid.errors import UnusableKeyError
from svid.keys import (
    KeyID,
    KeyKind,
    LocalSigningKey,
    SigningKey,
    generate_private_key,
    private_key_from_der,
    private_key_to_der,
)

__all__ = ["DiskKeyManager"]

_SUFFIX = ".key"
_MAX_BYTES = 16 * 1024


class DiskKeyManager:
    """Keys by name, in a directory that is ours alone.

    Raises:
        Refused: INVALID when the directory or a file is open to others, or a file holds no key.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = private_directory(directory)
        self._one_at_a_time = asyncio.Lock()

    async def generate(self, key_id: KeyID, kind: KeyKind) -> SigningKey:
        """Make a key, durably, under a name that is not taken (EXISTS)."""
        path = self._path(key_id)
        async with self._one_at_a_time:
            return await asyncio.to_thread(_generate, path, key_id, kind)

    async def get(self, key_id: KeyID) -> SigningKey:
        """The key of that name (NOT_FOUND)."""
        return await asyncio.to_thread(_load, self._path(key_id), key_id)

    async def list(self) -> Sequence[KeyID]:
        """The names of all keys, sorted."""
        return await asyncio.to_thread(_list, self._directory)

    async def delete(self, key_id: KeyID) -> None:
        """Destroy a key, durably; one that is not there is fine."""
        path = self._path(key_id)
        async with self._one_at_a_time:
            await asyncio.to_thread(_delete, path)

    def _path(self, key_id: KeyID) -> Path:
        check_key_id(key_id)
        return private_directory(self._directory) / f"{key_id}{_SUFFIX}"


def _generate(path: Path, key_id: KeyID, kind: KeyKind) -> SigningKey:
    if os.path.lexists(path):
        raise Refused(Kind.EXISTS, f"key: expected a new name, found {key_id}, which is taken")
    key = generate_private_key(kind)
    write_private(path, private_key_to_der(key))
    return LocalSigningKey(key_id, key)


def _load(path: Path, key_id: KeyID) -> SigningKey:
    try:
        der = read_private(path, max_bytes=_MAX_BYTES)
    except Refused as refused:
        if refused.kind is Kind.NOT_FOUND:
            raise Refused(Kind.NOT_FOUND, f"key: {key_id} is not there", hint=f"looked for {path}") from refused
        raise
    try:
        return LocalSigningKey(key_id, private_key_from_der(der))
    except UnusableKeyError as e:
        raise Refused(Kind.INVALID, f"file {path}: {e}", hint="restore a backup") from e


def _list(directory: Path) -> Sequence[KeyID]:
    private_directory(directory)
    try:
        return sorted(KeyID(path.stem) for path in directory.glob(f"[!.]*{_SUFFIX}"))
    except OSError as e:
        raise _unavailable(directory, e) from e


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as e:
        raise _unavailable(path, e) from e


def _unavailable(path: Path, error: OSError) -> Refused:
    return Refused(
        Kind.UNAVAILABLE,
        f"{path}: {(error.strerror or str(error)).lower()}",
        hint="check its permissions and the disk",
    )
