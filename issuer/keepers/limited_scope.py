"""What one component or agent has used of its limits on issuance, and its breakers.

issuer/decisions/breaker decides what a breaker does, decisions/budget how a rate is charged, decisions/limits what is refused.
`issuance_limits` keeps these and decides who is asked. Whatever is noted returns how to undo it: a work of the store may run again.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple, TypeVar

from cognomen.protocol.names import NodeID
from cognomen.rulebook.limits import LimitedScope
from issuer.decisions.breaker import CLOSED, BreakerState, advanced, probation, tripped
from issuer.decisions.budget import Allowance, charge
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.limits import Asked, BreakerStep, Held, Limit, LiveSVIDs, Standing, renews_token
from svid.keys import KeyID

__all__ = ["Component", "Scope", "Undo"]

_HOUR = 3600.0
_MINUTE = 60.0
_GRAIN = 10  # seconds: tokens that expire within as many are counted together
_MOST_TOKENS = 4096  # of a component: for more, those that end first count as new when they are renewed
_MOST_ENTRIES = 16  # of a component: those that something was last signed for
_LOOK_SECONDS = 1.0  # between two looks for what has expired, where a limit is reached

K = TypeVar("K")
V = TypeVar("V")

Undo = Callable[[], object]


class _Token(NamedTuple):
    not_after: float
    authority_id: KeyID
    free_at: float
    serial: str


class Rate:
    """A limit per minute and its breaker.

    Args:
        first: for how many seconds the breaker stays open at first.
    """

    def __init__(self, scope: LimitedScope, limit: Limit, *, first: float) -> None:
        self.breaker = CLOSED
        self._scope, self.limit, self._first = scope, limit, first
        self.allowance = Allowance(burst=scope.most[limit], per_second=scope.most[limit] / _MINUTE)
        self._full_at = -math.inf

    def advance(self, now: float, at: datetime) -> Iterator[BreakerStep]:
        """Do what time does to the breaker."""
        while (after := advanced(self.breaker, first=self._first, now=now)) is not self.breaker:
            is_step = after.state is not self.breaker.state
            self.breaker = after
            if after.state is BreakerState.HALF_OPEN:
                missing = self.allowance.burst - probation(self._scope.most[self.limit])
                self._full_at = max(self._full_at, after.since + missing / self.allowance.per_second)
            elif is_step:
                self._full_at = after.since  # what passed the probation may come in bursts again
            if is_step:
                yield self._step(at - timedelta(seconds=now - after.since))

    def is_over(self, now: float) -> bool:
        """Whether one more would be too many."""
        is_open = self.breaker.state is BreakerState.OPEN
        return is_open or charge(max(self._full_at, now), 1, self.allowance, now=now) is None

    def trip(self, now: float, at: datetime) -> tuple[BreakerStep, Undo] | None:
        """Open the breaker after a burst; None: it is open."""
        before = self.breaker
        if before.state is BreakerState.OPEN:
            return None
        self.breaker = tripped(before, first=self._first, now=now)
        return self._step(at), lambda: setattr(self, "breaker", before)

    def take(self, now: float) -> Undo:
        """Charge one."""
        after = charge(max(self._full_at, now), 1, self.allowance, now=now)
        if after is None:  # counted only
            return lambda: None
        self._full_at = after
        return self._give_back

    def _give_back(self) -> None:
        self._full_at -= 1 / self.allowance.per_second

    def used(self, now: float) -> int:
        """How much of it is used now."""
        return round(max(0.0, (self._full_at - now) * self.allowance.per_second))

    def _step(self, at: datetime) -> BreakerStep:
        return BreakerStep(scope=self._scope, limit=self.limit, breaker=self.breaker, at=at)


class Scope:
    """What one component, or one agent, has used of its limits."""

    def __init__(self, rule: LimitedScope, *, first: float) -> None:
        self._first = first
        self._audiences: dict[str, float] = {}
        self._holders: dict[tuple[str, NodeID], float] = {}
        self._nodes: dict[NodeID, float] = {}
        self._tokens: Counter[int] = Counter()
        self._looked_at = -math.inf
        self._revocation: int | None = None
        self.set_rule(rule)

    def set_rule(self, rule: LimitedScope) -> None:
        """Use these limits from now on: breakers are closed, what it holds still counts."""
        self.rule = rule
        rates = (Limit.X509_PER_MINUTE, Limit.JWT_PER_MINUTE)
        self._rates = {limit: Rate(rule, limit, first=self._first) for limit in rates if limit in rule.most}
        self._over: Counter[Limit] = Counter()
        self._last_over: dict[Limit, datetime] = {}

    def advance(self, now: float, at: datetime) -> Iterator[BreakerStep]:
        """Do what time does to the breakers."""
        for rate in self._rates.values():
            yield from rate.advance(now, at)

    def trip(self, limit: Limit, now: float, at: datetime) -> tuple[BreakerStep, Undo] | None:
        """Open the breaker of that limit; None: it is open, or the limit is no rate."""
        return self._rates[limit].trip(now, at) if limit.is_rate else None

    def exceeded(self, asked: Asked) -> Iterator[Limit]:
        """The limits that this SVID would exceed, which is new."""
        rate = self._rates.get(asked.rate)
        if rate is not None and rate.is_over(asked.monotonic):
            yield asked.rate
        most = self.rule.most
        if (limit := most.get(Limit.AUDIENCES_PER_HOUR)) is not None and self._new_audiences(asked, limit):
            yield Limit.AUDIENCES_PER_HOUR
        if (limit := most.get(Limit.LIVE_SVIDS)) is not None and self._live(asked.now, limit) >= limit:
            yield Limit.LIVE_SVIDS
        if (limit := most.get(Limit.NODES)) is not None and asked.kind is CredentialKind.X509:
            is_new = self._nodes.get(asked.node_id, 0.0) <= asked.now
            if is_new and self._node_count(asked.now, limit) >= limit:
                yield Limit.NODES

    def take(self, asked: Asked) -> Iterator[Undo]:
        """Charge the rate for what is new."""
        if (rate := self._rates.get(asked.rate)) is not None:
            yield rate.take(asked.monotonic)

    def note(self, path: str, asked: Asked) -> Iterator[Undo]:
        """Note that it is recorded, new or not."""
        if asked.kind is CredentialKind.X509:
            yield from self.hold(path, asked.node_id, asked.not_after)
            return
        moment = math.ceil(asked.not_after / _GRAIN)
        self._tokens[moment] += 1
        yield lambda: self._tokens.subtract([moment])
        if (most := self.rule.most.get(Limit.AUDIENCES_PER_HOUR)) is not None:
            for audience in asked.audiences:
                if (
                    audience in self._audiences or len(self._audiences) < most
                ):  # no more are kept, whoever asks for them
                    yield _put(self._audiences, audience, asked.monotonic)

    def hold(self, path: str, node_id: NodeID, not_after: float) -> Iterator[Undo]:
        """Note until when a component has an X509-SVID on a node."""
        yield _put(self._holders, (path, node_id), max(not_after, self._holders.get((path, node_id), 0.0)))
        yield _put(self._nodes, node_id, max(not_after, self._nodes.get(node_id, 0.0)))

    def must_recount(self, more: int, revocation: int, now: float) -> bool:
        """Whether something was revoked since it last counted, and that may matter for so many more SVIDs.

        Args:
            revocation: the number of the last one.
        """
        known, most = self._revocation, self.rule.most
        if known is None:
            self._revocation = revocation
        if known in {None, revocation}:
            return False
        live, nodes = most.get(Limit.LIVE_SVIDS), most.get(Limit.NODES)
        is_near = live is not None and self._live(now, max(0, live - more)) + more > live
        return is_near or (nodes is not None and self._node_count(now, max(0, nodes - more)) + more > nodes)

    def recount(self, live: LiveSVIDs, revocation: int) -> None:
        """Count what the ledger has, which leaves out what was revoked; nothing of the current batch was noted yet."""
        self._revocation = revocation
        self._holders = {key: end.timestamp() for key, end in live.x509.items()}
        self._nodes = {}
        for (_, node_id), end in self._holders.items():
            self._nodes[node_id] = max(end, self._nodes.get(node_id, 0.0))
        self._tokens = Counter()
        for second, count in live.tokens.items():
            self._tokens[math.ceil(second / _GRAIN)] += count

    def count_over(self, limit: Limit, at: datetime) -> None:
        """Count that a limit refused something, or would have."""
        self._over[limit] += 1
        self._last_over[limit] = at

    def standings(self, now: float, at: datetime) -> Iterator[Standing]:
        """How each of its limits stands."""
        self._forget(at.timestamp())
        self._drop_audiences(now)
        used = {
            Limit.AUDIENCES_PER_HOUR: len(self._audiences),
            Limit.LIVE_SVIDS: len(self._holders) + self._tokens.total(),
            Limit.NODES: len(self._nodes),
            **{limit: rate.used(now) for limit, rate in self._rates.items()},
        }
        for limit in Limit:
            if limit in self.rule.most:
                breaker = self._rates[limit].breaker if limit in self._rates else CLOSED
                yield Standing(
                    scope=self.rule,
                    limit=limit,
                    most=self.rule.most[limit],
                    used=used[limit],
                    over=self._over[limit],
                    last_over=self._last_over.get(limit),
                    breaker=breaker.state,
                    since=_moment(breaker.since, now, at),
                    until=None if breaker.state is BreakerState.CLOSED else _moment(breaker.until, now, at),
                )

    @property
    def is_worth_a_look(self) -> bool:
        """Whether one of its limits was exceeded, or one of its breakers is not closed."""
        return bool(self._over) or any(one.breaker.state is not BreakerState.CLOSED for one in self._rates.values())

    def next_step(self) -> float:
        """When the next breaker changes its state; infinite: none does."""
        waiting = (rate.breaker for rate in self._rates.values() if rate.breaker.state is not BreakerState.CLOSED)
        return min((one.until for one in waiting), default=math.inf)

    def _new_audiences(self, asked: Asked, most: int) -> bool:
        fresh = {one for one in asked.audiences if self._audiences.get(one, -math.inf) <= asked.monotonic - _HOUR}
        if not fresh:
            return False
        if len(self._audiences) + len(fresh) > most:
            self._drop_audiences(asked.monotonic)
        return len(self._audiences.keys() | fresh) > most

    def _drop_audiences(self, now: float) -> None:
        for one in [one for one, at in self._audiences.items() if at <= now - _HOUR]:
            del self._audiences[one]

    def _live(self, now: float, most: int) -> int:
        return self._count(now, most, lambda: len(self._holders) + self._tokens.total())

    def _node_count(self, now: float, most: int) -> int:
        return self._count(now, most, lambda: len(self._nodes))

    def _count(self, now: float, most: int, count: Callable[[], int]) -> int:
        """Count, and only where that reaches the limit leave out what has expired: once a second at most, because it reads all."""
        if count() >= most and not 0 <= now - self._looked_at < _LOOK_SECONDS:
            self._looked_at = now
            self._forget(now)
        return count()

    def _forget(self, now: float) -> None:
        _drop_ended(self._holders, now)
        _drop_ended(self._nodes, now)
        for moment in [one for one, count in self._tokens.items() if one * _GRAIN <= now or count <= 0]:
            del self._tokens[moment]


class Component:
    """What a component has on each node, by which a renewal is known.

    Args:
        scopes: whose limits count for it: its own and its agent's, those of them that there are.
        grace: for how long after its end an X509-SVID can be replaced, in seconds.
    """

    def __init__(self, path: str, *, grace: float) -> None:
        self.path = path
        self.scopes: tuple[Scope, ...] = ()
        self._grace = grace
        self._x509: dict[NodeID, float] = {}
        self._tokens: dict[bytes, _Token] = {}
        self._known: set[tuple[str, NodeID]] = set()
        self._entries: dict[str, None] = {}

    def knows(self, entry_id: str, node_id: NodeID) -> bool:
        """Whether it has been told what a node holds of an entry."""
        return (entry_id, node_id) in self._known

    def learn(self, entry_id: str, node_id: NodeID, held: Held, *, now: float) -> None:
        """Take in what the ledger has of an entry on a node."""
        self._known.add((entry_id, node_id))
        if held.x509 is not None:
            self._x509[node_id] = max(held.x509.timestamp(), self._x509.get(node_id, 0.0))
            for scope in self.scopes:
                _done(scope.hold(self.path, node_id, held.x509.timestamp()))
        for one in held.tokens:
            key = _key(entry_id, node_id, one.audiences)
            self._tokens.setdefault(key, _Token(one.not_after.timestamp(), one.authority_id, now, one.serial))

    def replaced(self, entry_id: str, asked: Asked, is_revoked: Callable[[str], bool]) -> bytes | None:
        """What an SVID replaces that it has, or had until recently: the key to give to `note`; None: it is new.

        A token that was revoked is replaced whenever it is asked for, also by another entry of the same component: a suspended agent that
        is resumed has other entries.
        """
        if asked.kind is CredentialKind.X509:
            return b"" if self._x509.get(asked.node_id, -math.inf) + self._grace > asked.now else None
        own = _key(entry_id, asked.node_id, asked.audiences)
        known = self._tokens.get(own)
        if known is not None and renews_token(
            not_after=known.not_after, authority_id=known.authority_id, free_at=known.free_at, asked=asked
        ):
            return own
        keys = {own: None, **{_key(one, asked.node_id, asked.audiences): None for one in self._entries}}
        for key in keys:
            known = self._tokens.get(key)
            if known is not None and known.not_after > asked.now and is_revoked(known.serial):
                return key
        return None

    def note(self, entry_id: str, asked: Asked, *, replaced: bytes | None) -> Iterator[Undo]:
        """Note that it is recorded, and what it replaces."""
        self._entries.pop(entry_id, None)
        self._entries[entry_id] = None  # the last one
        if len(self._entries) > _MOST_ENTRIES:
            del self._entries[next(iter(self._entries))]
        if asked.kind is CredentialKind.X509:
            yield _put(self._x509, asked.node_id, max(asked.not_after, self._x509.get(asked.node_id, 0.0)))
        else:
            key = _key(entry_id, asked.node_id, asked.audiences)
            known = self._tokens.get(key)
            free_at = asked.now if known is None else known.free_at
            if replaced is not None:
                free_at = asked.now + (asked.not_after - asked.now) / 2
            if known is None and len(self._tokens) >= _MOST_TOKENS:
                self._forget_tokens(asked.now)
            yield _put(self._tokens, key, _Token(asked.not_after, asked.authority_id, free_at, asked.serial))
            if replaced is not None and replaced != key and (other := self._tokens.get(replaced)) is not None:
                yield _put(self._tokens, replaced, other._replace(not_after=0.0))  # it is replaced once
        for scope in self.scopes:
            yield from scope.note(self.path, asked)

    def _forget_tokens(self, now: float) -> None:
        kept = sorted((one for one in self._tokens.items() if one[1].not_after > now), key=lambda one: one[1].not_after)
        self._tokens = dict(kept[-(_MOST_TOKENS // 2) :])


def _key(entry_id: str, node_id: NodeID, audiences: Iterable[str]) -> bytes:
    """A short key, because audiences may be long."""
    return sha256("\0".join((entry_id, node_id, *sorted(set(audiences)))).encode()).digest()[:16]


def _put(where: MutableMapping[K, V], key: K, value: V) -> Undo:
    if key not in where:
        where[key] = value
        return lambda: where.pop(key, None)
    before = where[key]
    where[key] = value

    def restore() -> None:
        where[key] = before

    return restore


def _drop_ended(ends: dict[K, float], now: float) -> None:
    for key in [key for key, end in ends.items() if end <= now]:
        del ends[key]


def _done(undos: Iterator[Undo]) -> None:
    for _ in undos:
        pass


def _moment(monotonic: float, now: float, at: datetime) -> datetime | None:
    return at + timedelta(seconds=monotonic - now) if math.isfinite(monotonic) else None
