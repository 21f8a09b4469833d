"""Answer a workload: who it is, what it is entitled to, and every change of that while it listens.

Nothing here calls the issuer, tokens that are not kept aside (flows/mint_jwts). Who matches: attestor/decisions/match. What is said when:
attestor/decisions/update.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog

from attestor.cache import Cache, View
from attestor.decisions.update import (
    NoMessage,
    Send,
    Trust,
    Update,
    X509Message,
    jwt_bundle_update,
    unique_hints,
    x509_bundle_update,
    x509_update,
)
from attestor.deniallog import number_of
from attestor.issuerclient.port import MintedJWT
from attestor.nodeclock import NodeClock
from attestor.workloadattestor.port import WorkloadAttestor
from cognomen.daemon.caller import Caller
from cognomen.daemon.errors import Kind, Refused
from svid.bundle import Bundle
from svid.entry import RegistrationEntry
from svid.errors import JWTSVIDError
from svid.jwtsvid import JWTSVID, verify
from svid.selector import Selector
from svid.spiffeid import SpiffeID

__all__ = ["IssuedJWT", "JWTMinter", "ServeWorkload"]

log = structlog.get_logger(__name__)

_Message = TypeVar("_Message")


class JWTMinter(Protocol):
    """Something that has JWT-SVIDs minted and keeps them."""

    async def jwt_svid(self, entry: RegistrationEntry, audiences: Collection[str]) -> MintedJWT:
        """A JWT-SVID of this entry for these audiences; Refused when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedJWT:
    """A JWT-SVID as it is handed to a workload."""

    spiffe_id: SpiffeID
    token: str = field(repr=False)
    hint: str


