"""The gate in front of a Unix socket: who connects, and how much they may ask for, before we trust anything they send.

Decided here: which connections are admitted and how many, and that a fault of one connection ends no other.
Not decided here: where a socket is bound (`listening`), what identifies a caller (`caller`), which uids are one account (`accounts`), what
bytes cost (`meter`), when they are passed on (`connection`).
"""

import asyncio
import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Protocol, TypeAlias

import structlog

from cognomen.gate.accounts import AccountID
from cognomen.gate.arrivals import Arrival, Arrivals, too_many, uid_of
from cognomen.gate.caller import Caller, peer
from cognomen.gate.connection import Account, GatedConnection, Guest, Turns
from cognomen.gate.listening import listen
from cognomen.gate.meter import Bucket, Limits, goaway
from cognomen.gate.turnedaway import TurnedAway
from cognomen.process.descriptors import descriptor_share
from cognomen.protocol.errors import Kind, Refused

__all__ = ["Gate", "HoldsIdentity", "Identify", "Limits", "listen"]


log = structlog.get_logger(__name__)

_READ_BYTES = 32 * 1024
_ARRIVALS = 256  # how many can wait for admission at once, at least
_ADMISSIONS_PER_ROUND = 8
_CONNECTION_COST = 150  # in units of Limits: the time of the loop that admitting one takes
_LONGEST_WAIT_SECONDS = 1.0  # for what an account owes; if it owes more, it is turned away
_SEE_OFF_SECONDS, _MOST_SEEN_OFF = 0.5, 64
_DESCRIPTOR_PARTS = 4  # a connection takes two, so all of them at most half
_RESERVED = 16  # connections for root and our own user, when others have all the rest
_ACCOUNTS = 1024  # if there are more, we forget those without connections and debts
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_ENHANCE_YOUR_CALM = 0xB


HoldsIdentity: TypeAlias = Callable[[int], bool]
"""Says whether an account recently got an identity."""


class Identify(Protocol):
    """The signature of `peer`."""

    def __call__(self, sock: socket.socket, *, accepted_at: float) -> Caller:
        """Identify the peer, or refuse it."""


class _Place:
    """One caller's place among the limited connections, until it leaves.

    Attributes:
        connection: None until it is made.
    """

    __slots__ = ("account", "connection", "is_left")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.connection: GatedConnection | None = None
        self.is_left = False
        account.connections += 1

    def leave(self) -> None:
        """Give the place back; a second call changes nothing."""
        if not self.is_left:
            self.is_left = True
            self.account.connections -= 1


