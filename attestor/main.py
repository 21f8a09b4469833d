"""Put the attestor's parts together and run them; only this module names adapters.

Which adapters the configuration chooses: adapters. What its keys mean: config. How tasks are supervised: cognomen/daemon/supervisor.
"""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog

from attestor.adapters import Adapters, make_adapters
from attestor.api.callers import Callers
from attestor.api.denials import Denials
from attestor.api.inspect import Inspect
from attestor.api.status import counting
from attestor.api.workload import SERVICE, WorkloadAPI, X509Writer
from attestor.config import AttestorConfig
from attestor.decisions.clocks import is_valid
from attestor.decisions.node import REJOIN, Node, resumable
from attestor.flows.explain_identity import ExplainIdentity
from attestor.flows.join_issuer import JoinIssuer
from attestor.flows.observe_attestor import ObserveAttestor
from attestor.flows.serve_callers import ServeCallers
from attestor.flows.serve_workload import ServeWorkload
from attestor.issuerclient.grpc import GRPCIssuerClient
from attestor.metrics import Metrics
from attestor.nodeclock import NodeClock
from attestor.parts import Flows, Ports, flows_of, tasks_of
from attestor.state.denialfile import DenialFile
from attestor.state.disk import DiskState
from attestor.surroundings import Surroundings
from attestor.web.health import health_pages
from cognomen.daemon.socketwatch import SocketWatch, WatchedSocket
from cognomen.daemon.supervisor import Supervisor, Task, stop_on_signals
from cognomen.daemon.systemd import Systemd
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import UntilSet
from cognomen.daemon.webserver import check_address_free, serve_pages
from cognomen.gate import gate, unixrpc
from cognomen.gate.caller import Caller
from cognomen.gate.health import Health, HealthState
from cognomen.gate.listening import check_free
from cognomen.gate.reflection import Reflection, pool_without_package
from cognomen.gate.turnedaway import TurnedAway
from cognomen.process.ownpath import own_directory
from cognomen.process.privatefile import alone_in, check_private_directory, private_directory
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from cognomen.protocol.names import MAX_NODE_NAME_BYTES
from svid.clock import SystemClock
from svid.spiffeid import SpiffeID
from svid.wire.pb import workload_pb2

__all__ = ["rejoin", "run"]

log = structlog.get_logger(__name__)

_WORKLOAD_MODE = 0o666


async def run(
    config: AttestorConfig,
    *,
    invite: Invite | None = None,
    ready: Callable[[SpiffeID], None] = lambda _: None,
    stop: asyncio.Event | None = None,
    systemd: Systemd | None = None,
) -> None:
    """Run an attestor until it is told to stop.

    Args:
        invite: admits the node; required until it has joined. An invite that it did not join with makes it a new node.
        ready: called once, with the node's SPIFFE ID, when the Workload API serves from a complete snapshot.
        stop: setting it ends the attestor; None: SIGTERM and SIGINT do.
        systemd: is notified, and may hold the workload socket; None: nothing is. It is notified of readiness as soon as the socket is
            served, even while the issuer is away: an attestor with a valid node must not be killed for that.

    Raises:
        Refused: it cannot start, or the issuer refuses to let it join.
    """
    clock = NodeClock(SystemClock())
    adapters = make_adapters(
        config, clock, invite
    )  # before we heed signals: they end an adapter that does not come back
    async with contextlib.AsyncExitStack() as leaving:
        if stop is None:
            stop = asyncio.Event()
            leaving.enter_context(stop_on_signals(stop))
        systemd = systemd or Systemd()
        held = _check_places(config, systemd)  # before an invite is used up
        _check_state(config, invite)
        leaving.enter_context(alone_in(private_directory(config.state_dir), "attestor"))
        attestor = _Attestor(config, adapters, clock, ready, systemd)
        leaving.push_async_callback(attestor.close)
        pages = health_pages(attestor.observer, attestor.failing, attestor.around.metrics)
        await leaving.enter_async_context(serve_pages(pages, "health_address", config.health_address))
        node: Node | None = None
        with UntilSet(stop):  # this waits as long as the issuer is away
            node = await attestor.join(invite)
        if node is not None:
            await attestor.serve(node, held, stop)
        log.info("attestor stopped")


