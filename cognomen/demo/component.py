"""One component of the agent `concierge`: it knows its own name, its peers' addresses, and the Workload API socket; no secret.

It tells what happens as JSON lines on standard output; who makes a scene of that is cognomen/demo/scene.

Shape: one request line and one reply line of JSON on each mTLS connection.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping

from svid import (
    AuthorizationError,
    JWTSource,
    SpiffeID,
    SVIDError,
    X509Source,
    client_context,
    exactly,
    peer_id,
    server_context,
)
from svid.clock import SystemClock

__all__ = ["main"]

_CALL_SECONDS = 10
_PAUSE_SECONDS = 0.1
_AGAIN = "go on"  # what is asked again and again, and not told each time
_LINE_BYTES = 64 * 1024


def _tell(event: str, **facts: str | int) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


class Component:
    """A component with its two identities, and what it does with them."""

    def __init__(self, x509: X509Source, jwt: JWTSource) -> None:
        self._x509 = x509
        self._jwt = jwt
        self._id = x509.svid.spiffe_id
        self._made = self._failed = 0

    def peer(self, role: str) -> SpiffeID:
        """The SPIFFE ID of another component of the same agent."""
        *agent, _ = self._id.path[1:].split("/")
        return SpiffeID.from_segments(self._id.trust_domain, *agent, role)

    async def serve(self, allowed: SpiffeID, *, wants_token: bool) -> asyncio.Server:
        """Answer calls of one peer; with `wants_token` it also shows a JWT-SVID for us."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            caller = peer_id(writer.get_extra_info("ssl_object"))
            try:
                request = json.loads(await asyncio.wait_for(reader.readline(), _CALL_SECONDS))
                bearer = self._jwt.verify(request["token"], audience=str(self._id)).spiffe_id if wants_token else None
                if request["what"] != _AGAIN:
                    _tell("answered", caller=str(caller), token_of=str(bearer or ""), what=request["what"])
                writer.write(json.dumps({"done": request["what"]}).encode() + b"\n")
                await writer.drain()
            except (SVIDError, ValueError, KeyError, OSError) as e:
                _tell("refused", caller=str(caller), why=str(e))
            finally:
                writer.close()

        def authorize(caller: SpiffeID) -> None:
            try:
                exactly(allowed)(caller)
            except AuthorizationError as e:
                _tell("refused", caller=str(caller), why=str(e))
                raise

        context = server_context(self._x509, authorize)
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context, limit=_LINE_BYTES)
        _tell("listening", port=server.sockets[0].getsockname()[1])
        return server

    async def call(self, role: str, port: int, what: str, *, with_token: bool = False) -> bool:
        """Ask a peer for something over mTLS, and tell how it went."""
        peer = self.peer(role)
        try:
            reply = await self._ask(peer, port, what, with_token=with_token)
        except (AuthorizationError, SVIDError, OSError, TimeoutError) as e:
            _tell("failed", peer=str(peer), what=what, why=str(e) or type(e).__name__)
            return False
        _tell("called" if reply else "failed", peer=str(peer), what=what, token="JWT-SVID" if with_token else "")
        return bool(reply)

    async def work(self, ports: Mapping[str, int]) -> None:
        """Call both peers again and again, a connection for each call, and count what fails."""
        while True:
            for role in ("reasoning", "connector"):
                self._made += 1
                try:
                    reply = await self._ask(self.peer(role), ports[role], _AGAIN, with_token=role == "connector")
                except (AuthorizationError, SVIDError, OSError, TimeoutError) as e:
                    reply = b""
                    _tell("broken", peer=str(self.peer(role)), why=str(e) or type(e).__name__)
                self._failed += not reply
            await asyncio.sleep(_PAUSE_SECONDS)

    async def tell_changes(self) -> None:
        """Tell each rotation, each identity that comes, and once a second how many calls were made."""
        held, serial = {str(svid.spiffe_id) for svid in self._x509.context.svids}, self._x509.svid.serial
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_counts())
            async for context in self._x509.changes():
                now = SystemClock().now().isoformat()
                for svid in context.svids:
                    if str(svid.spiffe_id) not in held:
                        held.add(str(svid.spiffe_id))
                        _tell("gained", spiffe_id=str(svid.spiffe_id), at=now)
                if self._x509.svid.serial != serial:
                    serial = self._x509.svid.serial
                    _tell("rotated", serial=f"{serial:x}", not_after=self._x509.svid.not_after.isoformat())

    async def _tell_counts(self) -> None:
        while True:
            _tell("counted", made=self._made, failed=self._failed)
            await asyncio.sleep(1)

    async def _ask(self, peer: SpiffeID, port: int, what: str, *, with_token: bool) -> bytes:
        request = {"what": what}
        if with_token:
            request["token"] = (await asyncio.to_thread(self._jwt.fetch, str(peer))).token
        async with asyncio.timeout(_CALL_SECONDS):
            context = client_context(self._x509, exactly(peer))
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=_LINE_BYTES)
            writer.write(json.dumps(request).encode() + b"\n")
            reply = await reader.readline()
            writer.close()
            return reply


async def _play(component: Component, role: str, ports: dict[str, int]) -> None:
    match role:
        case "connector":
            await component.serve(component.peer("orchestrator"), wants_token=True)
        case "reasoning":
            await component.serve(component.peer("orchestrator"), wants_token=False)
            await component.call("connector", ports["connector"], "book a train")
        case _:
            await component.call("reasoning", ports["reasoning"], "plan a trip")
            await component.call("connector", ports["connector"], "book a train", with_token=True)
    _tell("ready")
    async with asyncio.TaskGroup() as group:
        group.create_task(component.tell_changes())
        if role == "orchestrator":
            group.create_task(component.work(ports))


def main() -> None:
    """Fetch both identities from SPIFFE_ENDPOINT_SOCKET, then play the part."""
    parser = argparse.ArgumentParser(prog="component")
    parser.add_argument("role", choices=("orchestrator", "reasoning", "connector"))
    parser.add_argument("--port", action="append", default=[], metavar="ROLE=PORT")
    arguments = parser.parse_args()
    ports = {role: int(port) for role, _, port in (text.partition("=") for text in arguments.port)}
    with X509Source() as x509, JWTSource() as jwt:
        _tell(
            "identity",
            spiffe_id=str(x509.svid.spiffe_id),
            serial=f"{x509.svid.serial:x}",
            not_after=x509.svid.not_after.isoformat(timespec="seconds"),
            jwt_expires=jwt.fetch("demo").expires_at.isoformat(timespec="seconds"),
        )
        asyncio.run(_play(Component(x509, jwt), arguments.role, ports))


if __name__ == "__main__":
    main()
