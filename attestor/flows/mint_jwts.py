"""JWT-SVIDs on demand: kept until half-life, or until denied or tainted, one mint for all who want the same, several mints in one call.

When half-life is: attestor/decisions/renewal. Whether a token is good: attestor/decisions/minted, and valid now: attestor/decisions/clocks.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog

from attestor.cache import Cache
from attestor.decisions.clocks import Reading, is_valid
from attestor.decisions.minted import take_jwt
from attestor.decisions.renewal import next_limit, renew_in
from attestor.deniallog import number_of
from attestor.issuerclient.port import MAX_BATCH, IssuerClient, JWTRequest, MintedJWT
from attestor.metrics import FAILED, OK, Metrics
from attestor.nodeclock import NodeClock
from attestor.shares import Queue, Room, Shelf
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from svid.entry import EntryID, RegistrationEntry
from svid.errors import JWTSVIDError, SVIDError

__all__ = ["MintJWTs"]

log = structlog.get_logger(__name__)

_MINT = "jwt-svid mint"
_KEPT = 1000
_MOST_PENDING = 4096
_WORKLOADS_FAULT = frozenset({Kind.INVALID, Kind.EXHAUSTED})
_ANSWER_SECONDS = 45.0  # longer than a mint may take
_RETRY_SECONDS = 2.0  # how long a token past its half-life is served before the issuer is asked again
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOLERANCE = timedelta(seconds=5)  # a reckoned clock may lag by the time that an answer took
_REST_SECONDS = 1.0  # of an entry whose budget the issuer says is spent
_HALF_LIFE = 0.5  # the jitter without effect: tokens are renewed when somebody asks, which spreads them enough


class _Wish(NamedTuple):
    """What makes two requests the same."""

    entry_id: EntryID
    revision: int
    audiences: tuple[str, ...]


@dataclass(slots=True)
class _Kept:
    """A token, and from when on another one is minted, by the monotonic clock.

    Args:
        number: its jti; None: it has none of ours.
        authority: the key id of who signed it; None: it does not say.
    """

    minted: MintedJWT
    number: int | None
    authority: str | None
    renew_at: float


@dataclass(frozen=True, slots=True)
class _Pending:
    """A mint that is wanted or under way. A refusal is a result, too: there may be nobody left to raise it at."""

    entry: RegistrationEntry
    answer: asyncio.Future[MintedJWT | Refused]


class MintJWTs:
    """The flow and its ports; `run` must be running for anybody to get a token that is not kept.

    Args:
        cache: a token that is denied there is not handed out any more, and one of an authority that has left the bundle; one of a
            tainted authority only where no other can be had.
        answer_seconds: how long a caller waits for a token, whatever becomes of the mint.
    """

    def __init__(
        self,
        *,
        client: IssuerClient,
        cache: Cache,
        clock: NodeClock,
        troubles: Troubles | None = None,
        metrics: Metrics,
        answer_seconds: float = _ANSWER_SECONDS,
    ) -> None:
        self.pulse = Pulse()
        self._troubles = troubles or Troubles(clock)
        self._metrics = metrics
        self._client = client
        self._cache = cache
        self._clock = clock
        self._answer_seconds = answer_seconds
        self._kept: Shelf[_Wish, _Kept] = Shelf(_KEPT)
        self._pending: dict[_Wish, _Pending] = {}
        self._room = Room(_MOST_PENDING)
        self._queue: Queue[_Wish] = Queue()
        self._rests: dict[EntryID, float] = {}
        self._wanted = asyncio.Event()
        self._limit = MAX_BATCH

    async def jwt_svid(self, entry: RegistrationEntry, audiences: Collection[str]) -> MintedJWT:
        """A JWT-SVID of this entry for these audiences, minted if there is none that still has half its life.

        Raises:
            Refused: INVALID or EXHAUSTED as the issuer says, else UNAVAILABLE; only when none is kept that is still valid.
        """
        wish = _Wish(entry.id, entry.revision, tuple(sorted(set(audiences))))
        kept = self._kept.get(entry.id, wish)
        if kept is not None and self._is_fresh(kept, self._clock.read()):
            self._kept.use(entry.id, wish)
            return kept.minted
        answer = await self._mint(wish, entry)
        if isinstance(answer, MintedJWT):
            return answer
        if kept is None or not self._is_good(kept, self._clock.read()):
            raise answer
        kept.renew_at = self._clock.monotonic() + _RETRY_SECONDS
        return kept.minted

    @property
    def kept(self) -> int:
        """How many tokens are kept."""
        return len(self._kept)

    async def run(self) -> None:
        """Mint what is asked for, for ever."""
        while True:
            if not self._queue:  # else a run before this one has left something
                self.pulse.rest()
                await self._wanted.wait()
            self._wanted.clear()
            await asyncio.sleep(0)  # whoever asks in this round of the loop shares the call
            while self._queue:
                self.pulse.work()
                await self._mint_batch(self._queue.take(self._limit))

    async def _mint(self, wish: _Wish, entry: RegistrationEntry) -> MintedJWT | Refused:
        if self._clock.monotonic() < self._rests.get(wish.entry_id, 0):
            return Refused(Kind.EXHAUSTED, "JWT-SVID: the budget of this identity is spent; try again later")
        pending = self._pending.get(wish)
        if pending is None:
            if not self._room.take(entry.id):
                return Refused(
                    Kind.EXHAUSTED, "JWT-SVIDs: expected fewer being minted for this identity; try again later"
                )
            pending = self._pending[wish] = _Pending(entry, asyncio.get_running_loop().create_future())
            self._queue.put(entry.id, wish)
            self._wanted.set()
            self.pulse.wake()
        await asyncio.wait([pending.answer], timeout=self._answer_seconds)  # cancelled, it takes the answer from nobody
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
        except Refused as e:  # whatever it is, it is between issuer and node
            self._limit = next_limit(self._limit, most=MAX_BATCH, failed=len(wishes))
            self._troubles.note(_MINT, e.detail)
            log.warning("JWT-SVIDs not minted", kind=e.kind, reason=e.detail, hint=e.hint, tokens=len(wishes))
        finally:  # also when cancelled: nobody waits for ever
            settled = [self._settle(wish, answer) for wish, answer in zip(wishes, answers, strict=True)]
            self._metrics.renewals.labels("jwt", OK).inc(settled.count(True))
            self._metrics.renewals.labels("jwt", FAILED).inc(settled.count(False))

    def _settle(self, wish: _Wish, answer: MintedJWT | Refused) -> bool:
        """Give everybody who waits the answer; whether it is a token."""
        pending = self._pending.pop(wish)
        self._room.give_back(wish.entry_id)
        if isinstance(answer, Refused) and answer.kind is Kind.EXHAUSTED:
            self._rest(wish.entry_id)
        if isinstance(answer, MintedJWT):
            answer = self._keep(wish, pending.entry, answer)
        if not pending.answer.done():  # the loop is closing
            pending.answer.set_result(answer)
        return isinstance(answer, MintedJWT)

    def _rest(self, entry_id: EntryID) -> None:
        """Spare the issuer calls for an entry whose budget is spent; the others go on."""
        now = self._clock.monotonic()
        self._rests = {known: until for known, until in self._rests.items() if now < until}
        self._rests[entry_id] = now + _REST_SECONDS

    def _keep(self, wish: _Wish, entry: RegistrationEntry, minted: MintedJWT) -> MintedJWT | Refused:
        try:
            svid = take_jwt(minted.token, spiffe_id=entry.spiffe_id, audiences=wish.audiences)
            if (number := number_of(svid)) in self._cache.denials:
                raise JWTSVIDError("svid: expected one that is good, found it revoked already")
        except SVIDError as e:
            log.warning("JWT-SVID not taken", entry_id=entry.id, reason=str(e))
            return _not_minted()
        at = self._clock.read()
        life, left = minted.expires_at - minted.issued_at, minted.expires_at - at.own
        wait = renew_in(life, left=left, jitter=_HALF_LIFE).total_seconds()
        self._kept.put(entry.id, wish, _Kept(minted, number, svid.key_id, at.monotonic + wait))
        return minted

    def _is_fresh(self, kept: _Kept, at: Reading) -> bool:
        is_early = at.monotonic < kept.renew_at
        return is_early and kept.authority not in self._cache.tainted and self._is_good(kept, at)

    def _is_good(self, kept: _Kept, at: Reading) -> bool:
        minted = kept.minted
        is_in_time = is_valid(max(minted.issued_at, _EPOCH) - _TOLERANCE, minted.expires_at, at)
        is_trusted = kept.authority in self._cache.bundle.jwt_authorities
        return is_in_time and is_trusted and kept.number not in self._cache.denials


def _told(answer: MintedJWT | Refused) -> MintedJWT | Refused:
    """What a workload is told of an answer: only what it can do something about."""
    if isinstance(answer, MintedJWT) or answer.kind in _WORKLOADS_FAULT:
        return answer
    log.info("JWT-SVID not minted", kind=answer.kind, reason=answer.detail)
    return _not_minted()


def _not_minted() -> Refused:
    return Refused(Kind.UNAVAILABLE, "JWT-SVID: cannot be minted now")