async def rejoin(config: AttestorConfig, invite: Invite, joined: Callable[[SpiffeID], None]) -> None:
    """Join with a new invite as the node that it names, save that, and exit.

    Raises:
        Refused: EXISTS while an attestor runs on this state; INVALID for the invite that it joined with before its SVID expired; or the
            issuer's refusal.
    """
    clock = NodeClock(SystemClock())
    adapters = make_adapters(config, clock, invite)
    _check_state(config, invite)
    with alone_in(private_directory(config.state_dir), "attestor"):
        attestor = _Attestor(config, adapters, clock, joined, Systemd())
        try:
            node = await attestor.join(invite)
        finally:
            await attestor.close()
        if not is_valid(node.svid.not_before, node.svid.not_after, attestor.around.clock.read()):
            raise Refused(
                Kind.INVALID, "invite: this node has already joined with it; a new one is needed", hint=REJOIN
            )
        joined(node.svid.spiffe_id)


def _check_places(config: AttestorConfig, systemd: Systemd) -> socket.socket | None:
    """Refuse places that we could not use.

    Returns:
        The workload socket, if systemd holds it.
    """
    check_address_free("health_address", config.health_address)
    held = systemd.take(config.workload_socket)
    systemd.check_taken()
    if held is not None:
        return gate.listen(config.workload_socket, _WORKLOAD_MODE, held=held)
    check_free(config.workload_socket)
    return None


def _check_state(config: AttestorConfig, invite: Invite | None) -> None:
    """Refuse a start that can only fail, while it has left nothing behind. With the state locked, flows/join_issuer decides."""
    check_private_directory(config.state_dir)
    if invite is None and not DiskState.is_in(config.state_dir):
        resumable(None, None)


