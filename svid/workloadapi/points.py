"""Enforcement points of this process: they are told of each denial, and the attestor is told what they have taken.

Who hears of denials is svid/workloadapi/denials; what a point does with them, its own business (svid/tls).
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

__all__ = ["Points"]

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())

_REST_MS = 100, 300
"""How long a receipt waits, at least and at most: whoever brings the denial has others to tell of it first."""


def _rest() -> float:
    least, most = _REST_MS
    return (least + secrets.randbelow(most - least)) / 1000


@dataclass(slots=True, kw_only=True)
class _Point:
    """One registration; what it `owes` was told to it and not taken, because it raised."""

    name: str
    callback: Callable[[TrustDomain, Collection[int]], None]
    owes: dict[TrustDomain, tuple[int, ...]] = field(default_factory=dict)


class Points:
    """The enforcement points that were registered, and their receipts, which go out in a thread of their own and hold up nobody.

    One thread tells; any thread may register.

    Args:
        send: brings a receipt to the attestor, or raises WorkloadAPIError.
        rest: gives the seconds that the next receipts wait, so that what comes meanwhile is in them.

    Attributes:
        thread: which sends; over soon after `end`, once the call ended that it is in.
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

    def register(self, callback: Callable[[TrustDomain, Collection[int]], None], name: str) -> Callable[[], None]:
        """Tell this one, too, from now on; returns what ends that.

        Raises:
            SVIDError: a name that is empty or longer than 256 bytes.
        """
        check_point(name)
        token = object()
        with self._changed:
            self._points[token] = _Point(name=name, callback=callback)
            if self._reached is not None:  # what was told before, it has from its source
                self._write_receipts(self._reached)
        return partial(self._unregister, token)

    def tell(self, trust_domain: TrustDomain, new: tuple[int, ...], held: Container[int]) -> None:
        """Tell every point what is new, if anything is, and whoever raised before what it owes, as far as that is still held."""
        with self._changed:
            points = list(self._points.values())
        for point in points:
            numbers = (*(number for number in point.owes.pop(trust_domain, ()) if number in held), *new)
            try:
                point.callback(trust_domain, numbers)
            except Exception:  # noqa: BLE001 - the callback is a stranger's, and the others must hear of it
                _log.exception("enforcement failed", extra={"point": point.name})
                point.owes[trust_domain] = numbers

    def reached(self, epoch: Epoch) -> None:
        """Everything up to this epoch was told: send the receipts that the attestor does not have yet.

        Of points that share a name there is one receipt, when all have taken it; and one when the last of them left.
        """
        with self._changed:
            self._reached = epoch
            self._write_receipts(epoch)

    def forget_receipts(self) -> None:
        """The stream ended: whoever serves the next one may have none of them."""
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
        """Wait until receipts are due, and a little longer; False: there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._is_ended)
        seconds = self._rest()
        with self._changed:
            return not self._changed.wait_for(lambda: self._is_ended, seconds)

    def _next(self) -> Enforced | None:
        """The next receipt that is due; None: there are no more now."""
        with self._changed:
            if self._is_ended or not self._due:
                return None
            receipt = self._due.pop(next(iter(self._due)))  # whichever has waited longest
            if receipt.gone:
                self._sent.pop(receipt.point, None)
            else:
                self._sent[receipt.point] = receipt.epoch
        return receipt

    def _bring(self, receipt: Enforced) -> None:
        try:
            self._send(receipt)
        except WorkloadAPIError as e:
            _log.info("receipt lost", extra={"point": receipt.point, "reason": str(e)})
            with self._changed:  # so that it is due again with the next message
                if receipt.gone:
                    self._sent.setdefault(receipt.point, receipt.epoch)
                else:
                    self._sent.pop(receipt.point, None)
