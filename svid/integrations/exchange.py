"""Exchange a fresh JWT-SVID for a provider's access token, and keep that until shortly before its end.

Decided here: when an exchange is made, by whom, and what its outcome means. Each JWT-SVID is sent once, because providers may refuse one
that they have seen. What each provider wants: svid/integrations/exchange_profiles.

A token that was exchanged lives until its own end at the provider, whatever is revoked here; we only give it to nobody any more.
"""

import asyncio
import hashlib
import logging
import ssl
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import NamedTuple

from svid.clock import Clock, SystemClock
from svid.denials import number_of_jti
from svid.errors import ExchangeError, NotSentError, WorkloadAPIError
from svid.integrations.exchange_answers import Answer, shown
from svid.integrations.exchange_post import Reply, check_context, post
from svid.integrations.exchange_profiles import Profile
from svid.integrations.exchange_refusals import REFUSED, apart, date_of, failure
from svid.integrations.exchange_rest import Rest
from svid.jwtsvid import JWTSVID
from svid.source import FreshTokens, KnowsDenials, KnowsItsEnd, demand_duration, demand_source
from svid.spiffeid import SpiffeID
from svid.tls.forked import renew_in_children

__all__ = ["AccessToken", "TokenExchange"]

_log = logging.getLogger(__name__)

_CLOCK = SystemClock()
_POINT = "token exchange"
_TIMEOUT = timedelta(seconds=10)
_LEAST_LEFT, _MOST_LEFT, _LEFT_PART = timedelta(seconds=30), timedelta(minutes=5), 10
_PATIENCE_SECONDS = 30.0  # with another caller's exchange, beyond the timeout: the JWT-SVID has to be fetched as well
_LEAST_RETRY_SECONDS, _MOST_RETRY_SECONDS, _RETRY_PART = (
    5.0,
    60.0,
    10,
)  # of what is left, until a failed renewal is tried again
_FARTHEST = timedelta(days=1)  # a provider's clock that differs by more is not its clock, but a mistake or a lie
_LEEWAY_SECONDS = 300.0  # a provider remembers a JWT-SVID a little longer than it lives
_NOT_NOW = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "ABORTED"})

_sent: dict[bytes, float] = {}
"""What this process or its parents sent, by hash, and until when it is remembered; single operations of a dict need no lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A provider's token.

    Attributes:
        value: what an API call carries.
        expires_at: its end, by our clock; None if nobody said.
        fields: what else came with it, by the provider's names, where it is printable; for AWS the three parts of the credentials.
    """

    value: str = field(repr=False)
    expires_at: datetime | None
    fields: Mapping[str, str] = field(repr=False)


class _Kept(NamedTuple):
    """By the monotonic clock."""

    token: AccessToken
    svid: JWTSVID
    renew_at: float
    ends_at: float


