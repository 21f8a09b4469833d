"""A backup: one private tar file of the database, as it was at one moment, and of the keys that it names; and how it is unpacked.

Beside main, the only other place that names adapters: a backup is of SQLite and of keys on disk. What a restored store begins with:
issuer/flows/restore_store.

Shape: manifest.json first (format, version of it, trust_domain, made_at, incarnation, change, sha256 by member), then issuer.db and
keys/NAME.key.
"""

import asyncio
import hashlib
import io
import json
import os
import re
import secrets
import sqlite3
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.privatefile import alone_in, private_directory, read_private, sync_directory, write_private
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.restoration import Forgotten
from issuer.flows.restore_store import RestoreStore
from issuer.flows.write_checkpoints import CHECKPOINT_KEYS
from svid.clock import SystemClock

__all__ = ["DATABASE", "KEYS", "Backup", "Progress", "back_up", "restore"]

DATABASE, KEYS = "issuer.db", "keys"
"""Where both stand in a state directory, and in a backup."""

_FORMAT = "cognomen-backup"
_MANIFEST = "manifest.json"
_MEMBER = re.compile(r"issuer\.db|keys/[a-z0-9][a-z0-9-]{0,62}\.key")
_MAX_MANIFEST_BYTES = 1024 * 1024
_MAX_KEY_BYTES = 16 * 1024
_MAX_DATABASE_BYTES = 64 * 1024**3
_CHUNK = 1024 * 1024
_PAGES = 4096  # copied between two words about the progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup says of itself."""

    trust_domain: str
    made_at: datetime
    incarnation: str
    change: int
    keys: int


Progress = Callable[[int, int], None]
"""Is told how many pages of the database are copied, and how many there are."""


