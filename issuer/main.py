"""Join the issuer's parts and run them: the only place here that names adapters.

What a key of the configuration means: config. How tasks are supervised: cognomen/daemon/supervisor.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from google.protobuf.descriptor_pool import Default

from cognomen.daemon import gate, unixrpc
from cognomen.daemon.caller import Caller
from cognomen.daemon.config import expand_home
from cognomen.daemon.health import Health, HealthState
from cognomen.daemon.privatefile import alone_in, private_directory
from cognomen.daemon.reflection import Reflection
from cognomen.daemon.supervisor import Supervisor, Task, stop_on_signals
from cognomen.daemon.systemd import Systemd
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.webserver import serve_pages
from cognomen.wire.pb import admin_pb2
from issuer.api.admin import AdminFlows, AdminService
from issuer.api.doors import DoorCredentials, bind, join_server, node_server
from issuer.api.join import JoinService
from issuer.api.node import NodeService
from issuer.api.status import translate
from issuer.backup import DATABASE, KEYS
from issuer.checkpointsink.file import FileSink
from issuer.checkpointsink.port import CheckpointSink
from issuer.checkpointsink.syslog import SyslogSink
from issuer.config import IssuerConfig, KeyManagerChoice
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.budget import Allowance
from issuer.decisions.restoration import forgotten
from issuer.flows.admit_call import AdmitCall
from issuer.flows.answer_clones import AnswerClones
from issuer.flows.attest_node import AttestNode
from issuer.flows.audit_refusals import AuditRefusals
from issuer.flows.await_enforcement import AwaitEnforcement
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.command_authorities import CommandAuthorities
from issuer.flows.create_invite import CreateInvite
from issuer.flows.defer_writes import DeferWrites
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.guard_clock import GuardClock
from issuer.flows.issue_node_svid import IssueNodeSVID
from issuer.flows.issue_svids import IssueSVIDs
from issuer.flows.keep_budgets import MintBudgets
from issuer.flows.manage_nodes import ManageNodes
from issuer.flows.observe_issuer import ObserveIssuer
from issuer.flows.prune import Prune
from issuer.flows.publish_crl import PublishCRLs
from issuer.flows.readmit_node import ReadmitNode
from issuer.flows.relieve_authorities import RelieveAuthorities
from issuer.flows.renew_issuer_svid import IssuerIdentity, RenewIssuerSVID
from issuer.flows.renew_node import RenewNode
from issuer.flows.revoke import Revoke
from issuer.flows.rotate_authority import RotateAuthority, RotationPolicy
from issuer.flows.supersede import EndSuperseded
from issuer.flows.watch_enforcement import WatchEnforcement
from issuer.flows.write_checkpoints import WriteCheckpoints
from issuer.issuance import Issuance
from issuer.keymanager.disk import DiskKeyManager
from issuer.keymanager.memory import MemoryKeyManager
from issuer.keymanager.port import KeyManager
from issuer.metrics import Metrics
from issuer.nodeattestor.join_token import JoinToken
from issuer.upstream.self_signed import SelfSigned
from issuer.web.health import health_pages
from svid.clock import Clock, SystemClock

__all__ = ["Bound", "run"]

log = structlog.get_logger(__name__)

_STOP_SECONDS = 0.5  # for calls in flight; feeds never end by themselves
_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name
_ADMIN_LIMITS = gate.Limits(message_bytes=64 * 1024 * 1024, connections_per_uid=64, connections=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Where the doors listen: host:port each, ports as the system chose them."""

    node_address: str
    join_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
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


