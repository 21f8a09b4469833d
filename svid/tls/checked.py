"""What both kinds of LiveContext connections share: they know their peer, and let nothing pass before it is admitted or after a denial.

The connections themselves are in svid/tls/connections.
"""

import functools
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar, cast

from svid.errors import SVIDError
from svid.tls.enforcement import Held, Peer
from svid.tls.refusals import (
    EndedPeerError,
    OrphanedPeerError,
    OutlivedPeerError,
    RevokedPeerError,
    UndeclaredPeerError,
)
from svid.tls.reports import is_refusal

__all__ = ["Checked", "Gate", "unless_revoked"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Gate(ABC):
    """What a checked connection asks of its context; a base class, because an isinstance check of a Protocol is slow."""

    @abstractmethod
    def check_identity(self) -> None:
        """Refuse if we have no identity of our own."""

    @abstractmethod
    def recognise(self, chain: Iterable[bytes]) -> Peer:
        """Admit a peer, or refuse it."""

    @abstractmethod
    def refused(self, error: Exception, address: str) -> None:
        """Report that a handshake was refused because of this error."""

    @abstractmethod
    def hold(self, connection: Held) -> None:
        """End this connection when its peer is denied, or outlived."""


class Checked:
    """The state that both kinds of connections share."""

    peer: Peer | None = None
    revoked = False
    address = ""
    _is_open = False  # admitted and not revoked, in one flag
    _is_told = False  # the refusal was reported
    _why: Callable[[Peer], EndedPeerError]

    def revoke(self) -> None:
        """Let nothing pass from now on."""
        self._end_because(_revoked)

    def outlive(self) -> None:
        """Let nothing pass from now on; the error says that the peer's credential expired too long ago."""
        self._end_because(_outlived)

    def dismiss(self) -> None:
        """Let nothing pass from now on; the error says that the peer may not call us any more."""
        self._end_because(_undeclared)

    def orphan(self) -> None:
        """Let nothing pass from now on; the error says that this process was forked."""
        self._end_because(_orphaned)

    def demand_unrevoked(self) -> None:
        """Refuse to go on if the connection was ended.

        Raises:
            RevokedPeerError: the peer is denied.
            OutlivedPeerError: the peer's credential expired so long ago that a denial would not name it any more.
            UndeclaredPeerError: the peer may not call us any more.
            OrphanedPeerError: this process was forked since then, and receives no denials.
        """
        if self.revoked and self.peer is not None:
            raise self._why(self.peer)

    def why_ended(self) -> EndedPeerError | None:
        """Why it was ended; None if it was not."""
        return self._why(self.peer) if self.revoked and self.peer is not None else None

    def hang_up(self) -> None:
        """Close what is ours to close; by default, nothing."""

    def tell(self, gate: Gate, error: ssl.SSLError | SVIDError) -> None:
        """Report once why we refuse a handshake; if the peer left or refuses us, that is not our refusal."""
        if self.peer is None and not self._is_told and (isinstance(error, SVIDError) or is_refusal(error)):
            self._is_told = True
            gate.refused(error, self.address)

    def _end_because(self, why: Callable[[Peer], EndedPeerError]) -> None:
        self._why = why
        self.revoked = True
        self._is_open = False

    def admit(self, gate: Gate, chain: Iterable[bytes]) -> None:
        """Let bytes pass once the gate has admitted the peer; raises the errors of the gate."""
        if self.peer is None:
            self.peer = gate.recognise(chain)
            gate.hold(self)
        self._is_open = True
        if self.revoked:  # in the meantime
            self._is_open = False
            self.demand_unrevoked()


def _revoked(peer: Peer) -> EndedPeerError:
    return RevokedPeerError(f"peer: {peer.shown} was revoked")


def _outlived(peer: Peer) -> EndedPeerError:
    return OutlivedPeerError(
        f"peer: expected an X509-SVID that expired at most {peer.open_for.days} day ago,"
        f" found one of {peer.spiffe_id} that expired at {peer.ends_at}"
    )


def _undeclared(peer: Peer) -> EndedPeerError:
    return UndeclaredPeerError(f"peer: {peer.spiffe_id} is no longer a declared caller")


def _orphaned(peer: Peer) -> EndedPeerError:
    return OrphanedPeerError(
        f"connection: this process was forked after the connection with {peer.spiffe_id} was made, and receives no revocations for it"
    )


def unless_revoked(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a method check for revocation before it begins and before it returns, because a denial may come in between."""

    @functools.wraps(method)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        connection = cast("Checked", args[0])
        connection.demand_unrevoked()
        try:
            return method(*args, **kwargs)
        finally:
            connection.demand_unrevoked()

    return checked
