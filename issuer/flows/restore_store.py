"""Begin anew with a store that came from a backup: another incarnation, no tokens, nodes to be confirmed, another authority to come.

Where the rows come from: issuer/backup. What becomes of an authority is decided in issuer/decisions/restoration; that its successor signs
as soon as everybody knows it, in rotation.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from cognomen.daemon.auditlog import RESTORED
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.restoration import SEQUENCE_LEAP, Forgotten, Restored, forgotten, restored_authority
from svid.clock import Clock

__all__ = ["RestoreStore"]

_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreStore:
    """Makes a copied store one that an issuer may go on with."""

    datastore: Datastore
    clock: Clock

    async def __call__(self, *, actor: str, made_at: datetime) -> Forgotten | None:
        """Do it, in one transaction; what the store may have forgotten.

        Args:
            made_at: when the backup was made.
        """
        now = self.clock.now()
        restored = Restored(at=now, backup_of=made_at)

        def work(tx: Transaction) -> Forgotten | None:
            # 1. Whatever followers have seen, they begin again.
            before = tx.changes.head()
            tx.changes.begin_anew(restored)
            # 2. What was handed out after the backup is not on these books.
            tx.tokens.prune(expired_before=datetime.max.replace(tzinfo=now.tzinfo))
            after = ""
            while page := tx.nodes.find(after=after, limit=_PAGE):
                for node in page:
                    tx.nodes.put(replace(node, is_unconfirmed=True))
                after = page[-1].id
            # 3. Nor what was signed: authorities count as having signed until now, and the next one is made anew.
            for row in tx.authorities.list():
                tx.authorities.put(restored_authority(row, now=now))
            tx.bundles.advance(by=SEQUENCE_LEAP)
            tx.times.note(now)
            tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
            # 4. On record.
            facts = {"incarnation": before.incarnation, "change": str(before.number), "backup_of": made_at.isoformat()}
            tx.audit.append([AuditEvent(at=now, actor=actor, action=RESTORED, facts=facts)])
            # 5. What was denied since the backup, nobody can know here.
            return forgotten(restored, tx.authorities.list())

        return await self.datastore.write(work)
