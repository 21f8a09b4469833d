"""Record what an operator is refused before a flow has the command: the admin door could not read it.

A flow records what it refuses itself. issuer/refusing is the policy of both.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Datastore
from issuer.decisions.actions import Action
from issuer.refusing import refusals_on_record
from svid.clock import Clock
from svid.errors import SVIDError

__all__ = ["RecordRefusals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRefusals:
    """Records refusals of commands."""

    datastore: Datastore
    clock: Clock

    @asynccontextmanager
    async def __call__(self, action: Action, *, actor: str) -> AsyncIterator[None]:
        """Record what leaves the block, if it is a refusal that no flow has recorded; an invalid value is one.

        Raises:
            Refused: the same; INVALID for an invalid value; UNAVAILABLE instead, when the store does not take the row.
        """
        async with refusals_on_record(self.datastore, self.clock, action, actor=actor):
            try:
                yield
            except SVIDError as err:
                raise Refused(Kind.INVALID, str(err)) from err
