"""The admin door's messages for reviews of agents."""

import json

from cognomen.wire.node import duration_from_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.part import Part

__all__ = ["AgentReviewsPart"]


class AgentReviewsPart(Part):
    """The methods for reviews of agents."""

    async def get_agent_review(self, request: pb.GetAgentReviewRequest) -> pb.AgentReview:
        document = await self._flows.reviews(duration_from_pb(request.unused_for, "unused_for"))
        return pb.AgentReview(document=json.dumps(document).encode())

    async def export_agent_review(self, request: pb.ExportAgentReviewRequest) -> pb.AgentReview:
        signed = await self._flows.reviews.export(
            duration_from_pb(request.unused_for, "unused_for"), actor=self._by(request)
        )
        return pb.AgentReview(document=signed.to_json())
