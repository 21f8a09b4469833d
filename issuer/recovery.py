"""Handle the state of an issuer that cannot or must not start: keys without their database, a database without its keys.

stores chooses the datastore. Keys are on disk.
"""

import asyncio
import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path

from cognomen.process.privatefile import alone_in, private_directory
from cognomen.protocol.errors import FileRefused, Kind, Refused
from issuer.backup import DATABASE, KEYS, sweep_state
from issuer.datastore.port import Datastore
from issuer.flows.forget_authorities import ForgetAuthorities
from issuer.keymanager.disk import DiskKeyManager
from issuer.keymanager.port import KeyManager
from issuer.stores import database_file
from svid.clock import SystemClock
from svid.keys import KeyID

__all__ = ["check_database", "check_rows", "forget_authorities"]


def check_database(state_dir: Path) -> bool:
    """Refuse to begin a new trust domain where an issuer has been: it left keys or an unfinished restore.

    Anything else that a killed process left is removed.

    Returns:
        Whether no issuer has been here, so that everything will be new.

    Raises:
        Refused: CONFLICT
    """
    if _has_content(state_dir / DATABASE):
        sweep_state(state_dir)
        return False
    if [*state_dir.glob(f".{DATABASE}.[0-9a-f]*")]:
        raise Refused(
            Kind.CONFLICT,
            f"state_dir: expected an issuer's or an empty one, found an unfinished restore in {state_dir}",
            hint=f"restore again: cognomen issuer restore FILE --state {shlex.quote(str(state_dir))}",
        )
    if _has_keys(state_dir / KEYS) or database_file(state_dir / DATABASE).has_log():
        raise _without_database(state_dir, [*sorted(state_dir.glob(f"{DATABASE}*")), *state_dir.glob(KEYS)])
    return True


async def check_rows(datastore: Datastore, keys: KeyManager, state_dir: Path) -> None:
    """Refuse a database that knows no authority although there are keys: an authority is always recorded before its key is made.

    Raises:
        Refused: CONFLICT
    """
    if await keys.list() and not await datastore.read(lambda tx: tx.authorities.list()):
        raise _without_database(
            state_dir, [state_dir / DATABASE, state_dir / KEYS]
        )  # its log disappears when it is closed


def forget_authorities(state_dir: Path, *, actor: str) -> Sequence[KeyID]:
    """Retire the authorities whose keys are gone, in the state of an issuer that does not run; returns which they were.

    Raises:
        Refused: NOT_FOUND without a database; EXISTS when an issuer runs on it; CONFLICT when every key exists.
    """
    if not (state_dir / DATABASE).exists():
        raise FileRefused(Kind.NOT_FOUND, f"state_dir: not an issuer's, there is no {DATABASE} in {state_dir}")
    with alone_in(private_directory(state_dir), "issuer"):
        return asyncio.run(_forget(state_dir, actor))


async def _forget(state_dir: Path, actor: str) -> Sequence[KeyID]:
    datastore = await database_file(state_dir / DATABASE).open()
    try:
        keys = DiskKeyManager(state_dir / KEYS)
        return await ForgetAuthorities(datastore=datastore, keys=keys, clock=SystemClock())(actor=actor)
    finally:
        await datastore.close()


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _has_keys(directory: Path) -> bool:
    return any(directory.glob("[!.]*.key"))


def _without_database(state_dir: Path, left: Sequence[Path]) -> Refused:
    names = (f"lost-{number}" for number in itertools.count(1))
    away = next(path for path in map(state_dir.joinpath, names) if not path.exists())
    state, moved = shlex.quote(str(state_dir)), shlex.join(map(str, [*left, away]))
    return Refused(
        Kind.CONFLICT,
        f"state_dir: the database for what is in {state_dir} is missing or blank",
        hint="nodes and workloads trust the keys that are left, and would not trust an issuer that begins anew;"
        f" move what is left away: mkdir -m 700 {shlex.quote(str(away))} && mv {moved}\n"
        f"then restore the last backup: cognomen issuer restore FILE --state {state}\n"
        "if you have no backup, start the issuer now: it begins a new trust domain, and every node has to be invited again",
    )
