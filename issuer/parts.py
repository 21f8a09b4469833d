"""Make the parts that the doors and tasks of an issuer share, as its configuration says.

adapters makes the plugins, and stores chooses the datastore's adapter.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import structlog

from cognomen.daemon.supervisor import Supervisor, Task
from cognomen.daemon.troubles import Troubles
from cognomen.process.privatefile import alone_in, private_directory
from cognomen.rulebook.limits import LimitedScope
from issuer.adapters import Adapters
from issuer.backup import DATABASE, KEYS
from issuer.checkpointsink.port import CheckpointSink
from issuer.config import DatastoreChoice, IssuerConfig
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.restoration import forgotten
from issuer.flows.command_authorities import CommandAuthorities
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.hold_agents import HoldAgents
from issuer.flows.prune import Prune
from issuer.flows.publish_crl import PublishCRLs
from issuer.flows.relieve_authorities import RelieveAuthorities
from issuer.flows.review_agents import ReviewAgents
from issuer.flows.rotate_authority import RotateAuthority
from issuer.flows.supersede import EndSuperseded
from issuer.flows.suspend_overdue import SuspendOverdue
from issuer.flows.watch_breakers import WatchBreakers
from issuer.flows.watch_store import CheckStore
from issuer.flows.write_checkpoints import WriteCheckpoints
from issuer.issuance import Issuance
from issuer.keepers.authority_outlook import AuthorityOutlook, RotationPolicy
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.clone_alarm import CloneAlarm
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.issuance_limits import IssuanceLimits
from issuer.keepers.node_sightings import NodeSightings
from issuer.keepers.refusal_record import RefusalRecord
from issuer.keepers.review_dates import ReviewDates
from issuer.keymanager.port import KeyManager
from issuer.metrics import Metrics
from issuer.nodeattestor.port import NodeAttestor
from issuer.queries import Queries
from issuer.recovery import check_database, check_rows
from issuer.stores import open_in_memory, open_on_disk
from issuer.surroundings import Surroundings
from svid.clock import Clock

__all__ = ["Parts", "open_parts", "tasks_of"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that many flows share."""

    config: IssuerConfig
    node_attestors: Mapping[str, NodeAttestor]
    sinks: Sequence[CheckpointSink]
    datastore: Datastore
    queries: Queries
    keys: KeyManager
    issuance: Issuance
    around: Surroundings
    guard: ClockGuard
    watch: EnforcementWatch
    sightings: NodeSightings
    feed: FeedAttestors
    limits: IssuanceLimits
    agents: HoldAgents
    outlook: AuthorityOutlook
    rotate: RotateAuthority
    authorities: CommandAuthorities
    publish_crls: PublishCRLs
    deferred: DeferredWrites
    refusals: RefusalRecord
    clones: CloneAlarm
    check_store: CheckStore
    supervisor: Supervisor
    review_dates: ReviewDates
    reviews: ReviewAgents
    checkpoints: WriteCheckpoints


async def open_parts(
    config: IssuerConfig, adapters: Adapters, clock: Clock, leaving: contextlib.AsyncExitStack
) -> Parts:
    """Open store and keys, and bring the authorities to the point where something can be signed."""
    metrics, keys = Metrics(), adapters.keys
    datastore = await _open_state(config, keys, leaving)
    around = Surroundings(clock=clock, jitter=secrets.SystemRandom().random, troubles=Troubles(clock), metrics=metrics)
    guard = ClockGuard(datastore=datastore, around=around)
    deferred = DeferredWrites(datastore=datastore, around=around)
    watch = EnforcementWatch(around=around)
    sightings = NodeSightings(deferred=deferred, around=around)
    feed = FeedAttestors(
        datastore=datastore,
        deferred=deferred,
        watch=watch,
        around=around,
        trust_domain=config.trust_domain,
        over=sightings.end,
    )
    limits = IssuanceLimits(around=around, breaker_open=config.breaker_open, grace=config.return_window)
    limits.load(*await datastore.read(_limits_in))
    issuance = Issuance(keys=keys, upstream=adapters.upstream, later=deferred.put, metrics=metrics)
    outlook = AuthorityOutlook(
        datastore=datastore,
        around=around,
        guard=guard,
        policy=RotationPolicy(lifetime=config.authority_lifetime, spread=config.authority_spread),
        watch=watch,
    )
    rotate = RotateAuthority(
        datastore=datastore,
        issuance=issuance,
        keys=keys,
        around=around,
        outlook=outlook,
        trust_domain=config.trust_domain,
        jwt_key=config.jwt_authority_key,
    )
    await rotate()
    if lost := await datastore.read(lambda tx: forgotten(tx.changes.restored(), tx.authorities.list())):
        log.warning("store restored from a backup", reason=lost.reason, hint="; ".join(lost.remedy))
    publish_crls = PublishCRLs(datastore=datastore, issuance=issuance, around=around, watch=watch)
    await publish_crls.attempt()  # a verifier of lists refuses every certificate of an authority without one
    leaving.push_async_callback(deferred.flush)
    queries = Queries(datastore, config.trust_domain)
    checkpoints = WriteCheckpoints(
        datastore=datastore,
        keys=keys,
        sinks=adapters.sinks,
        around=around,
        trust_domain=config.trust_domain,
        every=config.audit_checkpoint_interval,
    )
    return Parts(
        config=config,
        node_attestors=adapters.node_attestors,
        sinks=adapters.sinks,
        datastore=datastore,
        queries=queries,
        sightings=sightings,
        keys=keys,
        issuance=issuance,
        around=around,
        guard=guard,
        watch=watch,
        feed=feed,
        limits=limits,
        agents=HoldAgents(
            datastore=datastore,
            around=around,
            trust_domain=config.trust_domain,
            node_attestors=tuple(adapters.node_attestors),
            watch=watch,
        ),
        outlook=outlook,
        rotate=rotate,
        authorities=CommandAuthorities(
            datastore=datastore,
            issuance=issuance,
            keys=keys,
            outlook=outlook,
            watch=watch,
            bring_forward=rotate,
            wake=rotate.wake,
            around=around,
            return_window=config.return_window,
        ),
        publish_crls=publish_crls,
        deferred=deferred,
        refusals=RefusalRecord(datastore=datastore, around=around),
        clones=CloneAlarm(datastore=datastore, around=around, watch=watch, on_clone=config.on_clone),
        check_store=CheckStore(datastore=datastore, around=around),
        supervisor=Supervisor(clock=clock, troubles=around.troubles, restarts=metrics.task_restarts),
        review_dates=ReviewDates(datastore=datastore, clock=clock),
        reviews=ReviewAgents(
            datastore=datastore,
            nodes=queries,
            around=around,
            trust_domain=config.trust_domain,
            seen=sightings.seen,
            uses_kept=config.uses_kept,
            key=checkpoints.key,
        ),
        checkpoints=checkpoints,
    )