class _Attestor:
    """The parts that live from the start to the end."""

    def __init__(
        self,
        config: AttestorConfig,
        adapters: Adapters,
        clock: NodeClock,
        ready: Callable[[SpiffeID], None],
        systemd: Systemd,
    ) -> None:
        self._config = config
        self._adapters = adapters
        self._ready = ready
        self._systemd = systemd
        metrics, troubles = Metrics(), Troubles(clock)
        self.around = Surroundings(
            clock=clock, jitter=secrets.SystemRandom().random, troubles=troubles, metrics=metrics
        )
        client, directory = GRPCIssuerClient(), config.state_dir
        self._client = client
        self._ports = Ports(
            state=DiskState(directory), denials=DenialFile(directory), door=client, client=client, answering=client
        )
        self._supervisor = Supervisor(clock=clock, troubles=troubles, restarts=metrics.task_restarts)
        self._socket: SocketWatch | None = None
        """None until the socket is bound."""
        self._flows: Flows | None = None
        """None until the node has joined."""
        self._workloads: ServeWorkload | None = None
        """As well."""

    def observer(self) -> ObserveAttestor | None:
        """Observes the attestor; None until the node has joined."""
        return None if self._flows is None else self._flows.observe

    def failing(self) -> Sequence[str]:
        """List the failures that keep the attestor from being ready."""
        workloads = [] if self._workloads is None else self._workloads.failing()
        missing = [] if self._socket is None else self._socket.missing()
        withdrawn = self._flows.cache.withdrawn if self._flows is not None else ""
        return [*self._supervisor.failing(), *missing, *workloads, *([f"node: {withdrawn}"] if withdrawn else [])]

    async def close(self) -> None:
        """Close the connection to the issuer."""
        await self._client.close()

    async def join(self, invite: Invite | None) -> Node:
        """Join, or go on as the saved node."""
        flow = JoinIssuer(
            trust_domain=self._config.trust_domain,
            state=self._ports.state,
            door=self._ports.door,
            client=self._ports.client,
            around=self.around,
            node_name=self._config.node_name or _host_name(),
        )
        self._systemd.status("waiting for the issuer to let it join")
        return await flow.run(invite, self._adapters.node_attestor)

    async def serve(self, node: Node, held: socket.socket | None, stop: asyncio.Event) -> None:
        """Follow the feed, mint, and serve workloads until we must stop.

        Args:
            held: the workload socket, if systemd holds it.
        """
        self._flows = flows = flows_of(node, self._ports, self.around)
        health = HealthState(SERVICE)
        flows.cache.tell_serving(lambda serving: health.set_serving(serving=serving))

        async def tell_when_ready() -> None:
            await flows.cache.wait_synchronised()
            log.info("attestor ready", spiffe_id=str(node.svid.spiffe_id), socket=str(self._config.workload_socket))
            self._ready(node.svid.spiffe_id)
            self._systemd.status(f"serving as {node.svid.spiffe_id}")
            await asyncio.Event().wait()  # a task ends only when it is stopped

        attestors = self._adapters.workload_attestors
        workloads = ServeWorkload(
            flows.cache,
            attestors=attestors,
            minter=flows.jwts,
            uses=flows.uses,
            recent=flows.recent,
            around=self.around,
        )
        flows.questions.examine_with(workloads.attest)
        self._workloads = workloads
        listener = held or self._bind(waits=True)
        server = self._door(workloads, flows, health, listener)

        def bind_again() -> socket.socket:
            again = self._bind(waits=False)
            server.move_to(again)
            return again

        watched = WatchedSocket(
            what="workload socket",
            path=self._config.workload_socket,
            listener=listener,
            bind=bind_again if held is None else None,
            unit="cognomen-attestor.socket",
        )
        self._socket = watch = SocketWatch(watched, clock=self.around.clock, troubles=self.around.troubles)
        tasks = [
            *tasks_of(flows),
            Task(name="readiness", run=tell_when_ready),
            Task(name="workload socket", run=watch.run, pulse=watch.pulse),
            Task(name="watchdog", run=partial(self._systemd.run_watchdog, self.around.clock)),
        ]
        async with server:
            self._systemd.ready()
            self._systemd.status("accepting workloads, waiting for a snapshot from the issuer")
            await self._supervisor.run(tasks, stop=stop)
            self._systemd.stopping()
            health.set_serving(serving=False)
        await flows.reports.finish()

    def _bind(self, *, waits: bool) -> socket.socket:
        path = self._config.workload_socket
        _make_directory_of(path)
        return gate.listen(path, _WORKLOAD_MODE, waits=waits)

    def _door(
        self, workloads: ServeWorkload, flows: Flows, health: HealthState, listener: socket.socket
    ) -> unixrpc.Server:
        pool = pool_without_package(workload_pb2.DESCRIPTOR)
        writer = X509Writer()
        trust_domain = flows.cache.bundle.trust_domain
        explain = ExplainIdentity(
            cache=flows.cache,
            node=lambda: flows.node.node.svid.spiffe_id,
            workloads=workloads,
            clock=self.around.clock,
        )

        declared = ServeCallers(flows.cache, workloads.attest, age=flows.feed.age, clock=self.around.clock)

        def services(caller: Caller) -> Sequence[unixrpc.Service]:
            served: list[unixrpc.Service] = [
                WorkloadAPI(workloads, caller, writer),
                Denials(flows.followers, caller, trust_domain),
                Callers(declared, caller),
                Inspect(flows.observe, explain, caller),
                Health(health),
            ]
            return [*served, Reflection(served, pool)]

        limits = gate.Limits(connections_per_uid=self._config.connections_per_uid)
        refused = self.around.metrics.connections_refused
        turned_away = TurnedAway(lambda kind, times: refused.labels(kind).inc(times))
        return unixrpc.serve(
            listener,
            services,
            limits,
            translate=counting(self.around.metrics),
            turned_away=turned_away,
            holds_identity=workloads.holds_identity,
        )


def _host_name() -> str:
    """This machine's name. The issuer replaces one that no node may have."""
    return socket.gethostname().encode("ascii", "replace").decode()[:MAX_NODE_NAME_BYTES]


def _make_directory_of(workload_socket: Path) -> None:
    directory = workload_socket.parent
    try:
        with own_directory(directory, make=True):
            pass
    except OSError as e:
        raise Refused(
            Kind.INVALID,
            f"workload_socket: cannot create the directory {directory}: {e.strerror}",
        ) from e
