"""Mint JWT-SVIDs on demand; keep each until half-life, or until it is denied or tainted.

Callers that want the same token share one mint, and one call to the issuer carries several mints. A fresh token is neither
shared nor kept: nobody but its caller ever gets it.

When half-life is: attestor/decisions/renewal. Whether a token is good: attestor/decisions/minted, and valid now: attestor/decisions/clocks.

A wish is an entry and its audiences. It goes from *waiting* (in the queue of each account that asked for it) to *taken* (in a call to the
issuer) to *settled* (everybody who waits gets the same answer, a token or a refusal). A token that arrives is *kept*. It is fresh until
its half-life, then good until it expires, is denied, or its authority leaves the bundle.

What always holds:
- Each wish is minted once, however many callers ask. A caller that asks while it is taken waits for the same answer and uses no quota.
- Each wish that waits in an account's queue counts against that account's quota until it is settled.
- A call has at most `_BATCH_OF_ONE` wishes of one account and serves the queues in turn. So nobody waits behind another account's wishes
  for longer than the call that is under way.
- Every wish that is taken is settled once, even if the call fails or is cancelled. A failure is an answer: the wish is not tried again
  until somebody asks again. What was not taken stays in its queue for the next run.
- A call that fails halves the size of the next one; each success doubles it again, up to what the issuer accepts.

Example: account A asks for 300 tokens, account B for the last of these and one of its own. The first call has 64 wishes from A's queue
and both of B's. While it is under way, the wish that both asked for is still in A's queue; when its turn comes there, it is already
settled or taken, and is skipped. If that call fails, its wishes are refused and the next call has half as many.
"""

import asyncio
import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog

from attestor.cache import Cache
from attestor.decisions.clocks import Reading, is_valid
from attestor.decisions.minted import take_jwt
from attestor.decisions.renewal import next_limit, renew_in
from attestor.deniallog import number_of
from attestor.issuerclient.port import MAX_BATCH, IssuerClient, JWTRequest, MintedJWT
from attestor.metrics import FAILED, OK
from attestor.surroundings import Surroundings
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.retrylines import RetryLines
from cognomen.gate.accounts import UNNAMED, AccountID
from cognomen.gate.shares import Queue, Room, Share, Shelf
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from svid.errors import JWTSVIDError, SVIDError

__all__ = ["MintJWTs"]

log = structlog.get_logger(__name__)

_MINT = "jwt-svid mint"
_TOLD_FOR = timedelta(seconds=30)  # after the last failed mint: there may never be a next one
_KEPT = 1000
_MOST_PENDING = 4096
_BATCH_OF_ONE = 64  # per account and call: others have to wait for it
_WORKLOADS_FAULT = frozenset({Kind.INVALID, Kind.EXHAUSTED})
_ANSWER_SECONDS = 45.0  # longer than a mint may take
_IN_TIME = 0.9  # of a caller's patience: the answer still has to reach it
_RETRY_SECONDS = 2.0  # how long a token past its half-life is served before the issuer is asked again
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOLERANCE = timedelta(seconds=5)  # the estimate of the issuer's clock may lag by the duration of a call
_REST_SECONDS = 1.0  # for an entry that is over a budget or a limit, according to the issuer
_MOST_TRIED = 16  # audiences, while an entry rests
_HALF_LIFE = 0.5  # the jitter that changes nothing: tokens are renewed when somebody asks, which spreads them enough


class _Wish(NamedTuple):
    """What makes two requests the same.

    Args:
        alone: sets a wish for a fresh token apart from all others; 0: it may be shared and kept.
    """

    entry_id: EntryID
    revision: int
    audiences: tuple[str, ...]
    alone: int = 0


@dataclass(slots=True)
class _Kept:
    """A token, and when to mint its successor, by the monotonic clock.

    Args:
        number: its jti; None: the jti is not one of ours.
        authority: the key id of its signer; None: it does not say.
        retry_at: when the issuer may be asked for its successor again, after it refused one.
    """

    minted: MintedJWT
    number: int | None
    authority: str | None
    renew_at: float
    retry_at: float = 0.0


@dataclass(slots=True)
class _Rest:
    """An entry for which the issuer refused a token, and until when it is not asked again for those that were tried."""

    until: float
    refused: Refused
    tried: set[tuple[str, ...]] = field(default_factory=set)


@dataclass(slots=True)
class _Pending:
    """A mint that is wanted or under way. A refusal is also a result, because nobody may be left to raise it to.

    Args:
        askers: the accounts in whose queues it waits, in the order in which they asked.
        is_taken: it is under way.
    """

    entry: RegistrationEntry
    answer: asyncio.Future[MintedJWT | Refused]
    askers: dict[AccountID, None] = field(default_factory=dict)
    is_taken: bool = False