def _limits_in(tx: Transaction) -> tuple[int, Sequence[LimitedScope]]:
    """The limits on issuance in force, with the revision of their rulebook."""
    revision = tx.rulebooks.revision()
    return revision, tx.limits.list(revision)


async def _open_state(config: IssuerConfig, keys: KeyManager, leaving: contextlib.AsyncExitStack) -> Datastore:
    match config.datastore:
        case DatastoreChoice.MEMORY:
            return await _opened(open_in_memory(), leaving)
        case DatastoreChoice.SQLITE:
            return await _open_directory(config, keys, leaving)
        case _:
            assert_never(config.datastore)


async def _open_directory(config: IssuerConfig, keys: KeyManager, leaving: contextlib.AsyncExitStack) -> Datastore:
    directory = private_directory(config.state_dir)
    leaving.enter_context(alone_in(directory, "issuer"))
    if check_database(directory):
        log.info("no earlier issuer here, everything is created anew", state_dir=str(directory))
    await keys.list()  # opens them: the store looks at what is beside it
    reserve_bytes = config.disk_reserve_mib * 2**20
    opening = open_on_disk(directory / DATABASE, reserve_bytes=reserve_bytes, beside=[directory / KEYS])
    datastore = await _opened(opening, leaving)
    await check_rows(datastore, keys, directory)
    if lacking := await datastore.lacking_room():
        log.warning("disk full, nothing is issued", reason=lacking, hint="free some space, or lower disk_reserve_mib")
    return datastore


async def _opened(opening: Coroutine[None, None, Datastore], leaving: contextlib.AsyncExitStack) -> Datastore:
    """Open the store; if the start is cancelled meanwhile, its thread goes on, and so the store is closed once it is open."""
    task = asyncio.create_task(opening)

    async def close() -> None:
        await asyncio.wait([task])
        if task.exception() is None:
            await task.result().close()

    leaving.push_async_callback(close)
    return await asyncio.shield(task)


def tasks_of(parts: Parts) -> list[Task]:
    """The background tasks."""
    prune = Prune(
        datastore=parts.datastore,
        around=parts.around,
        guard=parts.guard,
        refusals=parts.refusals,
        uses_kept=parts.config.uses_kept,
    )
    relieve = RelieveAuthorities(
        commands=parts.authorities,
        outlook=parts.outlook,
        listed=lambda: parts.publish_crls.listed,
        around=parts.around,
        guard=parts.guard,
    )
    breakers = WatchBreakers(
        datastore=parts.datastore,
        around=parts.around,
        limits=parts.limits,
        suspend=parts.agents.suspend,
        trust_domain=parts.config.trust_domain,
    )
    superseded = EndSuperseded(datastore=parts.datastore, around=parts.around, watch=parts.watch)
    overdue = SuspendOverdue(
        suspend=parts.agents.suspend_overdue, reviews=parts.review_dates, around=parts.around, guard=parts.guard
    )
    return [
        Task(name="checkpoints", run=parts.checkpoints.run, pulse=parts.checkpoints.pulse),
        Task(name="deferred writes", run=parts.deferred.run, pulse=parts.deferred.pulse),
        Task(name="authorities", run=parts.rotate.run, pulse=parts.rotate.pulse),
        Task(name="revocation lists", run=parts.publish_crls.run, pulse=parts.publish_crls.pulse),
        Task(name="authorities with long lists", run=relieve.run, pulse=relieve.pulse),
        Task(name="superseded credentials", run=superseded.run, pulse=superseded.pulse),
        Task(name="breakers", run=breakers.run, pulse=breakers.pulse),
        Task(name="pruning", run=prune.run, pulse=prune.pulse),
        Task(name="reviews of agents", run=overdue.run, pulse=overdue.pulse),
        Task(name="check of the datastore", run=parts.check_store.run, pulse=parts.check_store.pulse),
    ]