class ServeWorkload:
    """The flow and its ports.

    Args:
        attestors: all are asked, at once, and all must answer: an entitlement is never lost to a slow one.
        attest_seconds: how long each may take.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        attestors: Sequence[WorkloadAttestor],
        minter: JWTMinter,
        clock: NodeClock,
        attest_seconds: float = 5,
    ) -> None:
        self._cache = cache
        self._attestors = attestors
        self._minter = minter
        self._clock = clock
        self._attest_seconds = attest_seconds

    async def watch_x509(self, caller: Caller, send: Callable[[X509Message], Awaitable[None]]) -> None:
        """Send a caller its X509-SVIDs, now and at each change, until it is refused.

        Raises:
            Refused: DENIED once nothing matches; UNAVAILABLE before the first complete snapshot; UNAUTHENTICATED.
        """

        def decide(view: View, last: X509Message | None) -> Update[X509Message]:
            svids = {entry_id: held.svid for entry_id, held in view.svids.items()}
            return x509_update(view.entries, svids, view.trust, last=last, at=self._clock.read())

        await self._watch(caller, decide, send)

    async def watch_x509_bundles(self, caller: Caller, send: Callable[[Trust], Awaitable[None]]) -> None:
        """Send a caller the bundle for X509-SVIDs, as watch_x509 does."""
        await self._watch(caller, lambda view, last: x509_bundle_update(view.entries, view.trust, last=last), send)

    async def watch_jwt_bundles(self, caller: Caller, send: Callable[[Bundle], Awaitable[None]]) -> None:
        """Send a caller the bundle for JWT-SVIDs, as watch_x509 does."""
        await self._watch(
            caller, lambda view, last: jwt_bundle_update(view.entries, view.trust.bundle, last=last), send
        )

    async def fetch_jwts(
        self, caller: Caller, audiences: Collection[str], spiffe_id: SpiffeID | None
    ) -> Sequence[IssuedJWT]:
        """Give a caller a JWT-SVID of each of its identities, or of one of them.

        Raises:
            Refused: DENIED when nothing matches; what the issuer refuses; as watch_x509.
        """
        # 1. Who asks, and what is that caller entitled to?
        view = self._cache.view(await self.attest(caller))
        identities = list(zip(view.entries, unique_hints(view.entries), strict=True))
        if spiffe_id is not None:
            identities = [identity for identity in identities if identity[0].spiffe_id == spiffe_id][:1]
        if not identities:
            raise _denied(caller)
        # 2. Have them minted, all at once; kept ones come back without the issuer.
        minted = await self._mint([entry for entry, _ in identities], audiences)
        return [
            IssuedJWT(spiffe_id=entry.spiffe_id, token=jwt.token, hint=hint)
            for (entry, hint), jwt in zip(identities, minted, strict=True)
        ]

    def validate_jwt(self, audience: str, token: str) -> JWTSVID:
        """Check a JWT-SVID that somebody presented to a caller; the caller itself needs no identity for that.

        Raises:
            Refused: INVALID when the token proves nothing to that audience, or was revoked; UNAVAILABLE before the first complete snapshot.
        """
        bundle = self._cache.view(frozenset()).trust.bundle
        try:
            svid = verify(
                token,
                lambda trust_domain: bundle if trust_domain == bundle.trust_domain else None,
                audience=audience,
                at=self._clock.now(),
            )
        except JWTSVIDError as err:
            raise Refused(Kind.INVALID, f"svid: {err}") from err
        if number_of(svid) in self._cache.denials:
            raise Refused(Kind.INVALID, "svid: revoked before its time")
        return svid

    async def _watch(
        self,
        caller: Caller,
        decide: Callable[[View, _Message | None], Update[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        last: _Message | None = None
        # 1. Who is it?
        now = await self.attest(caller)
        while True:
            selectors = now
            with self._cache.subscribe(selectors, who=(caller.uid, caller.pid)) as subscription:
                while now == selectors:
                    # 2. What is the whole state, and is it news? A slow reader gets the latest, not each one in between.
                    match decide(self._cache.view(selectors), last):
                        case Send(message=message):
                            last = message
                            await send(message)
                        case NoMessage.DENIED:
                            raise _denied(caller)
                        case NoMessage.UNCHANGED | NoMessage.WAIT:
                            pass
                    # 3. Wait, and look again who it is: it may run another program by now.
                    await subscription.changed()
                    now = await self.attest(caller)

    async def attest(self, caller: Caller) -> frozenset[Selector]:
        """See what a process shows now of what any entry asks for.

        Raises:
            Refused: UNAVAILABLE when an attestor gives no answer; UNAUTHENTICATED when the process has ended, or runs as another uid.
        """
        needed = self._cache.needed_facts()
        selectors = [_granted(answer) for answer in await self._ask_all(caller, needed)]
        if not caller.is_alive():
            raise Refused(Kind.UNAUTHENTICATED, "caller: expected the process that connected, found that it has ended")
        if not self._cache.needed_facts() <= needed:  # an entry came meanwhile that needs another fact
            return await self.attest(caller)
        return frozenset().union(*selectors)

    async def _ask_all(self, caller: Caller, needed: Collection[str]) -> Sequence[frozenset[Selector] | Refused]:
        if len(self._attestors) == 1:  # the usual case, without a task
            return [await self._ask(self._attestors[0], caller, needed)]
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(self._ask(attestor, caller, needed)) for attestor in self._attestors]
        return [answer.result() for answer in answers]

    async def _ask(
        self, attestor: WorkloadAttestor, caller: Caller, needed: Collection[str]
    ) -> frozenset[Selector] | Refused:
        """Ask one attestor; a refusal is returned, because a group of tasks would wrap what is raised."""
        try:
            async with asyncio.timeout(self._attest_seconds):
                return await attestor.attest(caller, needed=needed)
        except TimeoutError:
            log.warning("workload attestor gave no answer", attestor=attestor.name, pid=caller.pid, uid=caller.uid)
            return Refused(Kind.UNAVAILABLE, f"workload attestor {attestor.name}: no answer in time")
        except Refused as err:
            return err

    async def _mint(self, entries: Sequence[RegistrationEntry], audiences: Collection[str]) -> Sequence[MintedJWT]:
        if len(entries) == 1:  # the usual case, without a task
            return [await self._minter.jwt_svid(entries[0], audiences)]
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(self._try_mint(entry, audiences)) for entry in entries]
        return [_granted(answer.result()) for answer in answers]

    async def _try_mint(self, entry: RegistrationEntry, audiences: Collection[str]) -> MintedJWT | Refused:
        try:
            return await self._minter.jwt_svid(entry, audiences)
        except Refused as err:
            return err


def _granted(answer: _Message | Refused) -> _Message:
    if isinstance(answer, Refused):
        raise answer
    return answer


def _denied(caller: Caller) -> Refused:
    return Refused(Kind.DENIED, "no identity issued", uid=caller.uid, pid=caller.pid)
