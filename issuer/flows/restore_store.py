"""Begin anew with a store from a backup: a new incarnation, no tokens, nodes to be confirmed, a new authority to come.

issuer/backup restores the rows. issuer/decisions/restoration decides what becomes of an authority and its revocation list, which the issuer
signs anew when it starts (flows/publish_crl); rotation decides that its successor signs as soon as everybody knows it.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.restoration import (
    SEQUENCE_LEAP,
    Forgotten,
    Restored,
    forgotten,
    restored_authority,
    restored_crl,
    restored_export,
)
from svid.clock import Clock

__all__ = ["RestoreStore"]

_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreStore:
    """Makes a copied store safe for an issuer to use."""

    datastore: Datastore
    clock: Clock

    async def __call__(self, *, actor: str, made_at: datetime) -> Forgotten | None:
        """Begin anew, in one transaction; returns what the store may have forgotten.

        Args:
            made_at: when the backup was made.
        """
        now = self.clock.now()
        restored = Restored(at=now, backup_of=made_at)

        def work(tx: Transaction) -> Forgotten | None:
            # 1. All followers must begin again, whatever they have seen.
            before = tx.changes.head()
            tx.changes.begin_anew(restored)
            # 2. This store does not know what was handed out after the backup.
            tx.tokens.prune(expired_before=datetime.max.replace(tzinfo=now.tzinfo))
            after = ""
            while page := tx.nodes.find(after=after, limit=_PAGE):
                for node in page:
                    tx.nodes.put(replace(node, is_unconfirmed=True))
                after = page[-1].id
            tx.uses.begin_anew(now)
            # 3. Nor what was signed: treat the authorities as if they had signed until now, and have a new next one made.
            for row in tx.authorities.list():
                tx.authorities.put(restored_authority(row, now=now))
                if (crl := tx.crls.get(row.key_id)) is not None:
                    tx.crls.put(restored_crl(crl, now=now))
            for export in tx.exports.list():  # nor what was exported since
                tx.exports.put(restored_export(export))
            tx.bundles.advance(by=SEQUENCE_LEAP)
            tx.times.note(now)
            tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
            # 4. Record it.
            facts = {"incarnation": before.incarnation, "change": str(before.number), "backup_of": made_at.isoformat()}
            tx.audit.append([AuditEvent(at=now, actor=actor, action=Action.STORE_RESTORED, facts=facts)])
            # 5. Nobody can know here what was denied after the backup.
            return forgotten(restored, tx.authorities.list())

        return await self.datastore.write(work)
