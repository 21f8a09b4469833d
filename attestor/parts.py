"""Make the flows of a joined node, and list those that run forever.

Which adapters they get: attestor/main.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from attestor.cache import Cache
from attestor.decisions.node import Node
from attestor.deniallog import DenialLog
from attestor.flows.answer_questions import AnswerQuestions
from attestor.flows.compare_clocks import CompareClocks
from attestor.flows.follow_feed import FollowFeed
from attestor.flows.keep_denials import KeepDenials
from attestor.flows.keep_node import KeepNode
from attestor.flows.mint_jwts import MintJWTs
from attestor.flows.observe_attestor import ObserveAttestor
from attestor.flows.renew_svids import RenewSVIDs
from attestor.flows.report_uses import ReportUses
from attestor.flows.serve_denials import ServeDenials
from attestor.issuerclient.port import AnswerDoor, IssuerClient, JoinDoor
from attestor.receipts import Receipts
from attestor.recentcallers import RecentCallers
from attestor.state.port import DenialStore, State
from attestor.surroundings import Surroundings
from attestor.uses import Uses
from cognomen.daemon.supervisor import Task

__all__ = ["Flows", "Ports", "flows_of", "tasks_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The node's disk, and its way to the issuer."""

    state: State
    denials: DenialStore
    door: JoinDoor
    client: IssuerClient
    answering: AnswerDoor


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """The flows of a joined node, and what they share."""

    around: Surroundings
    cache: Cache
    clocks: CompareClocks
    node: KeepNode
    feed: FollowFeed
    denials: KeepDenials
    followers: ServeDenials
    renewals: RenewSVIDs
    jwts: MintJWTs
    uses: Uses
    recent: RecentCallers
    questions: AnswerQuestions
    reports: ReportUses
    observe: ObserveAttestor


def flows_of(node: Node, ports: Ports, around: Surroundings) -> Flows:
    """Make the flows, without running them.

    Raises:
        Refused: as the store of denials does when it is read.
    """
    # 1. What the node holds, and what holds it.
    denied = DenialLog(ports.denials.load())
    cache, receipts, clocks = Cache(node.bundle, denied), Receipts(denied), CompareClocks(around)
    # 2. What keeps it up to date with the issuer.
    keep = KeepNode(node, state=ports.state, door=ports.door, client=ports.client, around=around)
    denials = KeepDenials(denied, store=ports.denials, around=around)
    uses, recent = Uses(around.clock), RecentCallers()
    questions = AnswerQuestions(cache, recent, door=ports.answering, around=around)
    feed = FollowFeed(
        cache, keep, denials, receipts, client=ports.client, uses=uses, questions=questions, around=around
    )
    # 3. What serves it to workloads.
    renewals = RenewSVIDs(cache, client=ports.client, around=around)
    jwts = MintJWTs(client=ports.client, cache=cache, around=around)
    followers = ServeDenials(denied, receipts, age=feed.age, clock=around.clock)
    observe = ObserveAttestor(
        started_at=around.clock.now(),
        around=around,
        cache=cache,
        clocks=clocks,
        node=keep,
        feed=feed,
        receipts=receipts,
        renewals=renewals,
        jwts=jwts,
    )
    return Flows(
        around=around,
        cache=cache,
        clocks=clocks,
        node=keep,
        feed=feed,
        denials=denials,
        followers=followers,
        renewals=renewals,
        jwts=jwts,
        uses=uses,
        recent=recent,
        questions=questions,
        reports=ReportUses(
            uses,
            client=ports.client,
            around=around,
            incarnation=lambda: "" if cache.cursor is None else cache.cursor.incarnation,
        ),
        observe=observe,
    )


def tasks_of(flows: Flows) -> Sequence[Task]:
    """The tasks that run forever."""
    return [
        Task(name="feed", run=flows.feed.run, pulse=flows.feed.pulse),
        Task(name="acknowledgements", run=flows.feed.acknowledge, pulse=flows.feed.acknowledgements_pulse),
        Task(name="denials", run=flows.denials.run, pulse=flows.denials.pulse),
        Task(name="followers", run=flows.followers.run),
        Task(name="node svid", run=flows.node.run, pulse=flows.node.pulse),
        Task(name="svids", run=flows.renewals.run, pulse=flows.renewals.pulse),
        Task(name="jwt-svids", run=flows.jwts.run, pulse=flows.jwts.pulse),
        Task(name="programs of workloads", run=flows.reports.look),
        Task(name="uses", run=flows.reports.run, pulse=flows.reports.pulse),
        Task(name="answers", run=flows.questions.run, pulse=flows.questions.pulse),
        Task(name="clocks", run=flows.clocks.run),
    ]