def back_up(state_dir: Path, file: Path, *, progress: Progress = lambda _done, _of: None) -> Backup:
    """Write a backup of an issuer's state, whether it runs or not.

    Raises:
        Refused: NOT_FOUND without a database; EXISTS when the file is there; UNAVAILABLE when the system says no, or the key of an
            authority that signs is not there.
    """
    if not (state_dir / DATABASE).exists():
        raise Refused(Kind.NOT_FOUND, f"state_dir: expected an issuer's, found no {DATABASE} in {state_dir}")
    if os.path.lexists(file):
        raise _taken(file)
    snapshot = file.with_name(f".{file.name}.{secrets.token_hex(8)}.db")
    partial = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(snapshot, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        # The database first: every key that it names is there by then, and stays until its authority is retired.
        with closing(sqlite3.connect(state_dir / DATABASE)) as source, closing(sqlite3.connect(snapshot)) as copy:
            _copy(source, copy, progress)
            found, names = _describe(copy)
        names |= {path.stem: False for path in (state_dir / KEYS).glob(f"{CHECKPOINT_KEYS}*.key")}
        keys = {name: _key(state_dir, name, is_needed=is_needed) for name, is_needed in names.items()}
        packed = {name: key for name, key in keys.items() if key is not None}
        _pack(partial, snapshot, found, packed)
        _publish(partial, file)
    except (OSError, sqlite3.Error) as e:
        reason = (isinstance(e, OSError) and e.strerror) or str(e)
        raise Refused(
            Kind.UNAVAILABLE, f"backup {file}: {reason.lower()}", hint="check the path and the free space"
        ) from e
    finally:
        for path in (snapshot, partial):
            path.unlink(missing_ok=True)
    return replace(found, keys=len(packed))


def restore(file: Path, state_dir: Path, *, actor: str) -> tuple[Backup, Forgotten | None]:
    """Unpack a backup into a state directory without a database, and begin anew with it.

    Returns:
        The backup, and what the store may have forgotten.

    Raises:
        Refused: NOT_FOUND without a file; INVALID for one that is no whole backup, or cannot be read; EXISTS when a database is there,
            or an issuer runs on it.
    """
    with alone_in(private_directory(state_dir), "issuer"), _opened(file) as packed:
        # Another database's log would be taken for this one's, another checkpoint key for the one that signs.
        for left in (*state_dir.glob(f"{DATABASE}*"), *(state_dir / KEYS).glob("*")):
            raise Refused(
                Kind.EXISTS,
                f"state_dir: expected one without a database and keys, found {left}",
                hint=f"move {state_dir} away, or name another state_dir",
            )
        temporary = state_dir / f".{DATABASE}.{secrets.token_hex(8)}"
        try:
            found, keys = _unpack(packed, temporary)
            forgotten = asyncio.run(_begin_anew(temporary, actor, found.made_at))
            directory = private_directory(state_dir / KEYS)
            for name, key in keys.items():
                write_private(directory / name, key)
            temporary.rename(state_dir / DATABASE)
            sync_directory(state_dir)
        except OSError as e:
            raise Refused(
                Kind.UNAVAILABLE,
                f"restore {file}: {(e.strerror or str(e)).lower()}",
                hint="check the path and the free space",
            ) from e
        except (tarfile.TarError, ValueError, KeyError, OverflowError, RecursionError, sqlite3.Error) as e:
            raise Refused(Kind.INVALID, f"backup {file}: expected one that is whole: {e}") from e
        finally:
            for left in state_dir.glob(f"{temporary.name}*"):
                left.unlink()
    return found, forgotten


async def _begin_anew(database: Path, actor: str, made_at: datetime) -> Forgotten | None:
    datastore = await SQLiteDatastore.open(database)
    try:
        return await RestoreStore(datastore=datastore, clock=SystemClock())(actor=actor, made_at=made_at)
    finally:
        await datastore.close()


def _copy(source: sqlite3.Connection, copy: sqlite3.Connection, progress: Progress) -> None:
    """Copy a database as it is at this moment; an issuer that writes meanwhile neither waits nor has the copy begin again."""
    source.execute("BEGIN")
    source.execute("SELECT id FROM meta").fetchone()  # from here on, this connection sees this moment
    source.backup(copy, pages=_PAGES, progress=lambda _, left, of: progress(of - left, of))
    source.rollback()


def _publish(partial: Path, file: Path) -> None:
    """Give a whole backup its name, unless something has that name by now."""
    try:
        os.link(partial, file)
    except FileExistsError as e:
        raise _taken(file) from e
    except OSError:  # a file system without hard links
        partial.rename(file)
    sync_directory(file.parent)


def _taken(file: Path) -> Refused:
    return Refused(Kind.EXISTS, f"file {file}: expected none, found one", hint="name another file")


def _describe(database: sqlite3.Connection) -> tuple[Backup, dict[str, bool]]:
    """What is in a snapshot, and the names of its authorities' keys: whether nothing could be signed without one."""
    incarnation, change = database.execute("SELECT incarnation, change_number FROM meta").fetchone()
    rows = database.execute("SELECT key_id, state = 'active' FROM authority WHERE state NOT IN ('intended', 'retired')")
    names = {str(key_id): bool(is_active) for key_id, is_active in rows}
    issuer = database.execute("SELECT spiffe_id FROM credential WHERE kind = 'issuer' LIMIT 1").fetchone()
    trust_domain = issuer[0].split("/")[2] if issuer else ""
    made_at = SystemClock().now()
    found = Backup(trust_domain=trust_domain, made_at=made_at, incarnation=incarnation, change=change, keys=len(names))
    return found, names


def _key(state_dir: Path, name: str, *, is_needed: bool) -> bytes | None:
    """A key's file; None: its authority was retired meanwhile."""
    try:
        return read_private(state_dir / KEYS / f"{name}.key", max_bytes=_MAX_KEY_BYTES)
    except Refused as refused:
        if refused.kind is not Kind.NOT_FOUND:
            raise
        if is_needed:
            raise Refused(
                Kind.UNAVAILABLE,
                f"key {name}: expected the key of the authority that signs, found none",
                hint="a backup without it could sign nothing; where did the key go?",
            ) from refused
        return None


def _pack(path: Path, database: Path, found: Backup, keys: Mapping[str, bytes]) -> None:
    digests = {DATABASE: _digest(database)}
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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        _add(tar, _MANIFEST, json.dumps(manifest, indent=1).encode())
        with database.open("rb") as content:
            member = tarfile.TarInfo(DATABASE)
            member.size, member.mode = database.stat().st_size, 0o600
            tar.addfile(member, content)
        for name, key in keys.items():
            _add(tar, f"{KEYS}/{name}.key", key)
        tar.close()
        file.flush()
        os.fsync(descriptor)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def _unpack(file: BinaryIO, database: Path) -> tuple[Backup, dict[str, bytes]]:
    """Read a backup whole: its database to that path, its keys into memory; every name and every digest is looked at."""
    keys: dict[str, bytes] = {}
    seen: dict[str, str] = {}
    with tarfile.open(fileobj=file, mode="r|") as tar:
        members = iter(tar)
        manifest = _manifest(tar, next(members, None))
        for member in members:
            if member.type != tarfile.REGTYPE or not _MEMBER.fullmatch(member.name) or member.name in seen:
                raise ValueError(f"expected {DATABASE} and keys, found {member.name[:80]!r}")
            if member.name == DATABASE:
                seen[DATABASE] = _write_database(tar, member, database)
            else:
                content = _content(tar, member, _MAX_KEY_BYTES)
                seen[member.name] = hashlib.sha256(content).hexdigest()
                keys[member.name.removeprefix(f"{KEYS}/")] = content
    if seen != manifest["sha256"] or DATABASE not in seen:
        raise ValueError("expected the members and digests that its manifest names, found others")
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


def _opened(path: Path) -> BinaryIO:
    """Open a backup that nobody else may have written: what is in it will be believed."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as e:  # a directory, too: fdopen does not take one
        raise Refused(
            Kind.NOT_FOUND if isinstance(e, FileNotFoundError) else Kind.INVALID,
            f"backup {path}: {(e.strerror or str(e)).lower()}",
            hint="name a file that cognomen issuer backup wrote, and that this user may read",
        ) from e
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        complaint = "a regular file"
    elif found.st_uid not in {0, os.geteuid()} or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        complaint = f"one that only uid {os.geteuid()} may write"
    else:
        return file
    file.close()
    raise Refused(
        Kind.INVALID,
        f"backup {path}: expected {complaint}, found uid {found.st_uid}, mode {stat.filemode(found.st_mode)}",
        hint="if you trust what is in it: copy it, and chmod 600 the copy",
    )


def _manifest(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> dict[str, object]:
    if member is None or member.name != _MANIFEST or not member.isreg():
        raise ValueError(f"expected {_MANIFEST} first, found another")
    found = json.loads(_content(tar, member, _MAX_MANIFEST_BYTES))
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (_FORMAT, 1):
        raise ValueError(f"expected the format {_FORMAT} 1, found another")
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
