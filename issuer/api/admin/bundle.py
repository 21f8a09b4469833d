"""The admin door's messages for the trust bundle."""

from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.part import Part

__all__ = ["BundlePart"]


class BundlePart(Part):
    """The methods for the bundle."""

    async def get_bundle(self, request: pb.GetBundleRequest) -> pb.GetBundleResponse:
        del request
        bundle = await self._flows.queries.get_bundle()
        return pb.GetBundleResponse(
            trust_domain=bundle.trust_domain.name, bundle=bundle.to_jwks(), jwt_issuer=self._flows.jwt_issuer
        )
