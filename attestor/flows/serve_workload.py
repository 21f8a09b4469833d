"""Serve a workload: identify it, send what it is entitled to, and send every change while it listens.

Nothing here calls the issuer, except for tokens that are not kept (flows/mint_jwts). Which entries match: cognomen/rulebook/matching. What
is sent when: attestor/decisions/update.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeVar

import structlog

from attestor.answers import all_granted, granted
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
from attestor.observing import ObservedStream, note_jwts
from attestor.recentcallers import RecentCallers
from attestor.surroundings import Surroundings
from attestor.uses import Uses
from attestor.workloadattestor.port import WorkloadAttestor
from cognomen.daemon.plugincalls import PluginCalls
from cognomen.gate.accounts import AccountID
from cognomen.gate.caller import Caller, program_of
from cognomen.process.exceptions import forget_frames
from cognomen.protocol.audiences import not_for
from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from cognomen.protocol.selector import Selector
from svid.bundle import Bundle
from svid.errors import JWTSVIDError
from svid.jwtsvid import JWTSVID, verify
from svid.linelimit import LineLimit
from svid.spiffeid import SpiffeID

__all__ = ["IssuedJWT", "JWTMinter", "ServeWorkload"]

log = structlog.get_logger(__name__)

_REMEMBERED_SECONDS = 86_400.0  # as long as an SVID may live
_MOST_LOOKS = 5  # at one caller: the first, and more for entries that arrived meanwhile
_REMEMBERED = 4096  # accounts that received an identity

_Message = TypeVar("_Message")

_SHOWN_FOR = timedelta(minutes=5)  # that one account could not be examined: nothing reports when that is over
_NO_ROOM = "identities of one caller"  # its name among the troubles
_NARROWER = "clients accept messages of up to 4 MiB: give its entries narrower selectors, or run `cognomen why`"


class JWTMinter(Protocol):
    """Has JWT-SVIDs minted, and keeps them."""

    async def jwt_svid(
        self, entry: RegistrationEntry, audiences: Collection[str], *, whose: AccountID, patience: float, fresh: bool
    ) -> MintedJWT:
        """Get a JWT-SVID of this entry for these audiences, on behalf of that account; raise Refused if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedJWT:
    """A JWT-SVID as a workload receives it."""

    spiffe_id: SpiffeID
    token: str = field(repr=False)
    hint: str


