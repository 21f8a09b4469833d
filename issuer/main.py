"""Open an issuer's doors and run it.

config defines the configuration keys; cognomen/daemon/supervisor supervises the tasks.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from cognomen.daemon.supervisor import Task, stop_on_signals
from cognomen.daemon.systemd import Systemd
from cognomen.daemon.waiting import UntilSet
from cognomen.daemon.webserver import check_address_free
from cognomen.gate import gate
from cognomen.gate.health import HealthState
from cognomen.gate.listening import check_free
from cognomen.process.privatefile import check_private_directory
from issuer.adapters import make_adapters
from issuer.admindoor import ADMIN_MODE, Bound, open_admin_door
from issuer.api.crowd import KnownAddresses
from issuer.api.doors import DoorCredentials, join_front, join_server, node_front, node_server
from issuer.api.front import Front, check_addresses_free
from issuer.api.join import JoinService
from issuer.api.joinroom import JoinRoom
from issuer.api.node import NodeService
from issuer.config import IssuerConfig
from issuer.decisions.budget import Allowance
from issuer.decisions.identity import IssuerIdentity
from issuer.flows.admit_call import AdmitCall
from issuer.flows.attest_node import AttestNode
from issuer.flows.issue_svids import IssueSVIDs
from issuer.flows.readmit_node import ReadmitNode
from issuer.flows.record_uses import REPORTS, RecordUses
from issuer.flows.renew_issuer_svid import RenewIssuerSVID
from issuer.flows.renew_node import RenewNode
from issuer.flows.watch_store import WatchStore
from issuer.keepers.budgets import Budgets, MintBudgets
from issuer.keepers.node_svids import NodeSVIDs
from issuer.parts import Parts, open_parts, tasks_of
from issuer.web.openid import ServeRelyingParties, listen_for_relying_parties
from svid.clock import SystemClock

__all__ = ["Bound", "run"]

log = structlog.get_logger(__name__)

_STOP_SECONDS = 0.5  # for calls in flight; feeds never end on their own


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doors:
    """The open doors.

    Args:
        health: what the admin socket says about us.
        tasks: what runs behind them, and renews what they show.
    """

    bound: Bound
    health: HealthState
    tasks: Sequence[Task]


async def run(
    config: IssuerConfig,
    *,
    ready: Callable[[Bound], None] = lambda _: None,
    stop: asyncio.Event | None = None,
    systemd: Systemd | None = None,
) -> None:
    """Run an issuer until it is asked to stop.

    Args:
        ready: called once, when all doors are open.
        stop: setting it stops the issuer; None: SIGTERM and SIGINT stop it.
        systemd: receives notifications, and may hold the admin socket; None: there is none.

    Raises:
        Refused: what keeps it from starting: an adapter that cannot be made, an address that is taken, a state directory that others can
            read, a store it cannot open; or UNAVAILABLE when the store's files were taken away while it ran.
    """
    clock = SystemClock()
    adapters = make_adapters(config, clock)  # before we heed signals: they end an adapter that does not come back
    async with contextlib.AsyncExitStack() as leaving:
        if stop is None:
            stop = asyncio.Event()
            leaving.enter_context(stop_on_signals(stop))
        systemd = systemd or Systemd()
        held = _check_places(config, systemd)
        doors: _Doors | None = None
        with UntilSet(stop):  # an upstream authority may take its time
            parts = await open_parts(config, adapters, clock, leaving)
            doors = await _open_doors(parts, held, leaving)
        if doors is None:
            log.info("issuer stopped before it had started")
            return
        bound = doors.bound
        doors.health.set_serving(serving=True)
        log.info(
            "issuer started", trust_domain=str(config.trust_domain), node=bound.node_address, join=bound.join_address
        )
        ready(bound)
        systemd.ready()
        watchdog = Task(name="watchdog", run=partial(systemd.run_watchdog, clock))
        watch = WatchStore(datastore=parts.datastore, around=parts.around, stop=stop.set)
        watching = Task(name="files of the datastore", run=watch.run, pulse=watch.pulse)
        await parts.supervisor.run([*doors.tasks, watchdog, watching], stop=stop)
        systemd.stopping()
        doors.health.set_serving(serving=False)
        log.info("issuer stopping")
        watch.check()


def _check_places(config: IssuerConfig, systemd: Systemd) -> socket.socket | None:
    """Refuse places that we could not use, before anything is created: a refusal must leave no state and no keys behind.

    Returns:
        The admin socket, if systemd holds it.
    """
    check_addresses_free({"join_address": config.join_address, "node_address": config.node_address})
    check_address_free("health_address", config.health_address)
    if (listener := listen_for_relying_parties(config)) is not None:
        listener.close()
    held = systemd.take(config.admin_socket)
    systemd.check_taken()
    if held is not None:
        return gate.listen(config.admin_socket, ADMIN_MODE, held=held)
    check_private_directory(config.admin_socket.parent)
    check_free(config.admin_socket)
    return None


async def _open_doors(parts: Parts, held: socket.socket | None, leaving: contextlib.AsyncExitStack) -> _Doors:
    leaving.push_async_callback(parts.checkpoints.attempt)  # the last checkpoint covers everything that was decided
    leaving.push_async_callback(parts.refusals.write_owed)
    credentials, own_svid = await _open_credentials(parts)
    bound = await _open_network_doors(parts, credentials, leaving)
    health, watch = await open_admin_door(parts, bound, credentials[0], leaving, held)
    looking = Task(name="admin socket", run=watch.run, pulse=watch.pulse)
    tasks = [own_svid, looking, *_web_tasks(parts, leaving), *tasks_of(parts)]
    return _Doors(bound=bound, health=health, tasks=tasks)


def _web_tasks(parts: Parts, leaving: contextlib.AsyncExitStack) -> Sequence[Task]:
    listener = listen_for_relying_parties(parts.config)
    if listener is None:
        return ()
    leaving.callback(listener.close)
    web = ServeRelyingParties(listener=listener, config=parts.config, queries=parts.queries, around=parts.around)
    return [Task(name="keys for relying parties", run=web.run, pulse=web.pulse)]


async def _open_credentials(parts: Parts) -> tuple[Sequence[DoorCredentials], Task]:
    """The issuer's own SVID as the join door and the node door present it, and the task that renews it."""
    renew = RenewIssuerSVID(
        datastore=parts.datastore,
        issuance=parts.issuance,
        around=parts.around,
        trust_domain=parts.config.trust_domain,
        ttl=parts.config.issuer_svid_ttl,
    )
    identity = await renew()
    credentials = [DoorCredentials(identity, demand_client_certificate=demand) for demand in (False, True)]

    def present(identity: IssuerIdentity) -> None:
        for each in credentials:
            each.present(identity)

    return credentials, Task(name="issuer svid", run=partial(renew.run, identity, present), pulse=renew.pulse)


