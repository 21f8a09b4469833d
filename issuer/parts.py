"""Make the parts that doors and tasks of an issuer share, as its configuration chooses them, adapters included."""

import contextlib
import secrets
from dataclasses import dataclass

import structlog

from cognomen.daemon.config import expand_home
from cognomen.daemon.privatefile import alone_in, private_directory
from cognomen.daemon.supervisor import Supervisor, Task
from cognomen.daemon.troubles import Troubles
from issuer.backup import DATABASE, KEYS
from issuer.checkpointsink.file import FileSink
from issuer.checkpointsink.port import CheckpointSink
from issuer.checkpointsink.syslog import SyslogSink
from issuer.config import IssuerConfig, KeyManagerChoice
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.restoration import forgotten
from issuer.flows.answer_clones import AnswerClones
from issuer.flows.audit_refusals import AuditRefusals
from issuer.flows.command_authorities import CommandAuthorities
from issuer.flows.defer_writes import DeferWrites
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.guard_clock import GuardClock
from issuer.flows.prune import Prune
from issuer.flows.publish_crl import PublishCRLs
from issuer.flows.relieve_authorities import RelieveAuthorities
from issuer.flows.rotate_authority import RotateAuthority, RotationPolicy
from issuer.flows.supersede import EndSuperseded
from issuer.flows.watch_enforcement import WatchEnforcement
from issuer.flows.write_checkpoints import WriteCheckpoints
from issuer.issuance import Issuance
from issuer.keymanager.disk import DiskKeyManager
from issuer.keymanager.memory import MemoryKeyManager
from issuer.keymanager.port import KeyManager
from issuer.metrics import Metrics
from issuer.upstream.self_signed import SelfSigned
from svid.clock import Clock, SystemClock

__all__ = ["Parts", "checkpoints_of", "open_parts", "tasks_of"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What many flows share."""

    config: IssuerConfig
    datastore: SQLiteDatastore
    issuance: Issuance
    clock: Clock
    guard: GuardClock
    feed: FeedAttestors
    rotate: RotateAuthority
    authorities: CommandAuthorities
    publish_crls: PublishCRLs
    troubles: Troubles
    metrics: Metrics
    deferred: DeferWrites
    refusals: AuditRefusals
    clones: AnswerClones
    supervisor: Supervisor


async def open_parts(config: IssuerConfig, leaving: contextlib.AsyncExitStack) -> Parts:
    """Open store and keys, and bring the authorities to where something can be signed."""
    keys: KeyManager
    if config.key_manager is KeyManagerChoice.MEMORY:
        datastore, keys = await SQLiteDatastore.open(None), MemoryKeyManager()
    else:
        directory = private_directory(config.state_dir)
        leaving.enter_context(alone_in(directory, "issuer"))
        reserve_bytes = config.disk_reserve_mib * 2**20
        datastore = await SQLiteDatastore.open(directory / DATABASE, reserve_bytes=reserve_bytes)
        keys = DiskKeyManager(directory / KEYS)
        if lacking := await datastore.lacking_room():
            log.warning(
                "disk full, nothing is issued", reason=lacking, hint="free some space, or lower disk_reserve_mib"
            )
    leaving.push_async_callback(datastore.close)
    clock = SystemClock()
    guard = GuardClock(datastore=datastore, clock=clock)
    troubles, metrics = Troubles(clock), Metrics()
    deferred = DeferWrites(datastore=datastore, clock=clock, troubles=troubles, metrics=metrics)
    watch = WatchEnforcement(clock=clock, metrics=metrics)
    feed = FeedAttestors(
        datastore=datastore, deferred=deferred, watch=watch, clock=clock, trust_domain=config.trust_domain
    )
    issuance = Issuance(keys=keys, upstream=SelfSigned(), later=deferred.put, metrics=metrics)
    rotate = RotateAuthority(
        datastore=datastore,
        issuance=issuance,
        clock=clock,
        guard=guard,
        trust_domain=config.trust_domain,
        policy=RotationPolicy(lifetime=config.authority_lifetime, spread=config.authority_spread),
        acknowledged=feed.slowest,
        jitter=secrets.SystemRandom().random,
        troubles=troubles,
        metrics=metrics,
    )
    await rotate()
    if lost := await datastore.read(lambda tx: forgotten(tx.changes.restored(), tx.authorities.list())):
        log.warning("store restored from a backup", reason=lost.reason, hint="; ".join(lost.remedy))
    publish_crls = PublishCRLs(
        datastore=datastore,
        issuance=issuance,
        clock=clock,
        jitter=secrets.SystemRandom().random,
        watch=watch,
        troubles=troubles,
        metrics=metrics,
    )
    await publish_crls.attempt()  # a verifier of lists refuses every certificate of an authority without one
    leaving.push_async_callback(deferred.flush)
    return Parts(
        config=config,
        datastore=datastore,
        issuance=issuance,
        clock=clock,
        guard=guard,
        feed=feed,
        rotate=rotate,
        authorities=CommandAuthorities(
            datastore=datastore,
            issuance=issuance,
            rotate=rotate,
            feed=feed,
            clock=clock,
            return_window=config.return_window,
        ),
        publish_crls=publish_crls,
        troubles=troubles,
        metrics=metrics,
        deferred=deferred,
        refusals=AuditRefusals(datastore=datastore, clock=clock, metrics=metrics),
        clones=AnswerClones(datastore=datastore, clock=clock, watch=watch, troubles=troubles, on_clone=config.on_clone),
        supervisor=Supervisor(clock=clock, troubles=troubles, restarts=metrics.task_restarts),
    )


def tasks_of(parts: Parts, checkpoints: WriteCheckpoints) -> list[Task]:
    """What goes on by itself."""
    prune = Prune(
        datastore=parts.datastore,
        clock=parts.clock,
        guard=parts.guard,
        troubles=parts.troubles,
        refusals=parts.refusals,
    )
    relieve = RelieveAuthorities(
        command=parts.authorities,
        listed=lambda: parts.publish_crls.listed,
        clock=parts.clock,
        troubles=parts.troubles,
    )
    superseded = EndSuperseded(
        datastore=parts.datastore, clock=parts.clock, watch=parts.feed.watch, troubles=parts.troubles
    )
    return [
        Task(name="checkpoints", run=checkpoints.run, pulse=checkpoints.pulse),
        Task(name="deferred writes", run=parts.deferred.run, pulse=parts.deferred.pulse),
        Task(name="authorities", run=parts.rotate.run, pulse=parts.rotate.pulse),
        Task(name="revocation lists", run=parts.publish_crls.run, pulse=parts.publish_crls.pulse),
        Task(name="authorities with long lists", run=relieve.run, pulse=relieve.pulse),
        Task(name="superseded credentials", run=superseded.run, pulse=superseded.pulse),
        Task(name="pruning", run=prune.run, pulse=prune.pulse),
    ]


def checkpoints_of(parts: Parts) -> WriteCheckpoints:
    """What signs the audit chain's head, for the sinks of the configuration."""
    config = parts.config
    sinks: list[CheckpointSink] = []
    if config.audit_checkpoint_file:
        sinks.append(FileSink(expand_home(config.audit_checkpoint_file)))
    if config.audit_checkpoint_syslog:
        sinks.append(SyslogSink())
    return WriteCheckpoints(
        datastore=parts.datastore,
        keys=parts.issuance.keys,
        sinks=sinks,
        clock=parts.clock,
        trust_domain=config.trust_domain,
        every=config.audit_checkpoint_interval,
        troubles=parts.troubles,
    )
