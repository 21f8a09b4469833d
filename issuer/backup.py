"""Make a backup of an issuer's state, whether or not the issuer runs, and restore one.

A backup covers a datastore that is one file, and keys on disk. archive defines its file format. The datastore's adapter copies and reads
the database, behind datastore/fileport. issuer/flows/restore_store decides what a restored store begins with.
"""

import asyncio
import contextlib
import os
import re
import secrets
import shlex
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from cognomen.process.ownpath import own_directory, own_way
from cognomen.process.privatefile import alone_in, private_directory, read_private, sync_directory, write_private
from cognomen.protocol.errors import FileRefused, Kind, Refused
from issuer.archive import DATABASE, KEYS, MAX_KEY_BYTES, Backup, pack, unpack
from issuer.datastore.fileport import Contents, Progress
from issuer.decisions.restoration import Forgotten
from issuer.flows.restore_store import RestoreStore
from issuer.flows.write_checkpoints import CHECKPOINT_KEYS
from issuer.scratch import Scratch, scratch_file, sweep_scratch
from issuer.stores import database_file
from svid.clock import SystemClock

__all__ = ["DATABASE", "KEYS", "Backup", "Progress", "back_up", "restore", "sweep_state"]

_NAME_IT = "name the state_dir from the issuer's configuration: --state DIR"
_LEFT_OF_KEY = re.compile(r"\.[a-z0-9-]{1,63}\.key\.[0-9a-f]{16}")


def back_up(state_dir: Path, file: Path, *, progress: Progress = lambda _done, _of: None) -> Backup:
    """Write a backup of an issuer's state, whether or not the issuer runs.

    Raises:
        Refused: NOT_FOUND without a database; EXISTS when the file already exists; INVALID when the database is damaged, or somebody else
            may write a directory above the file; UNAVAILABLE on a system error, or when the key of an authority that signs is missing.
    """
    if not (state_dir / DATABASE).exists():
        raise FileRefused(
            Kind.NOT_FOUND, f"state_dir: not an issuer's, there is no {DATABASE} in {state_dir}", hint=_NAME_IT
        )
    try:
        with own_directory(file.parent, shared=True):
            if os.path.lexists(file):
                raise _taken(file)
        sweep_scratch(file.parent)
        with scratch_file(file.parent, "db") as snapshot, scratch_file(file.parent, "tar") as packed:
            # Copy the database first: every key that it names exists by then, and stays until its authority is retired.
            with _told_as(f"backup {file}"):
                contents = database_file(state_dir / DATABASE).snapshot(snapshot.path, progress=progress)
            _check_copy(snapshot, contents)
            keys = _keys(state_dir, contents)
            found = Backup(
                trust_domain=contents.trust_domain,
                made_at=SystemClock().now(),
                incarnation=contents.incarnation,
                change=contents.change,
                keys=len(keys),
            )
            pack(packed.file, snapshot.file, found, keys)
            _publish(packed, file)
    except Refused as refused:
        if refused.kind is not Kind.INVALID:
            raise
        raise Refused(
            Kind.INVALID,
            f"backup {file}: {refused.detail}",
            hint=f"keep the backups that you have, and a copy of the state directory as it is: cp -a {shlex.quote(str(state_dir))} COPY;"
            " then restore the last backup",
        ) from refused
    except (OSError, ValueError) as e:
        raise _failed(f"backup {file}", e) from e
    return found


def restore(file: Path, state_dir: Path, *, actor: str) -> tuple[Backup, Forgotten | None]:
    """Unpack a backup into a state directory without a database, and begin anew with it.

    A restore that was killed can be repeated.

    Returns:
        The backup, and what the store may have forgotten.

    Raises:
        Refused: NOT_FOUND without a file; INVALID if the file is not a whole backup, or cannot be read; EXISTS when the directory has a
            database or another issuer's keys, or an issuer runs on it.
    """
    with alone_in(private_directory(state_dir), "issuer"), _opened(file) as packed:
        # A log of another database would be taken for this one's, and another checkpoint key for the one that signs.
        for left in state_dir.glob(f"{DATABASE}*"):
            raise _not_clear(state_dir, left)
        try:
            sweep_state(state_dir)
            temporary = state_dir / f".{DATABASE}.{secrets.token_hex(8)}"
            found, keys = _unpacked(file, packed, temporary)
            _check_keys(state_dir, keys)
            forgotten = asyncio.run(_begin_anew(temporary, actor, found))
            directory = private_directory(state_dir / KEYS)
            for name, key in keys.items():
                write_private(directory / name, key)
            sync_directory(state_dir)
            temporary.rename(state_dir / DATABASE)  # from here on the state is restored
            sync_directory(state_dir)
        except OSError as e:
            raise _failed(f"restore {file}", e) from e
        finally:
            sweep_state(state_dir)
    return found, forgotten


def sweep_state(state_dir: Path) -> None:
    """Remove what a killed process left of a database in an unused state directory: the rest of a restore, or of a disk test."""
    for left in state_dir.glob(f".{DATABASE}.*"):
        left.unlink()


async def _begin_anew(database: Path, actor: str, found: Backup) -> Forgotten | None:
    datastore = await database_file(database).open()
    try:
        return await RestoreStore(datastore=datastore, clock=SystemClock())(actor=actor, made_at=found.made_at)
    finally:
        await datastore.close()


def _check_copy(snapshot: Scratch, contents: Contents) -> None:
    """Refuse to pack a different file than the one that was written and read, or only a part of it.

    Raises:
        Refused: UNAVAILABLE
    """
    size = os.fstat(snapshot.file.fileno()).st_size
    if size != contents.size:
        raise _taken_away(snapshot, f"the copy of the database to be {contents.size} bytes long, found {size}")
    if not snapshot.is_named():
        raise _taken_away(snapshot, "the copy of the database to stay where it is, found it removed or replaced")


