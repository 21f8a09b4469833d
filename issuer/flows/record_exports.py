"""Record which copies of the bundle relying parties have, as the command that made them says.

issuer/decisions/exports decides what such a copy lacks; observe_issuer reports it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import exports
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.exports import ExportStanding
from issuer.keepers.authority_outlook import AuthorityOutlook
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings

__all__ = ["RecordExports"]

_FAILED = "command of the bundle export"
_FAILED_HINT = "see what that command said, where `cognomen bundle export` runs"
_SHOWN_FOR = timedelta(minutes=10)  # a watch tries again after 5 min at most
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
        self.around.troubles.over(_FAILED, subject=name)

    async def failed(self, name: str) -> None:
        """Note that the command of an export failed; shown for a while, in which a watch has tried again.

        Raises:
            Refused: as issuer/decisions/exports.had_before.
        """
        known = await self.datastore.read(lambda tx: tx.exports.list())
        had = exports.had_before(known, name)
        self.around.metrics.export_failures.inc()
        self.around.troubles.note(_FAILED, had, hint=_FAILED_HINT, subject=name, kept_for=_SHOWN_FOR)

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
        self.around.troubles.over(_FAILED, subject=name)