class ServeWorkload:
    """The flow and its ports.

    Args:
        attestors: all are asked at once, and all must answer, so that no caller loses an entitlement to a slow attestor.
        attest_seconds: how long each may take.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        attestors: Sequence[WorkloadAttestor],
        minter: JWTMinter,
        uses: Uses,
        recent: RecentCallers,
        around: Surroundings,
        attest_seconds: float = 5,
    ) -> None:
        self._cache = cache
        self._attestors = attestors
        self._minter = minter
        self._uses, self._recent = uses, recent
        self._clock, self._troubles = around.clock, around.troubles
        self._attest_seconds = attest_seconds
        self._lines = LineLimit()
        self._denied_lines = LineLimit()
        self._calls = PluginCalls(around.clock)
        self._short: Counter[AccountID] = Counter()  # streams on which some identities are left out
        self._given_at: dict[AccountID, float] = {}
        self._failing: dict[str, str] = {}  # why, by the name of the attestor

    def failing(self) -> Sequence[str]:
        """The workload attestors that failed at their last call, and why: while one fails, nobody gets an identity."""
        return [f"{_named(name)}: {why}" for name, why in self._failing.items()]

    def holds_identity(self, account: AccountID) -> bool:
        """Whether an account received an identity within the last day."""
        given_at = self._given_at.get(account)
        return given_at is not None and self._clock.monotonic() < given_at + _REMEMBERED_SECONDS

    async def watch_x509(self, caller: Caller, send: Callable[[X509Message], Awaitable[None]]) -> None:
        """Send a caller its X509-SVIDs, now and at each change, until it is refused.

        Raises:
            Refused: DENIED once nothing matches; UNAVAILABLE before the first complete snapshot; UNAUTHENTICATED.
        """
        is_short = False
        observed = ObservedStream(self._uses, caller)

        def decide(view: View, last: X509Message | None) -> Update[X509Message]:
            nonlocal is_short
            update = self._update(view, last)
            observed.look(view.observed, is_sent=isinstance(update, Send))
            if isinstance(update, Send):
                was_short, is_short = is_short, update.message.left_out > 0
                self._count_short(caller.account, is_short - was_short)
                if is_short:
                    self._tell_left_out(caller, update.message)
            return update

        async def note_and_send(message: X509Message) -> None:
            self._uses.note(caller, message.entries, x509=True)  # first: sending may not end, and most be read before
            await send(message)

        try:
            await self._watch(caller, decide, note_and_send)
        finally:
            self._count_short(caller.account, -is_short)

    def left_out(self, view: View) -> int:
        """How many identities of a view do not fit in a message: always the last ones."""
        update = self._update(view, None)
        return update.message.left_out if isinstance(update, Send) else 0

    def _update(self, view: View, last: X509Message | None) -> Update[X509Message]:
        svids = {entry_id: held.svid for entry_id, held in view.svids.items()}
        return x509_update(view.entries, svids, view.trust, last=last, at=self._clock.read())

    def _count_short(self, account: AccountID, change: int) -> None:
        """Count the streams that have this trouble, and end it with the last of them."""
        self._short[account] += change
        if not self._short[account]:
            del self._short[account]
            self._troubles.over(_NO_ROOM, subject=f"uid {account}")

    def _tell_left_out(self, caller: Caller, message: X509Message) -> None:
        """Report a caller that does not get all its identities: the Workload API cannot tell it."""
        found = f"too many for one message: {len(message.svids)} fit, {message.left_out} more are left out"
        self._troubles.note(_NO_ROOM, f"{found}; {_NARROWER}", subject=f"uid {caller.account}")
        if self._lines.left_out(str(caller.account), self._clock.monotonic()) is not None:
            log.warning(
                "identities left out",
                uid=caller.uid,
                pid=caller.pid,
                handed=len(message.svids),
                left_out=message.left_out,
                hint=_NARROWER,
            )

    async def watch_x509_bundles(self, caller: Caller, send: Callable[[Trust], Awaitable[None]]) -> None:
        """Send a caller the bundle for X509-SVIDs, as watch_x509 does."""
        await self._watch(caller, lambda view, last: x509_bundle_update(view.entries, view.trust, last=last), send)

    async def watch_jwt_bundles(self, caller: Caller, send: Callable[[Bundle], Awaitable[None]]) -> None:
        """Send a caller the bundle for JWT-SVIDs, as watch_x509 does."""
        await self._watch(
            caller, lambda view, last: jwt_bundle_update(view.entries, view.trust.bundle, last=last), send
        )

    async def fetch_jwts(
        self,
        caller: Caller,
        audiences: Collection[str],
        spiffe_id: SpiffeID | None,
        *,
        patience: float = math.inf,
        fresh: bool = False,
    ) -> Sequence[IssuedJWT]:
        """Give a caller a JWT-SVID of each of its identities that may have one for these audiences, or of one of them.

        Args:
            patience: how many seconds the caller waits.
            fresh: give tokens that nobody else gets.

        Raises:
            Refused: DENIED when nothing matches, or none of what does may have it; what the issuer refuses; as watch_x509.
        """
        # 1. Identify the caller, and find what it is entitled to.
        view = self._cache.view(await self._identify(caller))
        note_jwts(self._uses, caller, view.observed, audiences, spiffe_id)
        identities = list(zip(view.entries, unique_hints(view.entries), strict=True))
        if spiffe_id is not None:
            identities = [identity for identity in identities if identity[0].spiffe_id == spiffe_id][:1]
        if not identities:
            raise self._denied(caller)
        first = identities[0][0]
        if not (identities := [identity for identity in identities if identity[0].allows(audiences)]):
            raise not_for(first.spiffe_id.path, first.audiences or (), audiences)
        # 2. Have them minted, all at once; for kept ones the issuer is not asked.
        self._note_given(caller.account)
        wanted = partial(self._minter.jwt_svid, audiences=audiences, patience=patience, fresh=fresh)
        entries = [entry for entry, _ in identities]
        minted = await all_granted(entries, partial(wanted, whose=caller.account))
        self._uses.note(caller, entries, jwt=True)
        return [
            IssuedJWT(spiffe_id=entry.spiffe_id, token=jwt.token, hint=hint)
            for (entry, hint), jwt in zip(identities, minted, strict=True)
        ]

    def validate_jwt(self, audience: str, token: str) -> JWTSVID:
        """Check a JWT-SVID that somebody presented to a caller; the caller needs no identity of its own for that.

        Raises:
            Refused: INVALID when the token proves nothing to that audience, or was revoked; UNAVAILABLE before the first complete snapshot.
        """
        bundle = self._cache.bundle_to_check_with()
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
            raise Refused(Kind.INVALID, "svid: it was revoked")
        return svid

    async def _watch(
        self,
        caller: Caller,
        decide: Callable[[View, _Message | None], Update[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        last: _Message | None = None
        # 1. Identify the caller.
        now = await self._identify(caller)
        while True:
            selectors = now
            with self._cache.subscribe(selectors, who=(caller.uid, caller.pid)) as subscription:
                while now == selectors:
                    # 2. Send the whole state if it is news. A slow reader gets the latest state, not each one in between.
                    match decide(self._cache.view(selectors), last):
                        case Send(message=message):
                            last = message
                            self._note_given(caller.account)
                            await send(message)
                        case NoMessage.DENIED:
                            raise self._denied(caller)
                        case NoMessage.UNCHANGED | NoMessage.WAIT:
                            pass
                    # 3. Wait, then identify the caller again: it may be running another program by now.
                    await subscription.changed()
                    now = await self.attest(caller)

    def _denied(self, caller: Caller) -> Refused:
        why = self._cache.withdrawn
        left_out = self._denied_lines.left_out(str(caller.account), self._clock.monotonic())
        if left_out is not None:
            hint = f"cognomen why --pid {caller.pid}"
            program = printable(program_of(caller.pid, caller.process).executable)
            facts = {"uid": caller.uid, "pid": caller.pid, "program": program, "reason": why}
            log.info("no identity issued", **facts, hint=hint, left_out=left_out)
        detail = f"no identity issued: {why}" if why else "no identity issued"
        return Refused(Kind.DENIED, detail, uid=caller.uid, pid=caller.pid)

    def _note_given(self, account: AccountID) -> None:
        self._given_at.pop(account, None)
        self._given_at[account] = self._clock.monotonic()
        if len(self._given_at) > _REMEMBERED:
            del self._given_at[next(iter(self._given_at))]  # the account that has received nothing for the longest time

    async def _identify(self, caller: Caller) -> frozenset[Selector]:
        selectors = await self.attest(caller)
        self._recent.note(caller, selectors, self._cache.needed_facts())
        return selectors

    async def attest(self, caller: Caller, also: frozenset[str] = frozenset()) -> frozenset[Selector]:
        """Find which of the facts that entries ask for a process shows now, and of those in `also`.

        Raises:
            Refused: UNAVAILABLE when an attestor gives no answer, or entries that need other facts arrive faster than it can look;
                UNAUTHENTICATED when the process has ended or runs as another uid.
        """
        needed = self._cache.needed_facts() | also
        for _ in range(_MOST_LOOKS):
            selectors = [granted(answer) for answer in await self._ask_all(caller, needed)]
            if not caller.is_alive():
                raise Refused(Kind.UNAUTHENTICATED, "caller: the process that connected has ended")
            if self._cache.needed_facts() <= needed:
                return frozenset().union(*selectors)
            needed |= self._cache.needed_facts()  # an entry that needs another fact arrived meanwhile
        raise Refused(
            Kind.UNAVAILABLE,
            f"caller: identified {_MOST_LOOKS} times, and each time a new entry needed another fact; try again",
        )

    async def unseen(self, caller: Caller) -> Sequence[str]:
        """Say which of the facts that entries need a process cannot show, and why.

        Raises:
            Refused: UNAVAILABLE when an attestor gives no answer.
        """
        needed = self._cache.needed_facts()
        try:
            async with asyncio.timeout(self._attest_seconds):
                return [one for attestor in self._attestors for one in await self._unseen(attestor, caller, needed)]
        except TimeoutError as err:
            raise Refused(Kind.UNAVAILABLE, "workload attestor: no answer in time") from err

    async def _unseen(self, attestor: WorkloadAttestor, caller: Caller, needed: Collection[str]) -> Sequence[str]:
        with self._calls.calling(_named(attestor.name), kind=Kind.INTERNAL):
            return list(await attestor.unseen(caller, needed=needed))

    async def _ask_all(self, caller: Caller, needed: Collection[str]) -> Sequence[frozenset[Selector] | Refused]:
        if len(self._attestors) == 1:  # the usual case, without a task
            return [await self._ask(self._attestors[0], caller, needed)]
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(self._ask(attestor, caller, needed)) for attestor in self._attestors]
        return [answer.result() for answer in answers]

    async def _ask(
        self, attestor: WorkloadAttestor, caller: Caller, needed: Collection[str]
    ) -> frozenset[Selector] | Refused:
        """Ask one attestor; return a refusal, because a task group would wrap it if it were raised."""
        plugin = _named(attestor.name)
        try:
            async with asyncio.timeout(self._attest_seconds):
                with self._calls.calling(plugin, kind=Kind.INTERNAL):
                    selectors = await attestor.attest(caller, needed=needed)
                    are_its_own = all(one.type == attestor.name for one in selectors)
            if are_its_own:
                self._note_answer(attestor)
                return selectors
            log.error("workload attestor gave selectors of another type", attestor=attestor.name, pid=caller.pid)
            refused = Refused(Kind.INTERNAL, f"{plugin}: selectors of another type")
            self._note_failure(attestor, refused)
        except TimeoutError:
            log.warning("workload attestor gave no answer", attestor=attestor.name, pid=caller.pid, uid=caller.uid)
            refused = Refused(Kind.UNAVAILABLE, f"{plugin}: no answer in time")
            self._note_failure(attestor, refused)
        except Refused as err:
            forget_frames(err)  # kept as a value: its frames would make it a reference cycle
            refused = err
            if refused.kind is Kind.INTERNAL:
                self._note_failure(attestor, refused)
            elif (
                refused.kind is not Kind.UNAUTHENTICATED
            ):  # perhaps only this caller cannot be examined, by its own doing
                uid = f"uid {caller.account}"
                self._troubles.note(plugin, refused.detail, subject=uid, kept_for=_SHOWN_FOR)
        return refused

    def _note_failure(self, attestor: WorkloadAttestor, refused: Refused) -> None:
        why = refused.detail.removeprefix(_named(attestor.name)).removeprefix(":").strip()
        self._failing[attestor.name] = printable(why)
        self._troubles.note(_named(attestor.name), f"{why}; see the log; until it answers, nobody gets an identity")

    def _note_answer(self, attestor: WorkloadAttestor) -> None:
        if self._failing.pop(attestor.name, None) is not None:
            self._troubles.over(_named(attestor.name))
            log.info("workload attestor answers again", attestor=attestor.name)


def _named(attestor: str) -> str:
    return f"workload attestor {attestor}"