def _taken_away(scratch: Scratch, expected: str) -> Refused:
    return Refused(
        Kind.UNAVAILABLE,
        f"backup: expected {expected}",
        hint=f"somebody is changing files in {scratch.path.parent}: back up into a directory that only this user may write",
    )


def _publish(packed: Scratch, file: Path) -> None:
    """Give a finished backup its name, unless the name is already taken."""
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Link the open file, not what has its name now (openat(2), O_TMPFILE). With a directory given, Python follows the link in /proc.
        os.link(f"/proc/self/fd/{packed.file.fileno()}", file.name, dst_dir_fd=directory, follow_symlinks=True)
        os.fsync(directory)
    except FileExistsError as e:
        raise _taken(file) from e
    except OSError:  # a file system without hard links
        if not packed.is_named():
            raise _taken_away(packed, "the backup to stay where it is, found it removed or replaced") from None
        packed.path.rename(file)
        os.fsync(directory)
    finally:
        os.close(directory)


def _taken(file: Path) -> Refused:
    return Refused(Kind.EXISTS, f"file {file}: already exists", hint="name another file")


def _failed(what: str, error: OSError | ValueError) -> Refused:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return FileRefused(Kind.UNAVAILABLE, f"{what}: {reason.lower()}", hint="check the path and the free space")


@contextlib.contextmanager
def _told_as(what: str) -> Iterator[None]:
    """Add to the datastore's refusals what we were doing."""
    try:
        yield
    except Refused as refused:
        if refused.kind is not Kind.UNAVAILABLE:
            raise
        raise Refused(Kind.UNAVAILABLE, f"{what}: {refused.detail}", hint=refused.hint, **refused.facts) from refused


def _keys(state_dir: Path, contents: Contents) -> dict[str, bytes]:
    """The keys that a database names, and the checkpoint keys."""
    names = {**contents.keys}
    names |= {path.stem: False for path in (state_dir / KEYS).glob(f"{CHECKPOINT_KEYS}*.key")}
    keys = {name: _key(state_dir, name, is_needed=is_needed) for name, is_needed in names.items()}
    return {name: key for name, key in keys.items() if key is not None}


def _key(state_dir: Path, name: str, *, is_needed: bool) -> bytes | None:
    """The content of a key's file; None: its authority has been retired in the meantime."""
    try:
        return read_private(state_dir / KEYS / f"{name}.key", max_bytes=MAX_KEY_BYTES)
    except Refused as refused:
        if refused.kind is not Kind.NOT_FOUND:
            raise
        if is_needed:
            raise Refused(
                Kind.UNAVAILABLE,
                f"key {name}: the key of the authority that signs is missing",
                hint="a restored issuer could sign nothing without it; find out where the key went",
            ) from refused
        return None


def _unpacked(path: Path, file: BinaryIO, database: Path) -> tuple[Backup, dict[str, bytes]]:
    """Unpack a backup, and check that its database is whole and is the one in the manifest.

    Raises:
        Refused: INVALID
    """
    try:
        found, keys = unpack(file, database)
    except (tarfile.TarError, ValueError, KeyError, OverflowError, RecursionError) as e:
        raise _not_whole(path, str(e)) from e
    try:
        with _told_as(f"restore {path}"):
            contents = database_file(database).contents()
    except Refused as refused:
        if refused.kind is not Kind.INVALID:
            raise
        raise _not_whole(path, refused.detail) from refused
    named = (found.trust_domain, found.incarnation, found.change)
    if named != (contents.trust_domain, contents.incarnation, contents.change):
        raise _not_whole(path, "its database is not the one that its manifest names")
    lacking = sorted(name for name, is_needed in contents.keys.items() if is_needed and f"{name}.key" not in keys)
    if lacking:
        raise _not_whole(path, f"the key of the authority that signs is missing, {lacking[0]}")
    return found, keys


def _not_whole(path: Path, reason: str) -> Refused:
    return Refused(Kind.INVALID, f"backup {path}: damaged or incomplete: {reason}", hint="restore an earlier backup")


def _check_keys(state_dir: Path, keys: Mapping[str, bytes]) -> None:
    """Refuse a directory with keys that are not the backup's. The backup's own may be there from a restore that was killed.

    Raises:
        Refused: EXISTS
    """
    for left in (state_dir / KEYS).glob("*"):
        if _LEFT_OF_KEY.fullmatch(left.name):
            left.unlink()
        elif left.name not in keys or read_private(left, max_bytes=MAX_KEY_BYTES) != keys[left.name]:
            raise _not_clear(state_dir, left)


def _not_clear(state_dir: Path, left: Path) -> Refused:
    return Refused(
        Kind.EXISTS,
        f"state_dir: expected one without a database and keys, found {left}",
        hint=f"move {state_dir} away, or use a different state_dir",
    )


def _opened(path: Path) -> BinaryIO:
    """Open a backup that nobody else can have written, because we will trust its content."""
    try:
        with own_way(path) as way:
            file = os.fdopen(os.open(f"/proc/self/fd/{way}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as e:  # also for a directory, which fdopen refuses
        raise FileRefused(
            Kind.NOT_FOUND if isinstance(e, FileNotFoundError) else Kind.INVALID,
            f"backup {path}: {(e.strerror or str(e)).lower()}",
            hint="name a file that cognomen issuer backup wrote and that this user may read",
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
        hint="if you trust its content: copy it, and chmod 600 the copy",
    )
