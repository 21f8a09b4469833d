"""The basis of each part of the admin door."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from google.protobuf.message import Message

from cognomen.gate.caller import Caller, login_uid
from cognomen.wire.pb.admin_rpc import AdminServicer
from issuer.decisions.operator import Operator
from issuer.decisions.providers import both_lives
from issuer.decisions.revocation import check_comment
from issuer.flows.apply_rulebook import ApplyRulebook
from issuer.flows.ask_attestors import AskAttestors
from issuer.flows.await_enforcement import AwaitEnforcement
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.command_authorities import CommandAuthorities
from issuer.flows.create_invite import CreateInvite
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.hold_agents import HoldAgents
from issuer.flows.manage_nodes import ManageNodes
from issuer.flows.observe_issuer import ObserveIssuer
from issuer.flows.record_exports import RecordExports
from issuer.flows.record_refusals import RecordRefusals
from issuer.flows.review_agents import ReviewAgents
from issuer.flows.revoke import Revoke
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.issuance_limits import IssuanceLimits
from issuer.keepers.node_sightings import NodeSightings
from issuer.queries import Queries
from svid.clock import Clock
from svid.spiffeid import TrustDomain

__all__ = ["AdminFlows", "Part"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminFlows:
    """The flows that the admin door calls.

    Args:
        return_window: how long after its SVID expired a node may return; zero: never.
        jwt_issuer: what JWT-SVIDs name as their issuer; empty: nothing.
        longest_lives: by audience, how long the tokens live that the providers of the configuration give for JWT-SVIDs.
    """

    queries: Queries
    clock: Clock
    invites: CreateInvite
    entries: ChangeEntries
    nodes: ManageNodes
    sightings: NodeSightings
    return_window: timedelta
    feed: FeedAttestors
    authorities: CommandAuthorities
    exports: RecordExports
    rulebooks: ApplyRulebook
    agents: HoldAgents
    limits: IssuanceLimits
    reviews: ReviewAgents
    revoke: Revoke
    enforcement: AwaitEnforcement
    guard: ClockGuard
    observe: ObserveIssuer
    trust_domain: TrustDomain
    uses_kept: timedelta
    jwt_issuer: str = ""
    longest_lives: Mapping[str, timedelta] = field(default_factory=dict)

    @property
    def ask_attestors(self) -> AskAttestors:
        """Asks what a plan means on the nodes."""
        return AskAttestors(
            datastore=self.rulebooks.datastore,
            around=self.rulebooks.around,
            trust_domain=self.trust_domain,
            plan=self.rulebooks.plan,
            recent=self.rulebooks.recent,
            questions=self.feed.questions,
        )

    @property
    def record_refusals(self) -> RecordRefusals:
        """Records what is refused before a flow has the command."""
        return RecordRefusals(datastore=self.entries.datastore, clock=self.clock)


class Part(AdminServicer):
    """The methods of the service for one noun, for one caller.

    The actor in the audit record is the uid that the kernel reports, never a field of a request. Only the comment is one.
    """

    def __init__(self, flows: AdminFlows, caller: Caller) -> None:
        self._flows = flows
        login = login_uid(caller)
        self._operator = Operator(f"uid:{caller.uid}", login="" if login is None else f"uid:{login}")

    async def _longest_lives(self) -> Mapping[str, timedelta]:
        """By audience, how long the tokens live that declared providers give: those of the configuration and of the rulebook in force."""
        return both_lives(self._flows.longest_lives, await self._flows.rulebooks.longest_lives())

    def _by(self, command: Message) -> Operator:
        """Who gives a command, with the comment in it.

        Raises:
            Refused: INVALID for a comment that is too long.
        """
        comment = str(getattr(command, "comment", ""))
        check_comment(comment)
        return Operator(self._operator, login=self._operator.login, comment=comment)