async def run(
    config: IssuerConfig,
    *,
    ready: Callable[[Bound], None] = lambda _: None,
    stop: asyncio.Event | None = None,
    systemd: Systemd | None = None,
) -> None:
    """Run an issuer until it is told to stop.

    Args:
        ready: called once, when all doors are open.
        stop: whoever sets it ends the issuer; None: SIGTERM and SIGINT do.
        systemd: who is told, and may hold the admin socket; None: nobody.

    Raises:
        Refused: what keeps it from starting: an address that is taken, a state directory that others read, a store it cannot open.
    """
    async with contextlib.AsyncExitStack() as leaving:
        if stop is None:
            stop = asyncio.Event()
            leaving.enter_context(stop_on_signals(stop))
        parts = await _open(config, leaving)
        checkpoints = _checkpoints(parts)
        leaving.push_async_callback(checkpoints.attempt)  # the last one, of all that was decided
        leaving.push_async_callback(parts.refusals.write_owed)
        credentials, own_svid = await _open_credentials(parts)
        bound = await _open_network_doors(parts, credentials, leaving)
        systemd = systemd or Systemd()
        health = await _open_admin_door(parts, bound, credentials[0], leaving, systemd)
        systemd.check_taken()
        health.set_serving(serving=True)
        log.info(
            "issuer started", trust_domain=str(config.trust_domain), node=bound.node_address, join=bound.join_address
        )
        ready(bound)
        systemd.ready()
        watchdog = Task(name="watchdog", run=partial(systemd.run_watchdog, parts.clock))
        await parts.supervisor.run([own_svid, watchdog, *_tasks(parts, checkpoints)], stop=stop)
        systemd.stopping()
        health.set_serving(serving=False)
        log.info("issuer stopping")


async def _open(config: IssuerConfig, leaving: contextlib.AsyncExitStack) -> _Parts:
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
    return _Parts(
        config=config,
        datastore=datastore,
        issuance=issuance,
        clock=clock,
        guard=guard,
        feed=feed,
        rotate=rotate,
        authorities=CommandAuthorities(datastore=datastore, issuance=issuance, rotate=rotate, feed=feed, clock=clock),
        publish_crls=publish_crls,
        troubles=troubles,
        metrics=metrics,
        deferred=deferred,
        refusals=AuditRefusals(datastore=datastore, clock=clock, metrics=metrics),
        clones=AnswerClones(datastore=datastore, clock=clock, watch=watch, troubles=troubles, on_clone=config.on_clone),
        supervisor=Supervisor(clock=clock, troubles=troubles, restarts=metrics.task_restarts),
    )


def _tasks(parts: _Parts, checkpoints: WriteCheckpoints) -> list[Task]:
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


def _checkpoints(parts: _Parts) -> WriteCheckpoints:
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


async def _open_credentials(parts: _Parts) -> tuple[Sequence[DoorCredentials], Task]:
    """The issuer's own SVID as the join door and the node door present it, and the task that keeps it so."""
    renew = RenewIssuerSVID(
        datastore=parts.datastore,
        issuance=parts.issuance,
        clock=parts.clock,
        trust_domain=parts.config.trust_domain,
        ttl=parts.config.issuer_svid_ttl,
        jitter=secrets.SystemRandom().random,
        troubles=parts.troubles,
        metrics=parts.metrics,
    )
    identity = await renew()
    credentials = [DoorCredentials(identity, demand_client_certificate=demand) for demand in (False, True)]

    def present(identity: IssuerIdentity) -> None:
        for each in credentials:
            each.present(identity)

    return credentials, Task(name="issuer svid", run=partial(renew.run, identity, present), pulse=renew.pulse)


async def _open_network_doors(
    parts: _Parts, credentials: Sequence[DoorCredentials], leaving: contextlib.AsyncExitStack
) -> Bound:
    node_svids = IssueNodeSVID(
        issuance=parts.issuance,
        clock=parts.clock,
        trust_domain=parts.config.trust_domain,
        ttl=parts.config.node_svid_ttl,
    )
    admit = AdmitCall(
        datastore=parts.datastore,
        refusals=parts.refusals,
        clones=parts.clones,
        clock=parts.clock,
        trust_domain=parts.config.trust_domain,
    )
    join = join_server(_join_service(parts, node_svids))
    node = node_server(_node_service(parts, node_svids), admit)
    bound = Bound(
        join_address=bind(join, parts.config.join_address, credentials[0], key="join_address"),
        node_address=bind(node, parts.config.node_address, credentials[1], key="node_address"),
    )
    for server in (join, node):
        await server.start()
        leaving.push_async_callback(server.stop, _STOP_SECONDS)
    return bound


