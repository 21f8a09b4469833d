"""The admin door's messages for the plan of a rulebook, however large it is."""

import asyncio

from cognomen.wire.node import entry_to_pb, time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.revocationmessages import exchanged_to_pb
from issuer.decisions.endings import Ending
from issuer.decisions.entrysteps import Step
from issuer.decisions.lostholds import LostHold
from issuer.decisions.rulebooks import HeldAgent
from issuer.flows.apply_rulebook import RulebookPlan

__all__ = ["held_to_pb", "plan_to_pb"]

_SLICE = 256  # changes converted before other calls get a turn
_MOST_BYTES = 32 * 1024 * 1024  # of changes in an answer, which has 64 MiB
_MOST_WARNINGS = 1000
_MOST_HEIRS = 20


async def plan_to_pb(found: RulebookPlan, *, skip: int) -> pb.RulebookPlan:
    """Translate a plan.

    Args:
        skip: how many of its changes are left out; after them come as many as fit into an answer.
    """
    plan = found.plan
    message = pb.RulebookPlan(
        in_force=found.in_force,
        digest=found.digest,
        unchanged=found.unchanged,
        ended=0 if plan is None else plan.taken.at_once,
        superseded=0 if plan is None else plan.taken.later,
        new_revision=found.is_new,
        retired=found.retired,
        held=map(held_to_pb, found.held),
        lost=map(_lost_to_pb, found.lost),
        ends=map(_ending_to_pb, found.reach.endings.identities),
        more_ends=found.reach.endings.more,
        exchanged=map(exchanged_to_pb, found.reach.exchanged),
    )
    if plan is not None:
        message.warnings.extend(plan.warnings[:_MOST_WARNINGS])
        message.more_warnings = max(0, len(plan.warnings) - _MOST_WARNINGS)
        size = 0
        for number, step in enumerate(plan.steps[skip:], 1):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            change = _change_to_pb(step)
            size += change.ByteSize()
            if size > _MOST_BYTES and message.changes:
                break
            message.changes.append(change)
        message.more_changes = max(0, len(plan.steps) - skip - len(message.changes))
    return message


def held_to_pb(held: HeldAgent) -> pb.HeldAgent:
    """Translate an agent, or a component, that is suspended."""
    return pb.HeldAgent(
        name=held.name,
        at=time_to_pb(held.at),
        actor=held.actor,
        login=held.login,
        comment=held.comment,
        review_by="" if held.review_by is None else held.review_by.isoformat(),
    )


def _lost_to_pb(lost: LostHold) -> pb.LostHold:
    more = max(0, len(lost.heirs) - _MOST_HEIRS)
    return pb.LostHold(held=held_to_pb(lost.held), heirs=lost.heirs[:_MOST_HEIRS], more_heirs=more)


def _change_to_pb(step: Step) -> pb.PlannedChange:
    return pb.PlannedChange(
        before=None if step.before is None else entry_to_pb(step.before),
        after=None if step.after is None else entry_to_pb(step.after),
    )


def _ending_to_pb(ending: Ending) -> pb.PlannedEnd:
    return pb.PlannedEnd(
        spiffe_id=str(ending.spiffe_id),
        x509=ending.x509,
        jwt=ending.jwt,
        later=ending.later,
        audiences=ending.audiences,
        more_audiences=ending.more_audiences,
        ends_at=time_to_pb(ending.ends_at),
    )
