"""Retire the authorities whose keys are lost for good, so that the issuer can begin anew: it makes new ones when it starts.

No node knows the new ones, so every node has to be invited again. rotate_authority makes sure that this never happens unasked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import Authority
from issuer.issuance import has_key
from issuer.keymanager.port import KeyManager
from issuer.refusing import refusals_on_record
from issuer.works.authorities import retire_in
from svid.clock import Clock
from svid.keys import KeyID

__all__ = ["ForgetAuthorities"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetAuthorities:
    """Retires them."""

    datastore: Datastore
    keys: KeyManager
    clock: Clock

    async def __call__(self, *, actor: str) -> Sequence[KeyID]:
        """Retire them in one transaction; returns which they were.

        Raises:
            Refused: CONFLICT when every key is there; it is recorded first.
        """
        async with refusals_on_record(self.datastore, self.clock, Action.AUTHORITY_RETIRED, actor=actor):
            lost = await self._lost()
            await self.datastore.write(lambda tx: self._retire(tx, lost, actor))
        return [row.key_id for row in lost]

    async def _lost(self) -> Sequence[Authority]:
        rows = [row for row in await self.datastore.read(lambda tx: tx.authorities.list()) if row.is_published]
        lost = [row for row in rows if not await has_key(self.keys, row)]
        if not lost:
            raise Refused(
                Kind.CONFLICT,
                "authorities: every key is there, so there is none to forget",
                hint="to remove an authority whose key is there: cognomen authority revoke",
            )
        return lost

    def _retire(self, tx: Transaction, lost: Sequence[Authority], actor: str) -> None:
        now, facts = self.clock.now(), {"why": "its key is gone"}
        for row in lost:
            retire_in(tx, row, now=now)
        retired = (row.key_id for row in lost)
        tx.audit.append(
            [
                AuditEvent(at=now, actor=actor, action=Action.AUTHORITY_RETIRED, subject=key_id, facts=facts)
                for key_id in retired
            ]
        )