def _join_service(parts: _Parts, node_svids: IssueNodeSVID) -> JoinService:
    join_token = JoinToken()
    attest = AttestNode(
        datastore=parts.datastore,
        attestors={join_token.name: join_token},
        node_svids=node_svids,
        refusals=parts.refusals,
        clock=parts.clock,
        trust_domain=parts.config.trust_domain,
    )
    readmit = ReadmitNode(
        datastore=parts.datastore,
        node_svids=node_svids,
        refusals=parts.refusals,
        clones=parts.clones,
        clock=parts.clock,
        trust_domain=parts.config.trust_domain,
        window=parts.config.return_window,
    )
    return JoinService(attest, readmit, parts.datastore, parts.config.trust_domain)


def _node_service(parts: _Parts, node_svids: IssueNodeSVID) -> NodeService:
    config = parts.config
    budgets = MintBudgets(
        entry=Allowance(burst=config.entry_svids_burst, per_second=config.entry_svids_per_second),
        node=Allowance(burst=config.node_svids_burst, per_second=config.node_svids_per_second),
        clock=parts.clock,
    )
    svids = IssueSVIDs(
        datastore=parts.datastore,
        issuance=parts.issuance,
        budgets=budgets,
        refusals=parts.refusals,
        clock=parts.clock,
        trust_domain=config.trust_domain,
        x509_ttl=config.x509_svid_ttl,
        jwt_ttl=config.jwt_svid_ttl,
        metrics=parts.metrics,
    )
    return NodeService(
        feed=parts.feed,
        svids=svids,
        renew=RenewNode(datastore=parts.datastore, node_svids=node_svids, refusals=parts.refusals),
        clock=parts.clock,
    )


async def _open_admin_door(
    parts: _Parts, bound: Bound, credentials: DoorCredentials, leaving: contextlib.AsyncExitStack, systemd: Systemd
) -> HealthState:
    config = parts.config
    observe = ObserveIssuer(
        trust_domain=config.trust_domain,
        started_at=parts.clock.now(),
        clock=parts.clock,
        datastore=parts.datastore,
        feed=parts.feed,
        rotate=parts.rotate,
        guard=parts.guard,
        deferred=parts.deferred,
        svid=lambda: credentials.presented,
        troubles=parts.troubles,
        metrics=parts.metrics,
    )
    flows = AdminFlows(
        datastore=parts.datastore,
        clock=parts.clock,
        invites=CreateInvite(
            datastore=parts.datastore,
            clock=parts.clock,
            trust_domain=config.trust_domain,
            join_address=config.advertised_join_address or bound.join_address,
            node_address=config.advertised_node_address or bound.node_address,
            ttl=config.invite_ttl,
        ),
        entries=ChangeEntries(
            datastore=parts.datastore,
            clock=parts.clock,
            trust_domain=config.trust_domain,
            watch=parts.feed.watch,
            metrics=parts.metrics,
        ),
        nodes=ManageNodes(datastore=parts.datastore, clock=parts.clock, watch=parts.feed.watch),
        feed=parts.feed,
        authorities=parts.authorities,
        revoke=Revoke(datastore=parts.datastore, clock=parts.clock, watch=parts.feed.watch),
        enforcement=AwaitEnforcement(datastore=parts.datastore, clock=parts.clock, watch=parts.feed.watch),
        guard=parts.guard,
        observe=observe,
        trust_domain=config.trust_domain,
    )
    health = HealthState(_ADMIN)
    pages = serve_pages(
        health_pages(observe, health, parts.supervisor.failing), "health_address", config.health_address
    )
    await leaving.enter_async_context(pages)

    def services(caller: Caller) -> Sequence[unixrpc.Service]:
        return [AdminService(flows, caller), Health(health), Reflection([_ADMIN], Default())]

    held = systemd.take(config.admin_socket)
    if held is None:
        private_directory(config.admin_socket.parent)
    listener = gate.listen(config.admin_socket, 0o600, held=held)
    await leaving.enter_async_context(unixrpc.serve(listener, services, _ADMIN_LIMITS, translate=translate))
    return health
