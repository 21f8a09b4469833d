"""Record which copies of the bundle relying parties have, as the command that made them says.

issuer/decisions/exports decides what such a copy lacks; observe_issuer reports it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import exports
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.exports import ExportStanding
from issuer.keepers.authority_outlook import AuthorityOutlook
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings

__all__ = ["RecordExports"]

_NAME = 80  # longest text that can be the name of an export


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordExports:
    """Records exports, and forgets them."""

    datastore: Datastore
    outlook: AuthorityOutlook
    around: Surroundings

    async def all(self) -> Sequence[ExportStanding]:
        """All exports, by name, compared with the bundle."""
        return await self.outlook.exports()

    async def __call__(self, name: str, form: str, key_ids: Collection[str], digest: str, *, actor: str) -> None:
        """Record that a relying party has this copy now. One with the same authorities as before has no row in the audit record.

        Args:
            key_ids: the authorities of the bundle that was exported.

        Raises:
            Refused: as issuer/decisions/exports.made and check_exports; it is recorded first.
        """

        def work(tx: Transaction) -> None:
            now, known = self.around.clock.now(), tx.exports.list()
            export = exports.made(name, form, key_ids, digest, authorities=tx.authorities.list(), actor=actor, now=now)
            exports.check_exports(known, export)
            before = next((one for one in known if one.name == name), None)
            tx.exports.put(export)
            if not export.is_like(before):
                facts = {"format": export.format.value, "authorities": " ".join(sorted(export.key_ids))}
                tx.audit.append(
                    [AuditEvent(at=now, actor=actor, action=Action.BUNDLE_EXPORTED, subject=name, facts=facts)]
                )

        async with refusals_on_record(
            self.datastore, self.around.clock, Action.BUNDLE_EXPORTED, actor=actor, subject=name[:_NAME]
        ):
            await self.datastore.write(work)

    async def forget(self, name: str, *, actor: str) -> None:
        """Forget an export that has ended.

        Raises:
            Refused: NOT_FOUND; it is recorded first.
        """

        def work(tx: Transaction) -> None:
            exports.named(tx.exports.list(), name)
            tx.exports.delete(name)
            now = self.around.clock.now()
            tx.audit.append([AuditEvent(at=now, actor=actor, action=Action.EXPORT_FORGOTTEN, subject=name)])

        async with refusals_on_record(
            self.datastore, self.around.clock, Action.EXPORT_FORGOTTEN, actor=actor, subject=name[:_NAME]
        ):
            await self.datastore.write(work)
