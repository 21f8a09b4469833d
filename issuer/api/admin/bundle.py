"""The admin door's messages for the trust bundle, and for the copies of it that relying parties have."""

from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.part import Part
from issuer.decisions.exports import ExportStanding

__all__ = ["BundlePart"]


class BundlePart(Part):
    """The methods for the bundle."""

    async def get_bundle(self, request: pb.GetBundleRequest) -> pb.GetBundleResponse:
        del request
        bundle, key_ids = await self._flows.queries.get_bundle_and_authorities()
        return pb.GetBundleResponse(
            trust_domain=bundle.trust_domain.name,
            bundle=bundle.to_jwks(),
            jwt_issuer=self._flows.jwt_issuer,
            key_ids=key_ids,
        )

    async def list_exports(self, request: pb.ListExportsRequest) -> pb.ListExportsResponse:
        del request
        return pb.ListExportsResponse(exports=map(_export_to_pb, await self._flows.exports.all()))

    async def record_export(self, request: pb.RecordExportRequest) -> pb.ListExportsResponse:
        actor = self._by(request)
        await self._flows.exports(request.name, request.format, request.key_ids, request.digest, actor=actor)
        return await self.list_exports(pb.ListExportsRequest())

    async def note_failed_export(self, request: pb.NoteFailedExportRequest) -> pb.NoteFailedExportResponse:
        await self._flows.exports.failed(request.name)
        return pb.NoteFailedExportResponse()

    async def forget_export(self, request: pb.ForgetExportRequest) -> pb.ListExportsResponse:
        await self._flows.exports.forget(request.name, actor=self._by(request))
        return await self.list_exports(pb.ListExportsRequest())


def _export_to_pb(found: ExportStanding) -> pb.Export:
    export = found.export
    return pb.Export(
        name=export.name,
        format=export.format.value,
        at=time_to_pb(export.at),
        missing=found.missing,
        breaks_at=None if found.breaks_at is None else time_to_pb(found.breaks_at),
        revoked=found.revoked,
        key_ids=sorted(export.key_ids),
        digest=export.digest,
        actor=export.actor,
        login=export.login,
    )
