"""The enforcement points of this process: they get each denial, and the attestor gets a receipt for what they enforce.

svid/workloadapi/denials receives the denials; each point decides what to do with them (svid/tls).
"""

import logging
import secrets
import threading
from collections.abc import Callable, Collection, Container
from dataclasses import dataclass, field
from functools import partial

from svid.errors import WorkloadAPIError
from svid.spiffeid import TrustDomain
from svid.wire.denials import Enforced, Epoch, check_point
from svid.workloadapi.forks import forks

__all__ = ["Points"]

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())

_REST_MS = 100, 300
"""How long a receipt waits, at least and at most: the attestor has other processes to send the denial to first."""


def _rest() -> float:
    least, most = _REST_MS
    return (least + secrets.randbelow(most - least)) / 1000


@dataclass(slots=True, kw_only=True)
class _Point:
    """One registration; `owes` holds the numbers that the callback did not accept, because it raised."""

    name: str
    callback: Callable[[TrustDomain, Collection[int]], None]
    owes: dict[TrustDomain, tuple[int, ...]] = field(default_factory=dict)


class Points:
    """The registered enforcement points, and their receipts, which a separate thread sends so that they delay nothing.

    Only one thread calls `tell`; any thread may register.

    Args:
        send: sends a receipt to the attestor, or raises WorkloadAPIError.
        rest: returns the seconds that the next receipts wait, so that they include what comes meanwhile.

    Attributes:
        thread: sends the receipts; it finishes soon after `end`, when its current call ends.
    """

    def __init__(self, send: Callable[[Enforced], None], *, rest: Callable[[], float] = _rest) -> None:
        self.thread = threading.Thread(target=self._run, name="svid-receipts", daemon=True)
        self._send = send
        self._rest = rest
        self._changed = threading.Condition()
        self._points: dict[object, _Point] = {}
        self._due: dict[str, Enforced] = {}
        self._sent: dict[str, Epoch] = {}
        self._reached: Epoch | None = None
        self._is_ended = False
        forks.renew(self)

    def renew(self) -> None:
        """In a forked child, replace the lock; no thread tells or sends there until a source of the child starts again with new points."""
        self._changed = threading.Condition()

    def register(self, callback: Callable[[TrustDomain, Collection[int]], None], name: str) -> Callable[[], None]:
        """Add a point; returns a function that removes it.

        Raises:
            SVIDError: the name is empty or longer than 256 bytes.
        """
        check_point(name)
        token = object()
        with self._changed:
            self._points[token] = _Point(name=name, callback=callback)
            if self._reached is not None:  # it has the earlier denials from its source
                self._write_receipts(self._reached)
        return partial(self._unregister, token)

    def tell(self, trust_domain: TrustDomain, new: tuple[int, ...], held: Container[int]) -> None:
        """Call every point with the new numbers, if any, and with the numbers that it owes, if they are still held."""
        with self._changed:
            points = list(self._points.values())
        for point in points:
            numbers = (*(number for number in point.owes.pop(trust_domain, ()) if number in held), *new)
            try:
                point.callback(trust_domain, numbers)
            except BaseException:  # noqa: BLE001 - it is the application's code, and whatever it does, the others must get the denial
                _log.exception("enforcement failed", extra={"point": point.name})
                point.owes[trust_domain] = numbers

    def reached(self, epoch: Epoch) -> None:
        """Everything up to this epoch was sent to the points: send the receipts that the attestor does not have yet.

        Points that share a name send one receipt, when all of them have accepted the denials, and one when the last of them leaves.
        """
        with self._changed:
            self._reached = epoch
            self._write_receipts(epoch)

    def forget_receipts(self) -> None:
        """The stream ended, and the attestor that serves the next one may have no receipts: forget which were sent."""
        with self._changed:
            self._reached = None
            self._due.clear()
            self._sent.clear()

    def end(self) -> None:
        """Send no more receipts."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def _write_receipts(self, epoch: Epoch) -> None:
        points = list(self._points.values())
        names, owing = {point.name for point in points}, {point.name for point in points if point.owes}
        for name in names - owing:
            if self._sent.get(name) != epoch or self._is_leaving(name):
                self._due[name] = Enforced(epoch=epoch, point=name)
        for name in self._sent.keys() - names:
            self._leave(name)
        self._changed.notify_all()

    def _unregister(self, token: object) -> None:
        with self._changed:
            point = self._points.pop(token, None)
            if point is None or point.name in [other.name for other in list(self._points.values())]:
                return
            self._due.pop(point.name, None)
            if point.name in self._sent:
                self._leave(point.name)
                self._changed.notify_all()

    def _leave(self, name: str) -> None:
        self._due[name] = Enforced(epoch=self._sent[name], point=name, gone=True)

    def _is_leaving(self, name: str) -> bool:
        return name in self._due and self._due[name].gone

    def _run(self) -> None:
        while self._wait():
            while (receipt := self._next()) is not None:
                self._bring(receipt)

    def _wait(self) -> bool:
        """Wait until receipts are due, and a little longer; False if there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._is_ended)
        seconds = self._rest()
        with self._changed:
            return not self._changed.wait_for(lambda: self._is_ended, seconds)

    def _next(self) -> Enforced | None:
        """The next receipt that is due; None if there is none now."""
        with self._changed:
            if self._is_ended or not self._due:
                return None
            receipt = self._due.pop(next(iter(self._due)))  # the one that has waited longest
            if receipt.gone:
                self._sent.pop(receipt.point, None)
            else:
                self._sent[receipt.point] = receipt.epoch
        return receipt

    def _bring(self, receipt: Enforced) -> None:
        try:
            self._send(receipt)
        except Exception as e:  # noqa: BLE001 - this thread is the only one that sends, and must not die
            if isinstance(e, WorkloadAPIError):
                _log.info("receipt lost", extra={"point": receipt.point, "reason": str(e)})
            else:
                _log.exception("receipt failed", extra={"point": receipt.point})
            with self._changed:  # so that it is due again with the next message
                if receipt.gone:
                    self._sent.setdefault(receipt.point, receipt.epoch)
                else:
                    self._sent.pop(receipt.point, None)