class TokenExchange:
    """Exchanges JWT-SVIDs at one provider; usable from any thread or task, and in a forked child, which makes its own exchange.

    A token is kept until a tenth of its life is left, 30 s at least and 5 min at most, but never more than half. If it cannot be renewed
    then, it is given until its end, with a warning in the log, unless the provider refuses or the identity is gone. Only the caller who
    renews it waits for that.

    A token without an end is not kept: it goes only to the callers who waited for that exchange, and the next caller makes another one.
    `Profile.default_life` can give it an end.

    The token is dropped when the JWT-SVID that it was exchanged for is revoked, when the identity is gone, and when the source is closed,
    if the source knows of it, as a JWTSource does. When anybody of the trust domain is revoked, the next call asks the source whether
    the identity is still there. What callers hold already is good at the provider until its end.

    Only one exchange is made at a time; whoever comes meanwhile waits for its outcome, unless there is a good token. After an exchange
    that failed, callers get its error for half a second, or as long as the provider wants, before the next one is made.

    No JWT-SVID is sent twice: each exchange asks the source for a fresh one. An attestor other than ours may give the same one until half
    of its life is over; then the exchange fails.

    Args:
        source: a JWTSource, or what fetches as it does.
        spiffe_id: the identity to exchange; None means the default one.
        context: the TLS to the provider; None means the system's authorities. A LiveContext will do for a provider with a SPIFFE ID.
        timeout: how long the provider may take.

    Raises:
        TypeError: the source is not one, or the timeout is no timedelta.
        ExchangeError: the context does not check the server, or the timeout is not positive.
        SpiffeIDError: the text is not a SPIFFE ID.
    """

    def __init__(
        self,
        profile: Profile,
        source: FreshTokens,
        *,
        spiffe_id: SpiffeID | str | None = None,
        context: ssl.SSLContext | None = None,
        timeout: timedelta = _TIMEOUT,
        clock: Clock = _CLOCK,
    ) -> None:
        demand_source(source, "fetch")
        demand_duration(timeout, field="timeout")
        if timeout <= timedelta():
            raise ExchangeError(f"timeout: expected a positive time, found {timeout}")
        if context is not None:
            check_context(context)
        self._profile, self._source = profile, source
        self._spiffe_id = SpiffeID.parse(spiffe_id) if isinstance(spiffe_id, str) else spiffe_id
        self._context, self._timeout, self._clock = context, timeout, clock
        self._rest = Rest(clock)
        self.renew()
        renew_in_children(self)
        self._follow()

    def renew(self) -> None:
        """In a forked child, leave lock and token to the parent: the child may have a different identity."""
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._under_way: Future[AccessToken] | None = None
        self._doubts = self._settled_doubts = 0

    def _follow(self) -> None:
        """Hear of denials and of changes at the source; it does not keep us alive for that."""
        doubt = weakref.WeakMethod(self._doubt)

        def hear(*_: object) -> None:
            if (call := doubt()) is not None:
                call()

        if isinstance(self._source, KnowsDenials):
            leave = self._source.on_denied(lambda _, numbers: hear() if numbers else None, point=_POINT)
            weakref.finalize(self, leave).atexit = False
        if isinstance(self._source, KnowsItsEnd):
            weakref.finalize(self, self._source.subscribe(hear)).atexit = False

    def _doubt(self) -> None:
        """Ask the source whether there is still such an identity, before the token is given again."""
        self._doubts += 1

    def token(self) -> AccessToken:
        """Get a token that is good now; it blocks while an exchange is made.

        Raises:
            ExchangeError: the provider refused, did not answer, or asked us to wait; the text says what to look at.
            SVIDError: there is no JWT-SVID, as JWTSource.fetch.
        """
        if (ready := self._ready()) is not None:
            return ready
        outcome, is_ours = self._join()
        if is_ours:
            self._exchange(outcome)
        elif not wait([outcome], self._patience()).done:
            raise self._too_long()
        return outcome.result()

    async def token_async(self) -> AccessToken:
        """Get a token as `token` does, without blocking the event loop: an exchange is made in a thread of its own.

        Raises:
            ExchangeError: as `token`.
            SVIDError: as `token`.
        """
        if (ready := self._ready()) is not None:
            return ready
        outcome, is_ours = self._join()
        if is_ours:
            try:
                threading.Thread(target=self._exchange, args=(outcome,), name="svid exchange", daemon=True).start()
            except RuntimeError:
                self._settle(outcome, ExchangeError("exchange: no thread can be started", is_temporary=True))
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: "Future[AccessToken]") -> None:
            with suppress(RuntimeError):  # the loop may have ended
                loop.call_soon_threadsafe(done.set)

        outcome.add_done_callback(wake)
        try:
            async with asyncio.timeout(self._patience()):
                await done.wait()
        except TimeoutError:
            raise self._too_long() from None
        return outcome.result()

    def forget(self, token: AccessToken | None = None) -> None:
        """Drop the token that is kept, for example after the provider's API answered 401.

        Args:
            token: the one that was refused; if another caller has renewed it already, the newer one is kept.
        """
        with self._lock:
            if self._kept is not None and token in (None, self._kept.token):
                self._kept = None

    def _ready(self) -> AccessToken | None:
        """The token that is kept, if it needs no renewal, or another caller renews it and it is still good."""
        kept = None if self._doubts != self._settled_doubts else self._usable(is_renewed=self._under_way is not None)
        return None if kept is None else kept.token

    def _usable(self, *, is_renewed: bool = False) -> _Kept | None:
        """What is kept, if it needs no renewal, its source is open, and the JWT-SVID that it was exchanged for was not denied.

        Args:
            is_renewed: somebody renews it, so that it is good until its end.
        """
        if (kept := self._kept) is None or self._is_ended(kept):
            return None
        return kept if self._clock.monotonic() < (kept.ends_at if is_renewed else kept.renew_at) else None

    def _is_ended(self, kept: _Kept) -> bool:
        source, number = self._source, number_of_jti(kept.svid.jti)
        if isinstance(source, KnowsItsEnd) and source.is_closed:
            return True
        if not isinstance(source, KnowsDenials) or number is None:
            return False
        return source.is_denied(kept.svid.spiffe_id.trust_domain, number)

    def _join(self) -> "tuple[Future[AccessToken], bool]":
        """The outcome to wait for, and whether the caller must bring it about."""
        with self._lock:
            if (ready := self._ready()) is not None:
                outcome: Future[AccessToken] = Future()
                outcome.set_result(ready)
                return outcome, False
            if self._under_way is not None:
                return self._under_way, False
            self._under_way = Future()
            return self._under_way, True

    def _exchange(self, outcome: "Future[AccessToken]") -> None:
        """Bring an outcome about, whatever happens, so that nobody waits forever."""
        try:
            kept = self._attempt()
        except Exception as e:  # noqa: BLE001 - it is raised to everybody who waits
            if isinstance(e, ExchangeError):
                self._rest.begin(e)
            self._settle(outcome, e)
        except BaseException:
            self._settle(outcome, ExchangeError("exchange: it was interrupted; try again", is_temporary=True))
            raise
        else:
            self._settle(outcome, kept)

    def _settle(self, outcome: "Future[AccessToken]", found: _Kept | Exception) -> None:
        with self._lock:
            self._under_way = None
            if isinstance(found, _Kept):
                self._kept = found if found.renew_at < found.ends_at else None
            elif _is_final(found) or (self._kept is not None and self._is_ended(self._kept)):
                self._kept = None
            elif (still := self._kept) is not None and (now := self._clock.monotonic()) < still.ends_at:
                _log.warning(
                    "%s: token not renewed, the last one is given until its end: %s", self._profile.name, found
                )
                pause = max(_LEAST_RETRY_SECONDS, min((still.ends_at - now) / _RETRY_PART, _MOST_RETRY_SECONDS))
                found = self._kept = still._replace(renew_at=min(now + pause, still.ends_at))
        if isinstance(found, _Kept):
            outcome.set_result(found.token)
        else:
            outcome.set_exception(found)

    def _attempt(self) -> _Kept:
        """Exchange a fresh JWT-SVID.

        1. If somebody was denied meanwhile and we still have our identity, keep the token. 2. Rest after a failure. 3. Fetch a
        JWT-SVID, and check what the provider would refuse. 4. Send it. 5. Read the answer.
        """
        doubts = self._doubts
        if doubts != self._settled_doubts and (kept := self._usable()) is not None:
            self._source.fetch(self._profile.audience, spiffe_id=self._spiffe_id)
            self._settled_doubts = doubts
            return kept
        self._rest.check()
        svid = self._source.fetch(self._profile.audience, spiffe_id=self._spiffe_id, fresh=True)
        self._settled_doubts = doubts
        self._check(svid)
        mark = self._mark(svid)
        at, now = self._clock.monotonic(), self._clock.now()
        try:
            reply = self._post(svid)
        except NotSentError:
            _sent.pop(mark, None)
            raise
        answer = self._answer(svid, reply)
        token, life = self._access_token(answer, reply, now)
        if life is None:
            return _Kept(token, svid, at, at)
        left = min(max(life / _LEFT_PART, _LEAST_LEFT), _MOST_LEFT, life / 2)
        ends_at = at + life.total_seconds()
        return _Kept(token, svid, ends_at - left.total_seconds(), ends_at)

    def _check(self, svid: JWTSVID) -> None:
        name, audience = self._profile.name, self._profile.audience
        if set(svid.audiences) != {audience}:
            raise ExchangeError(f"{name}: aud: expected only {audience}, found {list(svid.audiences)}")
        if self._profile.needs_issuer and not svid.claims.get("iss"):
            raise ExchangeError(f"{name}: the JWT-SVID has no iss", hint="the issuer's jwt_issuer is not set")

    def _mark(self, svid: JWTSVID) -> bytes:
        """Note that a JWT-SVID is being sent, before it is.

        Raises:
            ExchangeError: it was sent before.
        """
        now, wall = self._clock.monotonic(), self._clock.now()
        for known, until in tuple(_sent.items()):
            if until > now:
                break
            _sent.pop(known, None)
        life = svid.expires_at - (svid.issued_at or wall)
        lasts = max(life, svid.expires_at - wall).total_seconds() + _LEEWAY_SECONDS
        mark = hashlib.sha256(f"{svid.spiffe_id} {svid.jti or svid.token}".encode()).digest()
        until = now + lasts
        if _sent.setdefault(mark, until) is not until:
            raise ExchangeError(
                f"{self._profile.name}: the source gave a JWT-SVID that was already sent",
                is_temporary=True,
                hint="its attestor does not know `cognomen-fresh`: it gives another one at half of its life, "
                f"which ends at {svid.expires_at.isoformat()}",
            )
        return mark

    def _post(self, svid: JWTSVID) -> Reply:
        profile = self._profile
        headers = {"Accept": "application/json", "User-Agent": "svid", **profile.headers}
        headers["Content-Type"] = profile.content_type
        body = profile.body(svid.token)
        try:
            return post(profile.url, body, headers, context=self._context, timeout=self._timeout)
        except ExchangeError as e:
            e.args = (f"{profile.name}: {e.args[0]}",)
            raise

    def _answer(self, svid: JWTSVID, reply: Reply) -> Answer:
        """Read a token, or raise what the answer means."""
        name, status = self._profile.name, reply.status
        if status not in (HTTPStatus.OK, HTTPStatus.CREATED):
            raise failure(self._profile, svid, reply, now=self._clock.now())
        try:
            return self._profile.read(reply.body)
        except ValueError as e:
            wrong = shown(str(e), (svid.token,))
        kind = shown(reply.headers.get_content_type(), (svid.token,))
        found = f"found {kind} of {len(reply.body)} bytes"
        raise ExchangeError(f"{name}: answer {status}: {wrong}, {found}", status=status, hint="is the URL right?")

    def _access_token(self, answer: Answer, reply: Reply, now: datetime) -> tuple[AccessToken, timedelta | None]:
        """The token, and how long it lives, counted from before it was asked for."""
        life = self._profile.default_life if answer.life is None else answer.life
        if answer.ends_at is not None:
            theirs = date_of(reply.headers)
            life = answer.ends_at - (now if theirs is None or abs(theirs - now) > _FARTHEST else theirs)
            if life <= timedelta():
                gone = f"{self._profile.name}: the token expired at {answer.ends_at.isoformat()}"
                raise ExchangeError(gone, status=reply.status, hint=apart(reply.headers, "expired", now=now))
        if life is not None:
            life = min(life, self._profile.longest_life)
        expires_at = None if life is None else now + life
        return AccessToken(value=answer.value, expires_at=expires_at, fields=answer.fields), life

    def _patience(self) -> float:
        return self._timeout.total_seconds() + _PATIENCE_SECONDS

    def _too_long(self) -> ExchangeError:
        waited = f"an exchange that another caller began has not ended within {self._patience():g} s"
        return ExchangeError(f"{self._profile.name}: {waited}", is_temporary=True)


def _is_final(error: Exception) -> bool:
    """Whether the token that we have must not be given any more."""
    if isinstance(error, WorkloadAPIError):
        return error.code not in _NOT_NOW
    return isinstance(error, ExchangeError) and error.status in REFUSED
