"""A datastore that refuses while it is told to, as one on a full or missing disk does."""

from collections.abc import Callable
from typing import TypeVar

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction

__all__ = ["RefusingStore"]

T = TypeVar("T")


class RefusingStore:
    """Another store, and whether it writes.

    Attributes:
        refuses: every write is refused with UNAVAILABLE while it is set.
        unreadable: every read, too.
        is_full: expendable writes are refused while it is set.
        gone: what was removed or replaced under it.
        damage: what is damaged.
    """

    def __init__(self, store: Datastore) -> None:
        self._store = store
        self.refuses = False
        self.unreadable = False
        self.is_full = False
        self.gone = ""
        self.damage = ""

    async def read(self, work: Callable[[Transaction], T]) -> T:
        if self.unreadable:
            raise Refused(Kind.UNAVAILABLE, "store: full")
        return await self._store.read(work)

    async def write(self, work: Callable[[Transaction], T], *, expendable: bool = False) -> T:
        if self.refuses or (self.is_full and expendable):
            raise Refused(Kind.UNAVAILABLE, "store: full")
        return await self._store.write(work, expendable=expendable)

    async def lacking_room(self) -> str:
        return "found 1.0 MiB free, expected 20.0 MiB" if self.is_full else await self._store.lacking_room()

    async def missing(self) -> str:
        if self.unreadable:
            raise Refused(Kind.UNAVAILABLE, "store: full")
        return self.gone

    async def check(self) -> str:
        if self.unreadable:
            raise Refused(Kind.UNAVAILABLE, "store: full")
        return self.damage

    async def wait_for_change(self, after: int) -> int:
        return await self._store.wait_for_change(after)

    async def close(self) -> None:
        await self._store.close()