class Gate:
    """Accepts on a listening Unix socket, and passes whole HTTP/2 frames of identified callers to a guest made for each connection.

    Args:
        listener: its owner closes it, after `run`.
        limits: the limits; there are fewer connections if the process may have only few descriptors.
        welcome: makes the protocol behind the gate for one caller.
        holds_identity: whether an account needs its connections more than others do, when there are too many.
        turned_away: counts and logs those who are turned away; None: only log them.
    """

    def __init__(
        self,
        listener: socket.socket,
        limits: Limits,
        welcome: Callable[[Caller], Guest],
        *,
        identify: Identify = peer,
        holds_identity: HoldsIdentity = lambda _: False,
        turned_away: TurnedAway | None = None,
    ) -> None:
        self._limits = limits
        self._welcome = welcome
        self._identify = identify
        self._holds_identity = holds_identity
        self._turned_away = turned_away or TurnedAway()
        self._most = descriptor_share(_DESCRIPTOR_PARTS, most=limits.connections)
        self._accounts: dict[AccountID, Account] = {}
        self._read_buffer = memoryview(bytearray(_READ_BYTES))
        self._accepting: asyncio.Task[None] | None = None
        # Half of the places are for one account at most: it may make all its connections at once.
        self._arrivals = Arrivals(
            listener,
            max(_ARRIVALS, min(2 * limits.connections_per_uid, self._most)),
            turn_away=self._turn_away,
            turned_away=self._turned_away,
        )
        self._places: dict[_Place, None] = {}  # oldest first
        self._seen_off = 0  # how many right now

    async def run(self) -> None:
        """Serve until cancelled, or until `stop_accepting` and the last connection's end."""
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(self._loop)
        async with asyncio.TaskGroup() as connections:
            self._accepting = connections.create_task(self._admit(connections))

    def move_to(self, listener: socket.socket) -> None:
        """Accept on another listener from now on; the existing connections stay. Its owner closes the old one."""
        self._arrivals.move_to(listener)

    def stop_accepting(self) -> None:
        """Admit no more connections; the existing ones stay."""
        if self._accepting is not None:
            self._accepting.cancel()

    def end_connections(self, detail: str) -> None:
        """Close every connection with that reason."""
        for place in self._places:
            if place.connection is not None:
                place.connection.end(detail, 0)

    async def _admit(self, connections: asyncio.TaskGroup) -> None:
        """Admit the connections that have arrived, the accounts in turn."""
        self._arrivals.open()
        try:
            while True:
                await self._arrivals.some()
                while arrivals := self._arrivals.take(_ADMISSIONS_PER_ROUND):
                    for arrival in arrivals:
                        self._admit_one(arrival, connections)
                    await asyncio.sleep(0)
        finally:
            self._arrivals.close()

    def _admit_one(self, arrival: Arrival, connections: asyncio.TaskGroup) -> None:
        now = self._loop.time()
        bucket = self._account(arrival.whose, now).bucket
        wait = bucket.wait(now)
        if 0 < wait <= _LONGEST_WAIT_SECONDS:
            self._arrivals.put_off(arrival, wait)
            return
        self._arrivals.leave(arrival)
        if wait > 0:
            with contextlib.closing(arrival.sock):
                self._turn_away(arrival.sock, too_many(arrival.whose))
            return
        if _has_left(arrival.sock):  # like a check whether anybody listens; nobody was refused
            arrival.sock.close()
            return
        bucket.take(_CONNECTION_COST, now)
        attending = connections.create_task(self._survive(arrival))
        attending.add_done_callback(
            lambda _: arrival.sock.close()
        )  # one cancelled before its first step has no finally

    async def _survive(self, arrival: Arrival) -> None:
        """Serve one connection; a failure there affects no other."""
        try:
            await self._attend(arrival)
        except Exception:
            log.exception("connection failed")

    async def _attend(self, arrival: Arrival) -> None:
        with contextlib.ExitStack() as leaving:
            try:
                caller = self._ask_who(arrival)
                leaving.callback(caller.process.close)
                place = self._enter(caller, arrival.whose)
                leaving.callback(self._leave, place)
                guest = self._welcome(caller)
            except Refused as refused:
                self._turn_away(arrival.sock, refused)
                await self._see_off(arrival.sock)
                return
            connection = GatedConnection(guest, place.account, self._limits, self._turns, self._read_buffer)
            try:
                await self._host(arrival.sock, caller.process.fileno(), connection, place)
            finally:
                await guest.wait_closed()  # before the pidfd is closed, because its number is reused

    async def _see_off(self, sock: socket.socket) -> None:
        """Give a peer that was turned away time to read why: gRPC stops reading once it cannot write its own greeting."""
        if self._seen_off >= _MOST_SEEN_OFF:
            return
        self._seen_off += 1
        try:
            with contextlib.suppress(OSError):  # it has already left
                sock.shutdown(socket.SHUT_WR)
                await asyncio.sleep(_SEE_OFF_SECONDS)
        finally:
            self._seen_off -= 1

    def _ask_who(self, arrival: Arrival) -> Caller:
        try:
            return self._identify(arrival.sock, accepted_at=arrival.at)
        except OSError as err:
            if err.errno in _NO_DESCRIPTORS:
                raise Refused(Kind.EXHAUSTED, "descriptors: none left; try again later") from err
            raise Refused(
                Kind.DENIED,
                f"caller: the kernel does not say who it is: {err.strerror}",
                hint="the daemon needs a /proc in which it can see its callers",
            ) from err

    async def _host(self, sock: socket.socket, death: int, connection: GatedConnection, place: _Place) -> None:
        transport, _ = await self._loop.connect_accepted_socket(lambda: connection, sock)
        place.connection = connection
        self._loop.add_reader(death, transport.abort)
        try:
            await connection.lost.wait()
        finally:
            self._loop.remove_reader(death)
            transport.abort()

    def _account(self, whose: AccountID, now: float) -> Account:
        if (known := self._accounts.get(whose)) is not None:
            return known
        if len(self._accounts) >= _ACCOUNTS:
            self._accounts = {
                one: kept for one, kept in self._accounts.items() if kept.connections or kept.bucket.wait(now) > 0
            }
        rate = self._limits.rate * self._limits.connections_worth
        account = self._accounts[whose] = Account(whose, Bucket(rate=rate, burst=rate, now=now))
        return account

    def _enter(self, caller: Caller, arrived_as: AccountID) -> _Place:
        now = self._loop.time()
        account = self._account(caller.account, now)
        if account.uid != arrived_as:  # it is in somebody's user namespace
            account.bucket.take(_CONNECTION_COST, now)
            if account.bucket.wait(now) > 0:
                raise too_many(caller.uid)
        if account.connections >= self._limits.connections_per_uid:
            raise Refused(
                Kind.EXHAUSTED,
                f"connections of uid {account.uid}: too many, expected at most {self._limits.connections_per_uid}",
            )
        is_ours = caller.uid in {0, os.geteuid()}
        if len(self._places) >= self._most + (_RESERVED if is_ours else 0):
            self._make_room(account, needs_it=is_ours or self._holds_identity(caller.account))
        place = _Place(account)
        self._places[place] = None
        return place

    def _make_room(self, newcomer: Account, *, needs_it: bool) -> None:
        """End the connection that is needed least.

        Among accounts without an identity, that is the oldest, and an idle one if there is any; otherwise the newest of the account that
        has most, if it still has more than the newcomer.
        """
        made = [place for place in self._places if place.connection is not None]
        strangers = [place for place in made if not self._is_needed(place.account.uid)]
        if not needs_it:  # nobody may take a place from an account that has no more than they have
            strangers = [place for place in strangers if place.account.connections > newcomer.connections]
        idle = [place for place in strangers if place.connection is not None and place.connection.is_idle]
        ended: _Place | None
        if chosen := idle or strangers:
            ended = max(chosen, key=_connections)  # the oldest of them
        else:
            ended = max(reversed(made), key=_connections, default=None)
            if ended is None or ended.account.connections <= newcomer.connections + 1:
                raise Refused(Kind.EXHAUSTED, f"connections: too many, expected at most {self._most}")
        self._end(ended)

    def _is_needed(self, account: int) -> bool:
        return account in {0, os.geteuid()} or self._holds_identity(account)

    def _end(self, place: _Place) -> None:
        self._leave(place)
        if (connection := place.connection) is not None:
            detail = f"connections of uid {place.account.uid}: closed to make room for others"
            connection.end(detail, _ENHANCE_YOUR_CALM)
            connection.abort()

    def _leave(self, place: _Place) -> None:
        place.leave()
        self._places.pop(place, None)

    def _turn_away(self, sock: socket.socket, refused: Refused) -> None:
        """Send the reason in a GOAWAY, if the socket takes it at once; then count and log it."""
        with contextlib.suppress(OSError):
            sock.send(goaway(_ENHANCE_YOUR_CALM, refused.detail, nothing_was_done=True))
        self._turned_away.tell(uid_of(sock), refused, self._loop.time())


def _has_left(sock: socket.socket) -> bool:
    poll = select.poll()  # not select(), which stops at descriptor 1023
    poll.register(sock, 0)  # POLLHUP is always reported
    return bool(poll.poll(0))


def _connections(place: _Place) -> int:
    return place.account.connections
