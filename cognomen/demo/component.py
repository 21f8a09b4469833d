"""One component of the agent `concierge`: it knows its own name, its peers' addresses and the Workload API socket, but no secret.

It reports what happens as JSON lines on standard output, which cognomen/demo/scene reads. SIGTERM ends it between two calls.
"""

import argparse
import asyncio
import signal
from collections.abc import Mapping
from dataclasses import asdict

from cryptography.x509 import AuthorityKeyIdentifier

from cognomen.demo.calls import Calls, Peer
from cognomen.demo.clinging import Clinging
from cognomen.demo.model import AUDIENCE
from cognomen.demo.telling import tell
from cognomen.demo.thinking import Thinking
from svid import X509SVID, JWTSource, SpiffeID, WorkloadAPIError, X509Source
from svid.clock import SystemClock

__all__ = ["main"]

_PAUSE_SECONDS = 0.2  # between two calls over one connection
_PAUSE_BETWEEN_CONNECTIONS = 0.05
_PAUSE_BETWEEN_TOKENS = 0.01
_COUNT_SECONDS = 1
_TOKENS_FOR = {"orchestrator": "connector", "connector": "orchestrator"}
_WORK = {"reasoning": "plan a trip", "connector": "book a train"}


def _tell_svid(event: str, svid: X509SVID, **facts: str | int) -> None:
    until = svid.not_after.isoformat(timespec="seconds")
    identifier = svid.leaf.extensions.get_extension_for_class(AuthorityKeyIdentifier).value.key_identifier or b""
    tell(
        event,
        spiffe_id=str(svid.spiffe_id),
        serial=f"{svid.serial:x}",
        not_after=until,
        authority=identifier.hex(),
        **facts,
    )


class Component:
    """A component with its two identities, and what it does with them."""

    def __init__(self, role: str, x509: X509Source, jwt: JWTSource) -> None:
        self._role = role
        self._x509 = x509
        self._jwt = jwt
        self._id = x509.svid.spiffe_id
        if role == "connector":
            clinging = Clinging(x509, jwt, self._id)
            self._calls = Calls(clinging, clinging, tell)
        else:
            self._calls = Calls(x509, jwt, tell)
        self._held = {svid.spiffe_id: svid.serial for svid in x509.context.svids}

    async def play(self, ports: Mapping[str, int]) -> None:
        """Play the part until SIGTERM; reports the last counts when every call has ended."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with asyncio.TaskGroup() as group:
            telling = [group.create_task(self._tell_changes()), group.create_task(self._tell_counts())]
            match self._role:
                case "connector":
                    await self._calls.serve(
                        self._id_of("orchestrator"), wants_token=True, port=ports.get(self._role, 0)
                    )
                case "reasoning":
                    await self._calls.serve(self._id_of("orchestrator"), wants_token=False, port=0)
                    await self._calls.try_once(self._peer("connector", ports))
                    group.create_task(Thinking(self._jwt, self._calls.counts, tell).go_on(stop))
                case _:
                    for peer in (self._peer(name, ports) for name in _WORK):
                        for keep, pause in ((False, _PAUSE_BETWEEN_CONNECTIONS), (True, _PAUSE_SECONDS)):
                            group.create_task(self._calls.call_on(peer, keep=keep, pause=pause, stop=stop))
                    telling.append(group.create_task(self._calls.look_again(pause=_PAUSE_BETWEEN_TOKENS)))
            tell("ready")
            await stop.wait()
            for task in telling:
                task.cancel()
        tell("counted", **asdict(self._calls.counts))

    def _id_of(self, role: str) -> SpiffeID:
        return _beside(self._id, role)

    def _peer(self, role: str, ports: Mapping[str, int]) -> Peer:
        return Peer(spiffe_id=self._id_of(role), port=ports[role], what=_WORK[role], wants_token=role == "connector")

    async def _tell_changes(self) -> None:
        """Report each rotation, each new identity, and the loss of all identities; then wait until one is back."""
        while True:
            try:
                await self._follow()
            except WorkloadAPIError as e:
                tell("lost", why=str(e))
            await self._identity()

    async def _identity(self) -> None:
        """Wait until there is an identity."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        unsubscribe = self._x509.subscribe(wake)
        try:
            while not self._has_identity():
                await changed.wait()
                changed.clear()
        finally:
            unsubscribe()

    def _has_identity(self) -> bool:
        try:
            return bool(self._x509.context.svids)
        except WorkloadAPIError:
            return False

    async def _follow(self) -> None:
        clock = SystemClock()
        async for context in self._x509.changes():
            now = clock.now().isoformat()
            for svid in context.svids:
                serial = self._held.get(svid.spiffe_id)
                self._held[svid.spiffe_id] = svid.serial
                if serial is None:
                    _tell_svid("gained", svid, at=now)
                elif serial != svid.serial:
                    own = int(svid.spiffe_id == self._id)
                    _tell_svid("rotated", svid, own=own, at=now, **asdict(self._calls.counts))

    async def _tell_counts(self) -> None:
        while True:
            await asyncio.sleep(_COUNT_SECONDS)
            tell("counted", **asdict(self._calls.counts))


def _beside(own: SpiffeID, role: str) -> SpiffeID:
    """The SPIFFE ID of another component of the same agent."""
    *agent, _ = own.path[1:].split("/")
    return SpiffeID.from_segments(own.trust_domain, *agent, role)


def _first_audience(role: str, own: SpiffeID) -> str:
    """Somebody for whom the rules let a component have a JWT-SVID: its model, or whom it calls."""
    return AUDIENCE if role == "reasoning" else str(_beside(own, _TOKENS_FOR[role]))


def main() -> None:
    """Fetch both identities from SPIFFE_ENDPOINT_SOCKET, then play the part."""
    parser = argparse.ArgumentParser(prog="component")
    parser.add_argument("role", choices=("orchestrator", "reasoning", "connector"))
    parser.add_argument("--port", action="append", default=[], metavar="ROLE=PORT")
    arguments = parser.parse_args()
    ports = {role: int(port) for role, _, port in (text.partition("=") for text in arguments.port)}
    with X509Source() as x509, JWTSource() as jwt:
        token = jwt.fetch(_first_audience(arguments.role, x509.svid.spiffe_id))
        _tell_svid("identity", x509.svid, jwt_expires=token.expires_at.isoformat(timespec="seconds"))
        asyncio.run(Component(arguments.role, x509, jwt).play(ports))


if __name__ == "__main__":
    main()
