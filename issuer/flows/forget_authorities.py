"""Retire the authorities whose key is lost for good, so that the issuer can begin anew: it makes others when it starts.

No node knows those: each has to be invited again. That nothing of it happens unasked: rotate_authority.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.audit import AuditEvent
from issuer.flows.rotate_authority import retire_in
from issuer.issuance import has_key
from issuer.keymanager.port import KeyManager
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
        """Do it, in one transaction; which they were.

        Raises:
            Refused: CONFLICT when every key is there.
        """
        rows = [row for row in await self.datastore.read(lambda tx: tx.authorities.list()) if row.is_published]
        lost = [row for row in rows if not await has_key(self.keys, row)]
        if not lost:
            raise Refused(
                Kind.CONFLICT,
                "authorities: expected one whose key is gone, found none",
                hint="one whose key is there is taken out by: cognomen authority revoke",
            )

        def work(tx: Transaction) -> None:
            now = self.clock.now()
            for row in lost:
                retire_in(tx, row, now=now)
                facts = {"why": "its key is gone"}
                event = AuditEvent(at=now, actor=actor, action="authority retired", subject=row.key_id, facts=facts)
                tx.audit.append([event])

        await self.datastore.write(work)
        return [row.key_id for row in lost]
