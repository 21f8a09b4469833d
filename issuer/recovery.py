"""What an operator can do to the state of an issuer that cannot start: the database is there, the keys are not.

Beside main and backup, the only other place that names adapters.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.privatefile import alone_in, private_directory
from issuer.backup import DATABASE, KEYS
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.flows.forget_authorities import ForgetAuthorities
from issuer.keymanager.disk import DiskKeyManager
from svid.clock import SystemClock
from svid.keys import KeyID

__all__ = ["forget_authorities"]


def forget_authorities(state_dir: Path, *, actor: str) -> Sequence[KeyID]:
    """Retire the authorities whose key is gone, in the state of an issuer that does not run; which they were.

    Raises:
        Refused: NOT_FOUND without a database; EXISTS when an issuer runs on it; CONFLICT when every key is there.
    """
    if not (state_dir / DATABASE).exists():
        raise Refused(Kind.NOT_FOUND, f"state_dir: expected an issuer's, found no {DATABASE} in {state_dir}")
    with alone_in(private_directory(state_dir), "issuer"):
        return asyncio.run(_forget(state_dir, actor))


async def _forget(state_dir: Path, actor: str) -> Sequence[KeyID]:
    datastore = await SQLiteDatastore.open(state_dir / DATABASE)
    try:
        keys = DiskKeyManager(state_dir / KEYS)
        return await ForgetAuthorities(datastore=datastore, keys=keys, clock=SystemClock())(actor=actor)
    finally:
        await datastore.close()
