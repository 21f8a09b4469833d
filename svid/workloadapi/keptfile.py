"""A file with the latest JWT-SVID for one audience: when it is written, and when it goes.

A token is replaced at half of its life. It is removed when verifiers would refuse it: it was revoked, its authority has left the bundle,
the identity is gone, or it has expired. Whoever opens the file then finds none, which says more than a provider's refusal. Times are
those of the monotonic clock, which nobody sets: when a token arrives, its end is fixed.

svid/workloadapi/secretfile writes it; svid/workloadapi/filekeeper calls us at the right times.
"""

import logging
import secrets
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta

from svid.backoff import Backoff
from svid.clock import Clock
from svid.errors import RevokedError, SVIDError, WorkloadAPIError
from svid.jwtsvid import JWTSVID
from svid.workloadapi.forks import forks
from svid.workloadapi.secretfile import SecretFile

__all__ = ["KeptFile"]

_SHORTEST_WAIT = timedelta(seconds=1)
_LONGEST_WAIT_SECONDS = 5.0  # the machine may sleep, and somebody may remove the file
_AGAIN = Backoff(initial=timedelta(milliseconds=500))
_DENIED = "PERMISSION_DENIED"
_log = logging.getLogger(
    __name__
)  # without a NullHandler, so that warnings go to standard error if the application has not set up logging


class KeptFile:
    """The file and the token in it; usable from any thread. In a forked child, every method does nothing: the file is the parent's.

    Args:
        fetch: returns a token, or raises SVIDError.
        is_of_no_use: whether verifiers refuse a token before its end; raises WorkloadAPIError if nobody can say so any more.
        audience: for the log.

    Attributes:
        path: where the file is.

    Raises:
        SVIDError: no token came, or no file can be made.
    """

    def __init__(
        self, fetch: Callable[[], JWTSVID], is_of_no_use: Callable[[JWTSVID], bool], clock: Clock, audience: str
    ) -> None:
        self._fetch = fetch
        self._is_of_no_use = is_of_no_use
        self._clock = clock
        self._audience = audience
        self._generation = forks.generation
        self._changing = threading.Lock()
        self._is_closed = False
        self._is_well = True
        self._delays = _AGAIN.delays(_jitter)
        self._token: JWTSVID | None = None
        self._renew_at = self._ends_at = 0.0
        token = fetch()
        with ExitStack() as on_error:
            try:
                self._file = SecretFile()
                on_error.callback(self._file.close)
                self._take(token)
            except OSError as e:
                raise SVIDError(f"token file: cannot be written: {_why(e)}") from e
            on_error.pop_all()
        self.path = self._file.path

    def step(self) -> float:
        """Do what is due, and return for how many seconds nothing else will be."""
        if self._is_absent():
            return _LONGEST_WAIT_SECONDS
        with self._changing:
            if self._is_closed:
                return _LONGEST_WAIT_SECONDS
            try:
                self._drop_useless()
                if self._token is not None and not self._file.is_there():  # somebody removed it
                    self._file.write(self._token.token.encode())
            except OSError as e:
                self._tell(f"cannot be removed, or written again: {_why(e)}")
            is_due = self._clock.monotonic() >= self._renew_at
        if is_due:
            self._renew()
        due = self._renew_at if self._token is None else min(self._renew_at, self._ends_at)
        return min(max(due - self._clock.monotonic(), 0.0), _LONGEST_WAIT_SECONDS)

    def look(self) -> bool:
        """Remove the token at once if verifiers refuse it now; returns whether it did, so that `step` has something to do.

        Raises:
            OSError: it cannot be removed.
        """
        if self._is_absent():
            return False
        with self._changing:
            had_one = not self._is_closed and self._token is not None
            if had_one:
                self._drop_useless()
            return had_one and self._token is None

    def change(self, *, is_gone: bool) -> bool:
        """Note that the identity was taken away, or that the bundles changed; returns whether `step` has something to do.

        Raises:
            OSError: the file cannot be removed.
        """
        if self._is_absent():
            return False
        with self._changing:
            if self._is_closed:
                return False
            if is_gone and self._token is not None:
                self._drop("the identity is gone")
            self._drop_useless()
            if self._token is None:
                self._renew_at = self._clock.monotonic()
            return self._token is None

    def close(self) -> None:
        """Remove the file for good."""
        if self._is_absent():
            return
        with self._changing:
            if not self._is_closed:
                self._is_closed, self._token = True, None
                self._file.close()

    def _is_absent(self) -> bool:
        return self._generation != forks.generation

    def _drop_useless(self) -> None:
        if self._token is None:
            return
        if self._is_useless(self._token):
            self._renew_at = self._clock.monotonic()
            self._drop("it was revoked, or its authority has left the bundle")
        elif self._clock.monotonic() >= self._ends_at:
            self._drop(f"it expired at {self._token.expires_at.isoformat()}")

    def _is_useless(self, token: JWTSVID) -> bool:
        try:
            return self._is_of_no_use(token)
        except WorkloadAPIError:  # the identity is gone, or the source was closed
            return True

    def _drop(self, why: str) -> None:
        self._file.remove()
        self._token = None
        _log.warning("token file for %s removed: %s", self._audience, why)

    def _renew(self) -> None:
        try:
            token = self._fetch()
            with self._changing:
                if self._is_closed:
                    return
                if self._is_useless(token):
                    raise RevokedError("the token that came was revoked, or its authority has left the bundle")
                self._take(token)
        except SVIDError as e:
            self._failed(str(e), is_gone=isinstance(e, WorkloadAPIError) and e.code == _DENIED)
        except OSError as e:
            self._failed(_why(e), is_gone=False)
        else:
            if not self._is_well:
                _log.warning("token file for %s is up to date again", self._audience)
            self._is_well, self._delays = True, _AGAIN.delays(_jitter)

    def _take(self, token: JWTSVID) -> None:
        self._file.write(token.token.encode())
        now, left = self._clock.monotonic(), _left(token, self._clock.now())
        self._token = token
        self._renew_at = now + max(left / 2, _SHORTEST_WAIT).total_seconds()
        self._ends_at = now + left.total_seconds()

    def _failed(self, why: str, *, is_gone: bool) -> None:
        with self._changing:
            if self._is_closed:
                return
            self._tell(f"not renewed: {why}")
            if is_gone and self._token is not None:
                with suppress(OSError):  # the next attempt fails as well, and tries again
                    self._drop("the identity is gone")
            self._renew_at = self._clock.monotonic() + next(self._delays).total_seconds()

    def _tell(self, trouble: str) -> None:
        """Log the first trouble; the next one only after a success."""
        if self._is_well:
            self._is_well = False
            _log.warning("token file for %s %s", self._audience, trouble)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _left(token: JWTSVID, now: datetime) -> timedelta:
    """How long a token that has just arrived is good; if the wall clock is wrong, half of its lifetime counts as left."""
    left = token.expires_at - now
    life = left if token.issued_at is None else token.expires_at - token.issued_at
    return left if timedelta() < left <= life else max(life / 2, timedelta())


def _jitter() -> float:
    return secrets.randbelow(1000) / 1000
