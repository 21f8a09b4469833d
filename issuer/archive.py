"""The file format of a backup: a tar with a manifest, the database, and the keys that it names. backup decides what goes in.

Shape: manifest.json first (format, version of it, trust_domain, made_at, incarnation, change, sha256 by member), then issuer.db and
keys/NAME.key.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Self

from svid.encoding import json_value

__all__ = ["DATABASE", "KEYS", "MAX_KEY_BYTES", "Backup", "pack", "unpack"]

DATABASE, KEYS = "issuer.db", "keys"
"""Where both are in a state directory and in a backup."""

MAX_KEY_BYTES = 16 * 1024
"""The maximum length of a key's file, in a state directory and in a backup."""

_FORMAT = "cognomen-backup"
_MANIFEST = "manifest.json"
_MEMBER = re.compile(r"issuer\.db|keys/[a-z0-9][a-z0-9-]{0,62}\.key")
_MAX_MANIFEST_BYTES = 1024 * 1024
_MAX_DATABASE_BYTES = 64 * 1024**3
_MAX_HEADER_BYTES = 64 * 1024  # for what tar says about a member, such as a length over 8 GiB
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup says about itself."""

    trust_domain: str
    made_at: datetime
    incarnation: str
    change: int
    keys: int


class _Digesting:
    """A file being read, and the digest of what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self.digest.update(chunk)
        return chunk


class _Member(tarfile.TarInfo):
    """A member whose headers have a sensible length, because they are read into memory before anything is known about the member."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type != tarfile.REGTYPE and member.size > _MAX_HEADER_BYTES:
            raise ValueError(f"expected headers of at most {_MAX_HEADER_BYTES} bytes, found {member.size}")
        return member


def pack(file: BinaryIO, database: BinaryIO, found: Backup, keys: Mapping[str, bytes]) -> None:
    """Write a backup, durably.

    Args:
        file: an empty file.
        database: read twice from its beginning, once for the manifest, and once into the file.
        keys: by name.

    Raises:
        ValueError: the database changed in between.
    """
    first = _Digesting(database)
    while first.read(_CHUNK):
        pass
    digests = {DATABASE: first.digest.hexdigest()}
    digests |= {f"{KEYS}/{name}.key": hashlib.sha256(key).hexdigest() for name, key in keys.items()}
    manifest = {
        "format": _FORMAT,
        "version": 1,
        "trust_domain": found.trust_domain,
        "made_at": found.made_at.isoformat(),
        "incarnation": found.incarnation,
        "change": found.change,
        "sha256": digests,
    }
    with tarfile.open(fileobj=file, mode="w") as tar:
        _add(tar, _MANIFEST, json.dumps(manifest, indent=1).encode())
        member, content = tarfile.TarInfo(DATABASE), _Digesting(database)
        member.size, member.mode = database.tell(), 0o600
        database.seek(0)
        tar.addfile(member, content)
        if content.digest.hexdigest() != digests[DATABASE]:
            raise ValueError("the copy of the database was changed while it was packed")
        for name, key in keys.items():
            _add(tar, f"{KEYS}/{name}.key", key)
    file.flush()
    os.fsync(file.fileno())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def unpack(file: BinaryIO, database: Path) -> tuple[Backup, dict[str, bytes]]:
    """Read a whole backup: write its database to that path, return its keys by file name; check every name and every digest.

    Raises:
        tarfile.TarError, ValueError, KeyError, OverflowError, RecursionError: it is not a backup, or not a whole one.
    """
    keys: dict[str, bytes] = {}
    seen: dict[str, str] = {}
    with tarfile.open(fileobj=file, mode="r|", tarinfo=_Member) as tar:
        members = iter(tar)
        manifest = _manifest(tar, next(members, None))
        for member in members:
            is_plain = (
                member.type == tarfile.REGTYPE and not member.issparse()
            )  # holes are of no use here, and could fill a disk
            if not is_plain or not _MEMBER.fullmatch(member.name) or member.name in seen:
                raise ValueError(f"expected {DATABASE} and keys, found {member.name[:80]!r}")
            if member.name == DATABASE:
                seen[DATABASE] = _write_database(tar, member, database)
            else:
                content = _content(tar, member, MAX_KEY_BYTES)
                seen[member.name] = hashlib.sha256(content).hexdigest()
                keys[member.name.removeprefix(f"{KEYS}/")] = content
    if seen != manifest["sha256"] or DATABASE not in seen:
        raise ValueError("its members and digests are not those in its manifest")
    return (
        Backup(
            trust_domain=str(manifest["trust_domain"]),
            made_at=datetime.fromisoformat(str(manifest["made_at"])),
            incarnation=str(manifest["incarnation"]),
            change=int(str(manifest["change"])),
            keys=len(keys),
        ),
        keys,
    )


def _manifest(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> dict[str, object]:
    if member is None or member.name != _MANIFEST or not member.isreg():
        raise ValueError(f"expected {_MANIFEST} first, found another file")
    found = json_value(_content(tar, member, _MAX_MANIFEST_BYTES))
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (_FORMAT, 1):
        raise ValueError(f"unknown format, expected {_FORMAT} 1")
    return found


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    if member.size > most:
        raise ValueError(f"{member.name}: expected at most {most} bytes, found {member.size}")
    return b"".join(_chunks(tar, member))


def _write_database(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    if member.size > _MAX_DATABASE_BYTES:
        raise ValueError(f"{member.name}: expected at most {_MAX_DATABASE_BYTES} bytes, found {member.size}")
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        for chunk in _chunks(tar, member):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _chunks(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    content = tar.extractfile(member)
    while content is not None and (chunk := content.read(_CHUNK)):
        yield chunk
