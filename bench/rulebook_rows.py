"""Rows of rulebooks: how long a plan takes that also asks the nodes."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvloop

from attestor.cache import Cache
from attestor.deniallog import DenialLog
from attestor.flows.answer_questions import AnswerQuestions
from attestor.flows.join_issuer import JoinIssuer
from attestor.issuerclient.grpc import GRPCIssuerClient
from attestor.nodeattestor.join_token import JoinToken
from attestor.recentcallers import RecentCallers
from attestor.state.disk import DiskState
from bench.house import House
from bench.results import Measured
from bench.rig.attestorsurroundings import surroundings
from bench.rig.daemons import COGNOMEN
from bench.settings import Settings
from cognomen.cli.admin import connect
from cognomen.gate.caller import process_of
from cognomen.protocol.invite import Invite
from cognomen.protocol.selector import Selector
from cognomen.wire.pb import admin_pb2 as pb
from svid.clock import SystemClock

__all__ = ["plan_asked"]

_NODES = 50
_COMPONENTS = 10_000
_FIRST_UID = 1_000_000
_CHANGES = 2  # the exit code of a plan that changes something


def plan_asked(settings: Settings) -> Measured:
    """`cognomen plan`, from its start to its end: the first rulebook, of 10,000 components on 50 nodes, all of which are asked.

    Each node has 200 of the components. On each, one program gains an identity, which the plan has to show.
    """
    nodes = settings.count(_NODES)
    each = max(1, settings.count(_COMPONENTS) // nodes)
    with House.running(settings.directory) as house:
        rules = house.directory / "rules.toml"
        rules.write_text("".join(_agent(number, each) for number in range(nodes)))
        invites = [_invite(house, number) for number in range(nodes)]
        return uvloop.run(_plan_asked(house, rules, invites, each))


def _agent(number: int, components: int) -> str:
    uids = range(_FIRST_UID + number * components, _FIRST_UID + (number + 1) * components)
    head = f'[agent.a{number}]\nowner = "bench@example.org"\npurpose = "is measured"\nnodes = ["join_token:label:n:n{number}"]\n'
    return head + "".join(
        f'[agent.a{number}.component.c{uid}]\nkind = "connector"\nselectors = ["unix:uid:{uid}"]\n' for uid in uids
    )


def _invite(house: House, number: int) -> Invite:
    with connect(house.admin_socket) as admin:
        made = admin.create_invite(pb.CreateInviteRequest(labels={"n": f"n{number}"}))
    return Invite.parse(made.invite)


async def _plan_asked(house: House, rules: Path, invites: Sequence[Invite], each: int) -> Measured:
    async with AsyncExitStack() as leaving:
        for number, invite in enumerate(invites):
            uid = _FIRST_UID + number * each
            await leaving.enter_async_context(_attestor(house.directory / f"node{number}", invite, uid))
        asked, answered = await _planned(house, rules)
        alone, _ = await _planned(house, rules, "--no-ask")
    figures = {"with 50 asked s": asked, "alone s": alone, "answered": answered}
    return Measured(figures=figures, samples=1, failed=len(invites) - answered)


async def _planned(house: House, rules: Path, *options: str) -> tuple[float, int]:
    """How long a plan took, and how many programs of nodes it showed."""
    command = [*COGNOMEN, "plan", str(rules), "--socket", str(house.admin_socket), *options]
    began = time.perf_counter()
    # not asyncio's: uvloop forks, which gRPC's threads in this process do not survive
    done = await asyncio.to_thread(_run, command)
    took = time.perf_counter() - began
    if done.returncode != _CHANGES:
        raise RuntimeError(f"plan: expected exit code {_CHANGES}, found {done.returncode}")
    return took, sum(b" gains /agent/" in line for line in done.stdout.splitlines())


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, stdout=subprocess.PIPE, check=False)


@asynccontextmanager
async def _attestor(directory: Path, invite: Invite, uid: int) -> AsyncIterator[None]:
    """An attestor that does nothing but follow its feed and answer; this process called it, as that uid."""
    client, around = GRPCIssuerClient(), surroundings(SystemClock())
    join = JoinIssuer(trust_domain=None, state=DiskState(directory), door=client, client=client, around=around)
    node = await join.run(invite, JoinToken(invite))
    cache, recent = Cache(node.bundle, DenialLog()), RecentCallers()
    questions = AnswerQuestions(cache, recent, door=client, around=around)
    caller = process_of(os.getpid())
    recent.note(caller, frozenset({Selector("unix", f"uid:{uid}")}), frozenset({"unix:uid"}))
    caller.process.close()

    async def follow() -> None:
        async for change in client.follow(None):
            questions.take(change.questions)
            if change.is_news(cache.cursor):
                cache.apply(change)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow()), group.create_task(questions.run())]
        await cache.wait_synchronised()
        yield
        for task in tasks:
            task.cancel()
    await client.close()
