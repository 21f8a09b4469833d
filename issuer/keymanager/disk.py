"""Keys on disk: one file each, `<name>.key`, PKCS #8 in DER, mode 0600, in a directory of mode 0700.

cognomen.process.privatefile decides what counts as private, and wholefile how a file is replaced.
"""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from cognomen.daemon.plugins import NoSettings, Plugin, PluginContext
from cognomen.process.ownthreads import in_own_thread
from cognomen.process.privatefile import (
    private_directory,
    read_private,
    remove_private,
    sync_directory,
    write_private,
)
from cognomen.process.wholefile import sweep
from cognomen.protocol.errors import Kind, Refused
from issuer.archive import KEYS, MAX_KEY_BYTES
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

__all__ = ["PLUGIN", "DiskKeyManager"]

_SUFFIX = ".key"


class DiskKeyManager:
    """Keys by name, in a directory that is ours alone.

    The first call creates the directory if it is missing, and removes what killed writers left in it. No later call creates it: keys in a
    new one would hide that the others were taken away.

    Raises:
        Refused: INVALID when the directory or a file is open to others, somebody else may write a directory above, or a file does not hold
            a key; UNAVAILABLE on a system error: nobody gets a key that a crash could undo.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._is_open = False
        self._one_at_a_time = asyncio.Lock()
        self._durable: set[KeyID] = set()

    async def generate(self, key_id: KeyID, kind: KeyKind) -> SigningKey:
        """Make a key, durably, under a name that is not taken (EXISTS)."""
        path = self._path(key_id)
        async with self._one_at_a_time:
            key = await in_own_thread(_generate, path, key_id, kind)
            self._durable.add(key_id)
            return key

    async def get(self, key_id: KeyID) -> SigningKey:
        """The key of that name (NOT_FOUND)."""
        key = await in_own_thread(_load, self._path(key_id), key_id)
        if key_id not in self._durable:  # written by a process that ended before the key was durable
            await in_own_thread(sync_directory, self._directory)
            self._durable.add(key_id)
        return key

    async def list(self) -> Sequence[KeyID]:
        """The names of all keys, sorted."""
        return await in_own_thread(_list, self._opened())

    async def delete(self, key_id: KeyID) -> None:
        """Destroy a key, durably, if it exists."""
        path = self._path(key_id)
        async with self._one_at_a_time:
            self._durable.discard(key_id)
            await in_own_thread(remove_private, path)

    def _path(self, key_id: KeyID) -> Path:
        check_key_id(key_id)
        return self._opened() / f"{key_id}{_SUFFIX}"

    def _opened(self) -> Path:
        """The directory, checked at each call."""
        if self._is_open:
            return _there(self._directory)
        directory = private_directory(self._directory)
        sweep(directory)
        self._is_open = True
        return directory


def _generate(path: Path, key_id: KeyID, kind: KeyKind) -> SigningKey:
    if os.path.lexists(path):
        raise Refused(Kind.EXISTS, f"key: {key_id} already exists")
    key = generate_private_key(kind)
    try:
        write_private(path, private_key_to_der(key))
    except Refused:
        # It may not be durable: the next attempt makes another key, which nobody has seen either.
        with contextlib.suppress(Refused):
            remove_private(path)
        raise
    return LocalSigningKey(key_id, key)


def _load(path: Path, key_id: KeyID) -> SigningKey:
    try:
        der = read_private(path, max_bytes=MAX_KEY_BYTES)
    except Refused as refused:
        if refused.kind is Kind.NOT_FOUND:
            raise Refused(Kind.NOT_FOUND, f"key: {key_id} does not exist", hint=f"looked for {path}") from refused
        raise
    try:
        return LocalSigningKey(key_id, private_key_from_der(der))
    except UnusableKeyError as e:
        raise Refused(Kind.INVALID, f"file {path}: {e}", hint="restore a backup") from e


def _there(directory: Path) -> Path:
    """The directory, checked as at the first call but not created again."""
    try:
        return private_directory(directory, make=False)
    except Refused as refused:
        if os.path.lexists(directory):
            raise
        raise Refused(
            Kind.UNAVAILABLE,
            f"directory {directory}: the directory with the keys is gone",
            hint="put it back, or stop the issuer and restore a backup",
        ) from refused


def _list(directory: Path) -> Sequence[KeyID]:
    try:
        return sorted(KeyID(path.stem) for path in directory.glob(f"[!.]*{_SUFFIX}"))
    except OSError as e:
        raise _unavailable(directory, e) from e


def _unavailable(path: Path, error: OSError) -> Refused:
    return Refused(
        Kind.UNAVAILABLE,
        f"{path}: {(error.strerror or str(error)).lower()}",
        hint="check its permissions and the disk",
    )


PLUGIN: Plugin[NoSettings, PluginContext, DiskKeyManager] = Plugin(
    NoSettings, lambda _settings, surroundings: DiskKeyManager(surroundings.state_dir / KEYS)
)