async def _open_network_doors(
    parts: Parts, credentials: Sequence[DoorCredentials], leaving: contextlib.AsyncExitStack
) -> Bound:
    node_svids = NodeSVIDs(
        issuance=parts.issuance,
        around=parts.around,
        trust_domain=parts.config.trust_domain,
        ttl=parts.config.node_svid_ttl,
    )
    admit = AdmitCall(
        datastore=parts.datastore,
        refusals=parts.refusals,
        clones=parts.clones,
        around=parts.around,
        trust_domain=parts.config.trust_domain,
    )
    known = KnownAddresses()
    join_door = join_front(credentials[0], known, parts.around.metrics)
    node_door = node_front(credentials[1], known, parts.around.metrics)
    joins = _join_service(parts, node_svids, JoinRoom(known), join_door)
    join = join_server(joins, join_door.proof, parts.refusals)
    node = node_server(_node_service(parts, node_svids), admit, node_door, parts.refusals, parts.sightings)
    for front in (join_door, node_door):
        leaving.callback(front.close)
    bound = Bound(
        join_address=join_door.bind(join, parts.config.join_address, key="join_address"),
        node_address=node_door.bind(node, parts.config.node_address, key="node_address"),
    )
    for server, front in ((join, join_door), (node, node_door)):
        await server.start()
        front.start()
        leaving.push_async_callback(server.stop, _STOP_SECONDS)
    return bound


def _join_service(parts: Parts, node_svids: NodeSVIDs, room: JoinRoom, door: Front) -> JoinService:
    attest = AttestNode(
        datastore=parts.datastore,
        attestors=parts.node_attestors,
        node_svids=node_svids,
        refusals=parts.refusals,
        around=parts.around,
        trust_domain=parts.config.trust_domain,
    )
    readmit = ReadmitNode(
        datastore=parts.datastore,
        node_svids=node_svids,
        refusals=parts.refusals,
        clones=parts.clones,
        around=parts.around,
        trust_domain=parts.config.trust_domain,
        window=parts.config.return_window,
    )
    return JoinService(attest, readmit, parts.queries, room, door.address)


def _node_service(parts: Parts, node_svids: NodeSVIDs) -> NodeService:
    config = parts.config
    budgets = MintBudgets(
        entry=Allowance(burst=config.entry_svids_burst, per_second=config.entry_svids_per_second),
        node=Allowance(burst=config.node_svids_burst, per_second=config.node_svids_per_second),
        clock=parts.around.clock,
    )
    svids = IssueSVIDs(
        datastore=parts.datastore,
        issuance=parts.issuance,
        budgets=budgets,
        limits=parts.limits,
        refusals=parts.refusals,
        around=parts.around,
        trust_domain=config.trust_domain,
        x509_ttl=config.x509_svid_ttl,
        jwt_ttl=config.jwt_svid_ttl,
        jwt_issuer=config.jwt_issuer,
    )
    return NodeService(
        feed=parts.feed,
        svids=svids,
        renew=RenewNode(datastore=parts.datastore, node_svids=node_svids, refusals=parts.refusals),
        uses=RecordUses(
            datastore=parts.datastore,
            budgets=Budgets(REPORTS, parts.around.clock),
            sightings=parts.sightings,
            around=parts.around,
            kept=config.uses_kept,
        ),
        clock=parts.around.clock,
    )
