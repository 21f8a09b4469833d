"""The admin door's messages for rulebooks and their agents."""

from collections.abc import Mapping

from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.filenames import check_files
from cognomen.wire.node import entry_to_pb, time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.questions import program_to_pb
from issuer.api.admin.fields import page_size
from issuer.api.admin.part import Part
from issuer.api.admin.planmessages import held_to_pb, plan_to_pb
from issuer.decisions.actions import Action
from issuer.decisions.rulebooks import AppliedRulebook, RetiredAgent
from issuer.flows.ask_attestors import AskedNode
from issuer.flows.change_entries import Changed
from issuer.flows.hold_agents import NOTHING_LEFT, LeftEntries

__all__ = ["RulebooksPart"]


class RulebooksPart(Part):
    """The methods for rulebooks."""

    async def plan_rulebook(self, request: pb.PlanRulebookRequest) -> pb.RulebookPlan:
        found = await self._flows.rulebooks.plan(
            _files(request.files),
            let_expire=request.let_expire,
            actor=self._by(request),
            longest_lives=await self._longest_lives(),
        )
        return await plan_to_pb(found, skip=request.skip)

    async def ask_attestors(self, request: pb.AskAttestorsRequest) -> pb.AskAttestorsResponse:
        found = await self._flows.ask_attestors(
            _files(request.files), request.digest, let_expire=request.let_expire, actor=self._by(request)
        )
        return pb.AskAttestorsResponse(nodes=map(_asked_to_pb, found))

    async def apply_rulebook(self, request: pb.ApplyRulebookRequest) -> pb.ApplyRulebookResponse:
        done = await self._flows.rulebooks(
            _files(request.files), request.digest, let_expire=request.let_expire, actor=self._by(request)
        )
        changed = done.changed
        return pb.ApplyRulebookResponse(
            revision=done.revision,
            created=changed.counts.get(Action.ENTRY_CREATED, 0),
            updated=changed.counts.get(Action.ENTRY_UPDATED, 0),
            deleted=changed.counts.get(Action.ENTRY_DELETED, 0),
            change=changed.change,
            ended=changed.taken.at_once,
            superseded=changed.taken.later,
        )

    async def list_rulebooks(self, request: pb.ListRulebooksRequest) -> pb.ListRulebooksResponse:
        limit = page_size(request.limit, default=100, most=1000)
        found = await self._flows.rulebooks.newest(limit)
        return pb.ListRulebooksResponse(rulebooks=[_rulebook_to_pb(one, with_files=False) for one in found])

    async def get_rulebook(self, request: pb.GetRulebookRequest) -> pb.Rulebook:
        return _rulebook_to_pb(await self._flows.rulebooks.get(request.revision), with_files=True)

    async def suspend_agent(self, request: pb.AgentRequest) -> pb.AgentResponse:
        done = await self._flows.agents.suspend(request.name, actor=self._by(request))
        return _agent_to_pb(done, await self._flows.agents.left(request.name))

    async def resume_agent(self, request: pb.AgentRequest) -> pb.AgentResponse:
        return _agent_to_pb(await self._flows.agents.resume(request.name, actor=self._by(request)))

    async def retire_agent(self, request: pb.AgentRequest) -> pb.AgentResponse:
        done = await self._flows.agents.retire(request.name, at_once=request.at_once, actor=self._by(request))
        return _agent_to_pb(done, await self._flows.agents.left(request.name))

    async def list_retired_agents(self, request: pb.ListRetiredAgentsRequest) -> pb.ListRetiredAgentsResponse:
        del request
        return pb.ListRetiredAgentsResponse(agents=map(_retired_to_pb, await self._flows.agents.retired()))

    async def list_held_agents(self, request: pb.ListHeldAgentsRequest) -> pb.ListHeldAgentsResponse:
        del request
        return pb.ListHeldAgentsResponse(agents=[held_to_pb(one) for one in await self._flows.agents.held()])


def _files(files: Mapping[str, str]) -> dict[str, str]:
    """The files of a rulebook, whose names the issuer keeps and shows: what the command checks, somebody else may not.

    Raises:
        Refused: INVALID
    """
    try:
        check_files(files)
    except ValueError as e:
        raise Refused(Kind.INVALID, f"files: {e}") from e
    return dict(files)


def _asked_to_pb(one: AskedNode) -> pb.AskedNode:
    return pb.AskedNode(
        node_id=one.node_id,
        name=one.name,
        outcome=one.outcome,
        programs=map(program_to_pb, one.answer.programs),
        programs_more=one.answer.programs_more,
        unknown=one.answer.unknown,
    )


def _agent_to_pb(changed: Changed, left: LeftEntries = NOTHING_LEFT) -> pb.AgentResponse:
    return pb.AgentResponse(
        created=changed.counts.get(Action.ENTRY_CREATED, 0),
        deleted=changed.counts.get(Action.ENTRY_DELETED, 0),
        ended=changed.taken.at_once,
        change=changed.change,
        left=map(entry_to_pb, left.entries),
        left_more=left.more,
        left_cut=left.is_cut,
    )


def _retired_to_pb(one: RetiredAgent) -> pb.RetiredAgent:
    return pb.RetiredAgent(
        name=one.name,
        owner=one.owner,
        revision=one.revision,
        at=time_to_pb(one.at),
        actor=one.actor,
        login=one.login,
        comment=one.comment,
    )


def _rulebook_to_pb(found: AppliedRulebook, *, with_files: bool) -> pb.Rulebook:
    return pb.Rulebook(
        revision=found.revision,
        digest=found.digest,
        components=found.components,
        at=time_to_pb(found.at),
        actor=found.actor,
        login=found.login,
        comment=found.comment,
        files=found.files if with_files else {},
    )
