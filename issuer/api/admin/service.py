"""The whole admin door. It only translates messages; flows and queries decide."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import structlog
from google.protobuf.message import Message
from grpclib.const import Handler

from cognomen.gate.call import unary
from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.agentreviews import AgentReviewsPart
from issuer.api.admin.audit import AuditPart
from issuer.api.admin.authorities import AuthoritiesPart
from issuer.api.admin.bundle import BundlePart
from issuer.api.admin.credentials import CredentialsPart
from issuer.api.admin.entries import EntriesPart
from issuer.api.admin.limits import LimitsPart
from issuer.api.admin.naming import NamingPart
from issuer.api.admin.nodes import NodesPart
from issuer.api.admin.observed import ObservedPart
from issuer.api.admin.revocations import RevocationsPart
from issuer.api.admin.rulebooks import RulebooksPart
from issuer.api.admin.status import StatusPart
from issuer.api.admin.uses import UsesPart
from issuer.decisions.actions import Action

__all__ = ["ACTIONS", "AdminService"]

log = structlog.get_logger(__name__)

ACTIONS: Final[Mapping[str, Action]] = MappingProxyType(
    {
        "create_invite": Action.INVITE_CREATED,
        "evict_node": Action.NODE_EVICTED,
        "ban_node": Action.NODE_BANNED,
        "unban_node": Action.NODE_UNBANNED,
        "purge_nodes": Action.NODE_PURGED,
        "rename_node": Action.NODE_RENAMED,
        "create_entries": Action.ENTRY_CREATED,
        "update_entries": Action.ENTRY_UPDATED,
        "delete_entries": Action.ENTRY_DELETED,
        "apply_entries": Action.ENTRIES_APPLIED,
        "apply_rulebook": Action.RULEBOOK_APPLIED,
        "suspend_agent": Action.AGENT_SUSPENDED,
        "resume_agent": Action.AGENT_RESUMED,
        "retire_agent": Action.AGENT_RETIRED,
        "export_agent_review": Action.REVIEW_EXPORTED,
        "revoke": Action.REVOKED,
        "lift_revocation": Action.REVOCATION_LIFTED,
        "rotate_authority": Action.AUTHORITY_ROTATION_ASKED,
        "prepare_authority": Action.AUTHORITY_PREPARATION_ASKED,
        "activate_authority": Action.AUTHORITY_ACTIVATED,
        "taint_authority": Action.AUTHORITY_TAINTED,
        "revoke_authority": Action.AUTHORITY_REVOKED,
        "record_export": Action.BUNDLE_EXPORTED,
        "forget_export": Action.EXPORT_FORGOTTEN,
        "confirm_clock": Action.CLOCK_CONFIRMED,
    }
)
"""What each command is in the audit record, by its method. All other methods only read."""

_MOST_NAMED = 3  # in one log line

_RequestT = TypeVar("_RequestT", bound=Message)
_ReplyT = TypeVar("_ReplyT", bound=Message)


class AdminService(
    AgentReviewsPart,
    AuditPart,
    AuthoritiesPart,
    BundlePart,
    CredentialsPart,
    EntriesPart,
    LimitsPart,
    NamingPart,
    NodesPart,
    RevocationsPart,
    RulebooksPart,
    StatusPart,
    UsesPart,
    ObservedPart,
):
    """Serves cognomen.admin.v1.Admin to one caller."""

    def __mapping__(self) -> Mapping[str, Handler]:
        """The methods, by path."""
        return self.bind(self._bound)

    def _bound(
        self, answer: Callable[[_RequestT], Awaitable[_ReplyT]], request: type[_RequestT], reply: type[_ReplyT], /
    ) -> Handler:
        """Bind a method; log who gave a command and what became of it, and put on record what is refused while it is read."""
        action = ACTIONS.get(answer.__name__)
        if action is None:
            return unary(answer, request, reply)

        async def recording(asked: _RequestT) -> _ReplyT:
            if isinstance(asked, pb.PurgeNodesRequest | pb.RevokeRequest | pb.ApplyEntriesRequest) and asked.dry_run:
                return await answer(asked)
            by = {"actor": str(self._operator), "login": self._operator.login, "command": action.value}
            try:
                async with self._flows.record_refusals(action, actor=self._operator):
                    done = await answer(asked)
            except Refused as refused:
                if refused.kind not in {Kind.UNAVAILABLE, Kind.INTERNAL}:  # api/status logs these
                    log.warning("command refused", **by, reason=refused.detail)
                raise
            log.info("command carried out", **by, **_about(asked, done))
            return done

        return unary(recording, request, reply)


def _about(asked: Message, done: Message) -> Mapping[str, object]:  # noqa: PLR0911 - one for each kind
    """What a command was about: the audit record has all of it."""
    match done:
        case pb.EntriesResponse():
            return {"count": len(done.entries), "entries": [one.spiffe_id for one in done.entries[:_MOST_NAMED]]}
        case pb.Node(spiffe_id=node) | pb.CreateInviteResponse(node_spiffe_id=node):
            return {"node": node}
        case pb.PurgeNodesResponse():
            return {"count": len(done.nodes), "nodes": [one.spiffe_id for one in done.nodes[:_MOST_NAMED]]}
        case pb.RevokeResponse():
            return {"number": done.revocation.number}
    match asked:
        case pb.RecordExportRequest() | pb.ForgetExportRequest():
            return {"export": asked.name}
        case pb.AgentRequest():
            return {"agent": asked.name}
        case pb.AuthorityCommand():
            return {"key": asked.key_id}
    return {}
