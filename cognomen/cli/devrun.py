"""Both daemons of `cognomen dev` in one process, and what is to be done until the socket works.

The command speaks to the issuer over its admin socket, as everybody does.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click

import attestor.main
import issuer.main
from attestor.config import AttestorConfig
from cognomen.cli.admin import connect
from cognomen.cli.deventries import Identity, ensure_entries
from cognomen.cli.devstate import DevState, Kept
from cognomen.cli.running import endpoint
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.invite import Invite
from cognomen.daemon.supervisor import stop_on_signals
from cognomen.wire.pb import admin_pb2 as pb
from issuer.config import IssuerConfig
from svid.spiffeid import SpiffeID

__all__ = ["DevDaemons"]

_READY_SECONDS = 30.0
_CALL_SECONDS = 10.0  # less than that: a call runs in a thread, and its end is waited for
_LOOK_SECONDS = 0.02


class DevDaemons:
    """Both daemons, and what is to be done until the socket works.

    Args:
        kept: of a former run, whose node can go on; None: the node joins.
    """

    def __init__(
        self, state: DevState, kept: Kept | None, config: IssuerConfig, socket: Path, identities: Sequence[Identity]
    ) -> None:
        self._state = state
        self._kept = kept
        self._issuer_config = config
        self._attestor_config = AttestorConfig(
            trust_domain=config.trust_domain, state_dir=state.path / "attestor", workload_socket=socket
        )
        self._identities = identities

    async def run(self) -> None:
        """Run until Ctrl-C or SIGTERM, or until one of them fails."""
        stop = asyncio.Event()
        self._issuer_ready = asyncio.Event()
        self._node: asyncio.Future[SpiffeID] = asyncio.get_running_loop().create_future()
        with stop_on_signals(stop):
            await _together(stop, self._issuer, self._attestor, self._prepare)

    # each has a stop of its own, never set: it leaves the signals to us, and ends by being cancelled

    async def _issuer(self) -> None:
        await issuer.main.run(self._issuer_config, ready=lambda _: self._issuer_ready.set(), stop=asyncio.Event())

    async def _attestor(self) -> None:
        """Go on as the node that joined in a former run; where that cannot be, join with a fresh invite."""
        await self._issuer_ready.wait()
        if self._kept is not None:
            try:
                await self._attest(None)
            except Refused as e:
                if self._node.done() or e.kind not in {Kind.NOT_FOUND, Kind.UNAUTHENTICATED}:
                    raise
            else:
                return
        await self._attest(await asyncio.to_thread(self._invite))

    async def _attest(self, invite: Invite | None) -> None:
        await attestor.main.run(self._attestor_config, invite=invite, ready=self._node.set_result, stop=asyncio.Event())

    def _invite(self) -> Invite:
        with connect(self._state.admin_socket, seconds=_CALL_SECONDS) as admin:
            return Invite.parse(admin.create_invite(pb.CreateInviteRequest()).invite)

    async def _prepare(self) -> None:
        """Bring the entries up to date, and say that the socket works when the node has them."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._follow_entries()
        except TimeoutError as e:
            raise Refused(
                Kind.UNAVAILABLE,
                f"socket: expected it to work after {_READY_SECONDS:.0f} s, found that the node is not in step",
                hint=f"see the log, or begin anew: rm -r {self._state.path}",
            ) from e
        address = f"SPIFFE_ENDPOINT_SOCKET={endpoint(self._attestor_config.workload_socket)}"
        click.echo(address)
        if sys.stderr.isatty():
            click.echo(f"Ctrl-C ends it; in another terminal: {address} cognomen fetch x509", err=True)

    async def _follow_entries(self) -> None:
        node = await self._node
        config = self._issuer_config
        self._state.save(
            Kept(
                trust_domain=config.trust_domain.name,
                node_address=config.node_address,
                join_address=config.join_address,
            )
        )
        change = await asyncio.to_thread(self._ensure_entries, node)
        while change and await asyncio.to_thread(self._acknowledged, node) < change:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(_LOOK_SECONDS)

    def _ensure_entries(self, node: SpiffeID) -> int:
        with connect(self._state.admin_socket, seconds=_CALL_SECONDS) as admin:
            return ensure_entries(admin, node, self._identities)

    def _acknowledged(self, node: SpiffeID) -> int:
        with connect(self._state.admin_socket, seconds=_CALL_SECONDS) as admin:
            return admin.get_node(str(node)).acknowledged


async def _together(stop: asyncio.Event, *works: Callable[[], Awaitable[None]]) -> None:
    """Run them until `stop` is set or one fails, then end all of them.

    Raises:
        Exception: the first failure.
    """
    failures: list[Exception] = []

    async def attend(work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as e:  # noqa: BLE001 - raised again once all have ended, as it is and not in a group
            failures.append(e)
            stopped.cancel()

    async with asyncio.TaskGroup() as group:
        stopped = group.create_task(stop.wait())
        running = [group.create_task(attend(work)) for work in works]
        await asyncio.wait([stopped])
        for one in running:
            one.cancel()
    if failures:
        raise failures[0]
