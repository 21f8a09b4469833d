"""The JWT-SVIDs that `fetch jwt --watch` has written: when verifiers refuse them, the wait for their half-life ends at once.

What is done then: watching asks for new ones, and keeping replaces, marks or removes the files.
"""

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from svid.denials import number_of_jti
from svid.errors import WorkloadAPIError
from svid.jwtsvid import JWTSVID
from svid.spiffeid import TrustDomain
from svid.workloadapi.sources import JWTSource

__all__ = ["HeldTokens"]

_DENIED = "PERMISSION_DENIED"
_POINT = "fetch jwt"
_PATIENCE = timedelta(seconds=2)  # beyond that, the receipt comes with a later message


class _NotYetError(Exception):
    """The files still have a denied token."""


class HeldTokens:
    """The tokens in our files, and what a source says about them; usable from any thread.

    Args:
        source: follows denials and bundles; None: nobody tells us, and tokens are good until they expire.
    """

    def __init__(self, source: JWTSource | None = None, *, patience: timedelta = _PATIENCE) -> None:
        self._source = source
        self._patience = patience
        self._changed = threading.Condition()
        self._held: tuple[JWTSVID, ...] = ()
        self._is_in_doubt = False

    @contextmanager
    def following(self) -> Iterator[None]:
        """Hear of denials and of changed bundles; a denial gets its receipt when the files have no token any more that it denies."""
        with ExitStack() as leaving:
            if self._source is not None:
                leaving.callback(self._source.on_denied(self._hear, point=_POINT))
                leaving.callback(self._source.subscribe(self._look))
            yield

    def hold(self, tokens: Iterable[JWTSVID]) -> None:
        """Note what the files have now, or will have in a moment."""
        with self._changed:
            self._held, self._is_in_doubt = tuple(tokens), False
            self._changed.notify_all()

    def are_refused(self) -> bool:
        """Whether verifiers refuse one of them before its end."""
        return any(map(self.is_refused, self._held))

    def is_refused(self, token: JWTSVID) -> bool:
        """Whether verifiers refuse this one before its end: it was revoked, or its authority has left the bundle."""
        if self._source is None:
            return False
        trust_domain, number = token.spiffe_id.trust_domain, number_of_jti(token.jti)
        if number is not None and self._source.is_denied(trust_domain, number):
            return True
        try:
            bundle = self._source.bundles.get(trust_domain)
        except WorkloadAPIError:  # whether the identity is gone, the next fetch says
            return False
        return bundle is not None and token.key_id is not None and token.key_id not in bundle.jwt_authorities

    def wait(self, seconds: float) -> bool:
        """Wait; returns early, and True, if it is time to ask for tokens again."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_in_doubt or self.are_refused(), seconds)

    def _hear(self, _trust_domain: TrustDomain, _numbers: Collection[int]) -> None:
        """Wake `wait`, and return when nothing that is denied is held."""
        with self._changed:
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: not self.are_refused(), self._patience.total_seconds()):
                raise _NotYetError

    def _look(self) -> None:
        """Wake `wait` if the bundles changed, and let it ask whether the identity is gone if the bundles are."""
        is_in_doubt = False
        try:
            if self._source is not None:
                _ = self._source.bundles
        except WorkloadAPIError as e:
            is_in_doubt = e.code == _DENIED
        with self._changed:
            self._is_in_doubt |= is_in_doubt and bool(self._held)
            self._changed.notify_all()
