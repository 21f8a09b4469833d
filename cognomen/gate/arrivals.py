"""Connections that have arrived at a Unix socket and wait to be admitted: a limited number for each account, the accounts in turn.

The kernel has one queue for everybody, so we empty it as fast as we can, and close at once what an account has too many of. The less that
costs, the more connections a storm must make before others find the queue full. The gate decides who is admitted.
"""

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from cognomen.gate.accounts import AccountID, sole_account
from cognomen.gate.meter import Bucket
from cognomen.gate.shares import Queue, Room, Share
from cognomen.gate.turnedaway import TurnedAway
from cognomen.protocol.errors import Kind, Refused

__all__ = ["Arrival", "Arrivals", "too_many", "uid_of"]

log = structlog.get_logger(__name__)

_ACCEPTS_AT_ONCE = 32  # between two checks of the clock
_ACCEPTING_SECONDS = (
    0.003  # in each turn of the loop: a storm must neither fill the backlog, which all share, nor stop the calls
)
_REASONS_PER_SECOND = 100  # sent to connections that are refused at once
_REST_SECONDS = 0.1
_CREDENTIALS = struct.Struct("iII")


class Arrival(NamedTuple):
    """A connection that was accepted; at: seconds of CLOCK_BOOTTIME."""

    whose: AccountID
    sock: socket.socket
    at: float


class Arrivals:
    """Accepts connections, and keeps those for which there is room until they are admitted.

    Args:
        listener: non-blocking; its owner closes it after `close`.
        most: how many wait at once; at most half of them of one account.
        turn_away: sends the reason to a peer, and reports it.
        turned_away: counts and logs those to whom no reason is sent.
    """

    def __init__(
        self,
        listener: socket.socket,
        most: int,
        *,
        turn_away: Callable[[socket.socket, Refused], None],
        turned_away: TurnedAway,
    ) -> None:
        self._listener = listener
        self._turn_away = turn_away
        self._turned_away = turned_away
        self._room = Room(Share.ARRIVALS, most)
        self._waiting: Queue[Arrival] = Queue(Share.ARRIVALS)
        self._owing: set[Arrival] = set()  # of accounts that must wait first
        self._arrived = asyncio.Event()
        self._reasons = Bucket(rate=_REASONS_PER_SECOND, burst=_REASONS_PER_SECOND, now=0)
        self._is_out_of_descriptors = False
        self._is_open = False

    def open(self) -> None:
        """Start to accept, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)
        self._is_open = True

    def close(self) -> None:
        """Stop accepting, and close the connections that wait."""
        self._is_open = False
        self._loop.remove_reader(self._listener)
        for arrival in [*self._all(), *self._owing]:
            arrival.sock.close()
        self._owing.clear()

    def move_to(self, listener: socket.socket) -> None:
        """Accept on another listener from now on; what has arrived at the old one is accepted first, and its owner then closes it."""
        if not self._is_open:
            self._listener = listener
            return
        self._accept()
        self._loop.remove_reader(self._listener)
        self._listener = listener
        self.open()

    async def some(self) -> None:
        """Return once a connection waits."""
        await self._arrived.wait()
        self._arrived.clear()

    def take(self, most: int) -> Sequence[Arrival]:
        """Take the next ones in turn; their places stay taken until `leave` or `put_off`."""
        return self._waiting.take(most)

    def leave(self, arrival: Arrival) -> None:
        """Give back the place of a connection that was admitted or refused."""
        self._room.give_back(arrival.whose)

    def put_off(self, arrival: Arrival, seconds: float) -> None:
        """Let a connection wait that long before its next turn."""
        self._owing.add(arrival)
        self._loop.call_later(seconds, self._put_back, arrival)

    def _put_back(self, arrival: Arrival) -> None:
        if arrival in self._owing:  # otherwise we have closed
            self._owing.discard(arrival)
            self._put(arrival)

    def _put(self, arrival: Arrival) -> None:
        self._waiting.put(arrival.whose, arrival)
        self._arrived.set()

    def _all(self) -> Sequence[Arrival]:
        found: list[Arrival] = []
        while more := self._waiting.take(_ACCEPTS_AT_ONCE):
            found += more
        return found

    def _accept(self) -> None:
        """Empty the kernel's queue, because the kernel refuses connections while it is full.

        If there is no room for a uid, there is none until this method ends: the loop admits nobody meanwhile.
        """
        now = self._loop.time()
        until = now + _ACCEPTING_SECONDS
        unsaid: dict[int, int] = {}  # by uid: how many were closed without a reason
        try:
            while now < until:
                for _ in range(_ACCEPTS_AT_ONCE):
                    # What socket.accept() and socket.socket() do besides the system calls takes longer than these.
                    descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - not in typeshed
                    found = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
                    uid = uid_of(found)
                    if uid in unsaid:
                        unsaid[uid] += 1
                        found.close()
                    elif not self._take_in(uid, found.detach(), now):
                        unsaid[uid] = 1
                self._is_out_of_descriptors = False
                now = self._loop.time()
        except BlockingIOError:
            pass
        except OSError as err:
            self._rest(err)
        for uid, times in unsaid.items():
            self._turned_away.tell(uid, too_many(uid), now, times=times)

    def _take_in(self, uid: int, descriptor: int, now: float) -> bool:
        """Let a connection wait for its turn, or close it if that uid has too many waiting; False if it was closed without a reason."""
        whose = sole_account(uid)
        if self._room.take(whose):
            sock = _socket(descriptor)
            self._put(Arrival(whose, sock, time.clock_gettime(time.CLOCK_BOOTTIME)))
        elif self._reasons.wait(now) <= 0:
            self._reasons.take(1, now)
            with contextlib.closing(_socket(descriptor)) as sock:
                self._turn_away(sock, too_many(uid))
        else:
            os.close(descriptor)
            return False
        return True

    def _rest(self, err: OSError) -> None:
        """Accept nothing for a moment: most likely there are no more descriptors."""
        if not self._is_out_of_descriptors:
            log.warning("accept failed", reason=err.strerror)
        self._is_out_of_descriptors = True
        self._loop.remove_reader(self._listener)
        self._loop.call_later(_REST_SECONDS, self._accept_again)

    def _accept_again(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._listener, self._accept)


def too_many(uid: int) -> Refused:
    """The refusal of a connection of a uid that makes too many."""
    return Refused(Kind.EXHAUSTED, f"uid {uid}: too many connections and calls per second")


def uid_of(sock: socket.SocketType) -> int:
    """The uid of the peer, as the kernel reports it."""
    uid: int
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid


def _socket(descriptor: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
    sock.setblocking(False)
    return sock