class MintJWTs:
    """The flow and its ports; `run` must be running, or callers get only tokens that are kept.

    Args:
        cache: says which tokens are no longer handed out: those that are denied, and those whose authority has left the bundle. A
            token of a tainted authority is handed out only if no other is available.
        answer_seconds: how long a caller waits for a token, whatever happens to the mint.
    """

    def __init__(
        self, *, client: IssuerClient, cache: Cache, around: Surroundings, answer_seconds: float = _ANSWER_SECONDS
    ) -> None:
        self.pulse = Pulse()
        self._clock, self._troubles, self._metrics = around.clock, around.troubles, around.metrics
        self._client = client
        self._cache = cache
        self._answer_seconds = answer_seconds
        self._kept: Shelf[_Wish, _Kept] = Shelf(Share.TOKENS, _KEPT)
        self._pending: dict[_Wish, _Pending] = {}
        self._room = Room(Share.MINTS, _MOST_PENDING)
        self._queue: Queue[_Wish] = Queue(Share.MINTS)
        self._rests: dict[EntryID, _Rest] = {}
        self._wanted = asyncio.Event()
        self._limit = MAX_BATCH
        self._alone = itertools.count(1)
        self._lines = RetryLines("JWT-SVIDs minted again")

    async def jwt_svid(
        self,
        entry: RegistrationEntry,
        audiences: Collection[str],
        *,
        whose: AccountID = UNNAMED,
        patience: float = math.inf,
        fresh: bool = False,
    ) -> MintedJWT:
        """Get a JWT-SVID of this entry for these audiences; mint one unless a kept one still has half its life.

        Args:
            whose: the account that asks.
            patience: how many seconds that caller waits for an answer.
            fresh: mint one that nobody else gets, now or later.

        Raises:
            Refused: INVALID or EXHAUSTED if the issuer says so, otherwise UNAVAILABLE; only if no kept token is still valid.
        """
        wish = _Wish(entry.id, entry.revision, tuple(sorted(set(audiences))), next(self._alone) if fresh else 0)
        kept = None if fresh else self._kept.get(wish)
        if kept is not None and self._is_fresh(kept, self._clock.read()):
            self._kept.use(wish)
            return kept.minted
        resting = (
            None if kept is not None and self._may_replace(kept, self._clock.read()) else self._resting(entry, wish)
        )
        answer = resting or await self._mint(wish, entry, whose, patience * _IN_TIME)
        if isinstance(answer, MintedJWT):
            return answer
        if kept is None or not self._is_good(kept, self._clock.read()):
            raise answer
        if resting is None:
            kept.renew_at = kept.retry_at = self._clock.monotonic() + _RETRY_SECONDS
        return kept.minted

    @property
    def kept(self) -> int:
        """How many tokens are kept."""
        return len(self._kept)

    async def run(self) -> None:
        """Mint what callers ask for, forever."""
        while True:
            if not self._queue:  # otherwise an earlier run has left something
                self.pulse.rest()
                await self._wanted.wait()
            self._wanted.clear()
            await asyncio.sleep(0)  # callers that ask in this round of the loop share the call
            while self._queue:
                self.pulse.work()
                if batch := self._take():
                    await self._mint_batch(batch)

    def _take(self) -> Sequence[_Wish]:
        """Take the next batch; a wish of several accounts waits in the queue of each."""
        taken: list[_Wish] = []
        for wish in self._queue.take(self._limit, each=_BATCH_OF_ONE):
            pending = self._pending.get(wish)
            if pending is not None and not pending.is_taken:
                pending.is_taken = True
                taken.append(wish)
        return taken

    async def _mint(
        self, wish: _Wish, entry: RegistrationEntry, whose: AccountID, longest: float
    ) -> MintedJWT | Refused:
        pending = self._pending.get(wish)
        if pending is None or not (pending.is_taken or whose in pending.askers):
            if not self._room.take(whose):
                return Refused(Kind.EXHAUSTED, "JWT-SVIDs: too many are being minted for this uid; try again later")
            if pending is None:
                pending = self._pending[wish] = _Pending(entry, asyncio.get_running_loop().create_future())
            pending.askers[whose] = None
            self._queue.put(whose, wish)
            self._wanted.set()
            self.pulse.wake()
        # If this caller is cancelled, the others still get the answer.
        await asyncio.wait([pending.answer], timeout=min(self._answer_seconds, longest))
        return pending.answer.result() if pending.answer.done() else _not_minted()

    async def _mint_batch(self, wishes: Sequence[_Wish]) -> None:
        requests = [JWTRequest(entry_id=wish.entry_id, audiences=wish.audiences) for wish in wishes]
        answers: Sequence[MintedJWT | Refused] = [_not_minted()] * len(wishes)
        try:
            asked_at = self._clock.monotonic()
            answers = [_told(answer) for answer in await self._client.mint_jwt(requests)]
            if (minted := next((answer for answer in answers if isinstance(answer, MintedJWT)), None)) is not None:
                self._clock.hear(minted.issued_at, asked_at=asked_at)
            self._limit = next_limit(self._limit, most=MAX_BATCH)
            self._troubles.over(_MINT)
            self._lines.over(log.info)
        except Refused as e:  # whatever the reason, it concerns issuer and node only
            self._limit = next_limit(self._limit, most=MAX_BATCH, failed=len(wishes))
            self._troubles.note(_MINT, e.detail, kept_for=_TOLD_FOR)
            self._lines.failed(
                log.warning,
                "JWT-SVIDs not minted",
                self._clock.monotonic(),
                reason=e.detail,
                kind=e.kind,
                hint=e.hint,
                tokens=len(wishes),
            )
        finally:  # even if cancelled, so that nobody waits forever
            settled = [self._settle(wish, answer) for wish, answer in zip(wishes, answers, strict=True)]
            self._metrics.renewals.labels("jwt", OK).inc(settled.count(True))
            self._metrics.renewals.labels("jwt", FAILED).inc(settled.count(False))

    def _settle(self, wish: _Wish, answer: MintedJWT | Refused) -> bool:
        """Give the answer to everybody who waits; return whether it is a token."""
        pending = self._pending.pop(wish)
        for whose in pending.askers:
            self._room.give_back(whose)
        if isinstance(answer, Refused) and answer.kind is Kind.EXHAUSTED:
            self._rest(wish, answer)
        if isinstance(answer, MintedJWT):
            answer = self._keep(wish, pending, answer)
        if not pending.answer.done():  # the loop is closing
            pending.answer.set_result(answer)
        return isinstance(answer, MintedJWT)

    def _rest(self, wish: _Wish, refused: Refused) -> None:
        """Spare the issuer calls for an entry that is over a budget or a limit; the others go on."""
        now = self._clock.monotonic()
        self._rests = {known: rest for known, rest in self._rests.items() if now < rest.until}
        self._rests.setdefault(wish.entry_id, _Rest(now + _REST_SECONDS, refused)).tried.add(wish.audiences)

    def _resting(self, entry: RegistrationEntry, wish: _Wish) -> Refused | None:
        """The issuer's refusal, if this entry rests because of one.

        If its audiences are declared, some others may still be tried: the issuer's limits let pass what replaces a token, and after a
        restart we do not know which those are.
        """
        rest = self._rests.get(entry.id)
        if rest is None or self._clock.monotonic() >= rest.until:
            return None
        if entry.audiences is not None and wish.audiences not in rest.tried and len(rest.tried) < _MOST_TRIED:
            rest.tried.add(wish.audiences)
            return None
        return Refused(rest.refused.kind, rest.refused.detail)

    def _keep(self, wish: _Wish, pending: _Pending, minted: MintedJWT) -> MintedJWT | Refused:
        entry = pending.entry
        try:
            svid = take_jwt(minted.token, spiffe_id=entry.spiffe_id, audiences=wish.audiences)
            if (number := number_of(svid)) in self._cache.denials:
                raise JWTSVIDError("svid: it is already revoked")
        except SVIDError as e:
            log.warning("JWT-SVID rejected", entry_id=entry.id, reason=str(e))
            return _not_minted()
        if wish.alone:
            return minted
        at = self._clock.read()
        life, left = minted.expires_at - minted.issued_at, minted.expires_at - at.own
        wait = renew_in(life, left=left, jitter=_HALF_LIFE).total_seconds()
        whose = next(iter(pending.askers))  # the account that asked first
        self._kept.put(whose, wish, _Kept(minted, number, svid.key_id, at.monotonic + wait))
        return minted

    def _may_replace(self, kept: _Kept, at: Reading) -> bool:
        """Whether the issuer is asked although the entry rests: its limits let pass what replaces a token."""
        return at.monotonic >= kept.retry_at and self._is_good(kept, at)

    def _is_fresh(self, kept: _Kept, at: Reading) -> bool:
        is_early = at.monotonic < kept.renew_at
        return is_early and kept.authority not in self._cache.tainted and self._is_good(kept, at)

    def _is_good(self, kept: _Kept, at: Reading) -> bool:
        minted = kept.minted
        is_in_time = is_valid(max(minted.issued_at, _EPOCH) - _TOLERANCE, minted.expires_at, at)
        is_trusted = kept.authority in self._cache.bundle.jwt_authorities
        return is_in_time and is_trusted and kept.number not in self._cache.denials


def _told(answer: MintedJWT | Refused) -> MintedJWT | Refused:
    """The part of an answer that a workload sees: only what it can act on."""
    if isinstance(answer, MintedJWT) or answer.kind in _WORKLOADS_FAULT:
        return answer
    log.info("JWT-SVID not minted", kind=answer.kind, reason=answer.detail)
    return _not_minted()


def _not_minted() -> Refused:
    return Refused(Kind.UNAVAILABLE, "JWT-SVID: cannot be minted now")
