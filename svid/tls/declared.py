"""An authorizer for services: who may call us is what the rulebook declares, followed as it changes.

The source brings the callers that were declared (svid/workloadapi/callers). Here it is decided when they are too old to admit anybody.
svid/tls/enforcement ends what is open.
"""

import inspect
from collections.abc import Callable
from datetime import timedelta

from svid.denials import SILENT_AFTER
from svid.errors import AuthorizationError, SVIDError
from svid.source import DeclaredCallers, KnowsCallers
from svid.spiffeid import SpiffeID
from svid.tls.refusals import UnknownCallersError

__all__ = ["Declared", "declared"]

_FIRST_ANSWER = timedelta(seconds=30)


class Declared:
    """An authorizer that admits a peer only if it is declared as a caller of our identity; made by `declared`."""

    def __init__(self, source: KnowsCallers, spiffe_id: SpiffeID | None, refuse_after: timedelta | None) -> None:
        self._source = source
        self._spiffe_id = spiffe_id
        self._refuse_after = refuse_after

    def __call__(self, peer: SpiffeID) -> None:
        """Admit a peer.

        Raises:
            AuthorizationError: it is not declared as a caller of ours, or nobody declared who may call us.
            UnknownCallersError: nobody can be admitted now: there is no answer yet, or it is too old.
        """
        own, followed, callers = self._known()
        self._demand_fresh(followed)
        if callers is None:
            raise AuthorizationError(f"peer: no rule declares who may call {own}, found {peer}")
        if peer not in callers:
            raise AuthorizationError(f"peer: expected a declared caller of {own}, found {peer}")

    def wait(self, timeout: timedelta = _FIRST_ANSWER) -> None:
        """Wait for the first answer; raises WorkloadAPIError if none comes, or none ever will."""
        self._source.declared_callers().wait(timeout)

    async def ready(self, timeout: timedelta = _FIRST_ANSWER) -> None:  # noqa: ASYNC109 - the error says why nothing came
        """Do the same as `wait` without blocking the event loop."""
        await self._source.declared_callers().ready(timeout)

    def is_unwanted(self, peer: SpiffeID) -> bool:
        """Whether it is certain that a peer is not declared; an answer that is old or missing makes nothing certain."""
        try:
            callers = self._known()[2]
        except UnknownCallersError:
            return False
        return callers is None or peer not in callers

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` in a thread of the source when the callers may have changed; returns a function that stops this."""
        return self._source.declared_callers().subscribe(callback)

    def _known(self) -> tuple[SpiffeID | str, DeclaredCallers, frozenset[SpiffeID] | None]:
        try:
            own = self._spiffe_id or self._source.called_as()
            followed = self._source.declared_callers()
            return own or "the default identity", followed, followed.of(own)
        except SVIDError as e:
            raise UnknownCallersError(f"callers: {e}", clause=e.clause) from e

    def _demand_fresh(self, followed: DeclaredCallers) -> None:
        silent, age = followed.silent_for(), followed.age()
        if silent is None or silent > SILENT_AFTER:
            found = "none" if silent is None else f"none for {_seconds(silent)}"
            raise UnknownCallersError(
                f"callers: expected word from the attestor within {_seconds(SILENT_AFTER)}, found {found}"
            )
        if self._refuse_after is not None and (age is None or age > self._refuse_after):
            found = "none" if age is None else f"data {_seconds(age)} old"
            raise UnknownCallersError(
                f"callers: expected data at most {_seconds(self._refuse_after)} old, found {found}"
            )


def declared(
    source: KnowsCallers, *, spiffe_id: SpiffeID | str | None = None, refuse_after: timedelta | None = None
) -> Declared:
    """Accept only the callers that the rulebook declares, with `may_call`, for the identity that the source uses.

    The attestor tells who they are, and each change at once: from then on new peers are judged by it, and open connections and gRPC calls
    of a peer that is no longer declared end, as those of a revoked one do. Until the attestor's first answer, everybody is refused;
    `wait` and `ready` wait for it. Everybody is also refused while the attestor was silent for more than 15 s, has no such service, or
    knows no rule that declares our callers. What is open goes on meanwhile.

    Args:
        source: an X509Source or JWTSource; it opens one more stream.
        spiffe_id: the identity whose callers are meant; None means that of the source's X509-SVID, and with a JWTSource the default one.
        refuse_after: how old the issuer's data behind the answer may be; None means any age.

    Raises:
        TypeError: the source does not know who may call it.
        SpiffeIDError: the text is not a SPIFFE ID.
        WorkloadAPIError: CANCELLED if the source was closed.
    """
    for name in ("declared_callers", "called_as"):
        if not callable(getattr(source, name, None)) or inspect.isclass(source):
            raise TypeError(
                f"source: expected one that knows who may call it, as an X509Source does, found {type(source).__name__}"
            )
    own = SpiffeID.parse(spiffe_id) if isinstance(spiffe_id, str) else spiffe_id
    source.declared_callers()  # begin to follow now
    return Declared(source, own, refuse_after)


def _seconds(time: timedelta) -> str:
    return f"{time.total_seconds():.0f} s"
