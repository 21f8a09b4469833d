"""Reports of refusals: each is one warning, one count, and one call of `on_refused`; the peer itself learns nothing of this.

The log lines are rate-limited, whoever causes them: the first line for a peer and a reason comes at once, then one a minute, with the
number of lines left out. Each reason has its own limit, so strangers cannot use up the lines of peers that proved their identity. Other
modules decide whom to refuse.
"""

import logging
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import unquote

from svid.clock import Clock, SystemClock
from svid.errors import AuthorizationError, JWTSVIDError, RevokedError, SVIDError, X509SVIDError
from svid.linelimit import LineLimit
from svid.spiffeid import SpiffeID
from svid.tls.authorize import demand_answers_now
from svid.tls.forked import renew_in_children
from svid.tls.refusals import (
    ExpiredHandshakeError,
    ExpiredTokenError,
    NoIdentityError,
    OrphanedPeerError,
    OutdatedError,
    OutlivedPeerError,
)

__all__ = ["OnRefused", "Reason", "Refusal", "Reports", "is_refusal", "refusal_counts", "shown_address"]

_log = logging.getLogger(
    __name__
)  # without a NullHandler, so that warnings go to standard error if the application has not set up logging

_MOST_CHARACTERS = 500
_CERTIFICATE_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"


class Reason(StrEnum):
    """Why somebody was refused."""

    UNAUTHENTICATED = "unauthenticated"
    """The peer proved no SPIFFE ID."""
    EXPIRED = "expired"
    """The peer's credential has expired, whatever else may be wrong with it."""
    REVOKED = "revoked"
    NOT_ALLOWED = "not allowed"
    """The peer proved its identity, but is not allowed here."""
    UNAVAILABLE = "unavailable"
    """Nobody can be admitted now: we have no identity, or our revocation data is too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A peer was refused, or an open connection or call was ended because of its peer.

    Attributes:
        point: what refused: `server_context`, `client_context`, `JWTGuard`, `BearerCheck`, `verify_bearer`.
        peer: the SPIFFE ID that was proven; None if none was.
        detail: what was wrong; it may quote the peer, but never a token.
        address: the peer's address: `host:port`, or only the host; empty if it is not known, as with uvloop's TLS and on Unix sockets.
    """

    point: str
    reason: Reason
    peer: SpiffeID | None
    detail: str
    address: str


OnRefused: TypeAlias = Callable[[Refusal], object]
"""Called for each refusal, in the thread or loop where it happens: it must be quick. It decides nothing, and its errors are logged."""


class _Process:
    """What all points of a process share. A forked child begins at 0, with a new lock: a thread of the parent may have held the old one."""

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Start again."""
        self.lock = threading.Lock()
        self.counts: Counter[tuple[str, Reason]] = Counter()


_process = _Process()


def refusal_counts() -> Mapping[tuple[str, Reason], int]:
    """The number of refusals in this process so far, by the point that refused and the reason; a missing pair counts as 0.

    Shape: {("server_context", Reason.NOT_ALLOWED): 3}
    """
    with _process.lock:
        return MappingProxyType(dict(_process.counts))


class Reports:
    """Reports the refusals of one point, from any thread.

    Args:
        on_refused: called for each refusal, unless it is None.

    Raises:
        TypeError: `on_refused` is not a function, or is async or a generator.
    """

    def __init__(self, point: str, on_refused: OnRefused | None = None, *, clock: Clock | None = None) -> None:
        if on_refused is not None:
            demand_answers_now(on_refused, "on_refused", "a Refusal")
        self._point = point
        self._on_refused = on_refused
        self._clock = clock or SystemClock()
        self._lines = {reason: LineLimit() for reason in Reason}
        self._failed = LineLimit()

    def tell(
        self,
        error: Exception,
        *,
        peer: SpiffeID | None = None,
        address: str = "",
        on_refused: OnRefused | None = None,
    ) -> None:
        """Report that a peer is refused because of this error; also calls `on_refused`."""
        refusal = Refusal(
            point=self._point,
            reason=_reason(error),
            peer=peer or getattr(error, "peer", None),
            detail=_printable(_detail(error)),
            address=_printable(address),
        )
        with _process.lock:
            _process.counts[refusal.point, refusal.reason] += 1
        self._write(refusal)
        for told in (self._on_refused, on_refused):
            if told is None:
                continue
            try:
                told(refusal)
            except Exception:  # noqa: BLE001 - it is the application's code, and its failure admits nobody
                left_out = self._left_out(self._failed, "")
                if left_out is not None:
                    _log.exception("%s: on_refused failed%s", self._point, _others(left_out))

    def _write(self, refusal: Refusal) -> None:
        who = str(refusal.peer) if refusal.peer is not None else refusal.address.rpartition(":")[0] or refusal.address
        left_out = self._left_out(self._lines[refusal.reason], who)
        if left_out is not None:
            _log.warning(
                "%s: refused %s%s, %s: %s%s",
                self._point,
                refusal.peer or "a peer",
                f" at {refusal.address}" if refusal.address else "",
                refusal.reason,
                refusal.detail,
                _others(left_out),
            )

    def _left_out(self, lines: LineLimit, who: str) -> int | None:
        with _process.lock:
            return lines.left_out(who, self._clock.monotonic())


def is_refusal(error: ssl.SSLError) -> bool:
    """Whether a handshake failed because we refuse it, and not because the peer left or refuses us."""
    gone = ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ssl.SSLWantReadError, ssl.SSLWantWriteError
    return not isinstance(error, gone) and bool(error.reason) and "ALERT" not in error.reason


def shown_address(peername: object) -> str:
    """A peer's address from a socket, an ASGI server or gRPC, for people; empty if it has none, as on a Unix socket."""
    if isinstance(peername, str):  # gRPC's: ipv4:127.0.0.1:4711, ipv6:%5B::1%5D:4711, unix:
        kind, _, where = unquote(peername).partition(":")
        return where if kind in ("ipv4", "ipv6") else ""
    if not isinstance(peername, tuple | list) or len(peername) < 2:  # noqa: PLR2004 - host and port
        return ""
    host = str(peername[0])
    return f"[{host}]:{peername[1]}" if ":" in host else f"{host}:{peername[1]}"


_REASONS: tuple[tuple[tuple[type[Exception], ...], Reason], ...] = (  # the first that fits
    ((NoIdentityError, OutdatedError, OrphanedPeerError), Reason.UNAVAILABLE),
    ((RevokedError,), Reason.REVOKED),
    ((ExpiredHandshakeError, OutlivedPeerError, ExpiredTokenError), Reason.EXPIRED),
    ((AuthorizationError,), Reason.NOT_ALLOWED),
    ((ssl.SSLError, X509SVIDError, JWTSVIDError), Reason.UNAUTHENTICATED),
)


def _reason(error: Exception) -> Reason:
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == _CERTIFICATE_EXPIRED:
        return Reason.EXPIRED
    return next((reason for kinds, reason in _REASONS if isinstance(error, kinds)), Reason.UNAVAILABLE)


def _detail(error: Exception) -> str:
    match error:
        case SVIDError():
            return str(error)
        case ssl.SSLCertVerificationError():
            return f"certificate: no trusted authority vouches for it: {error.verify_message}"
        case ssl.SSLError() if error.reason == _NO_CERTIFICATE:
            return "certificate: expected an X509-SVID, found none"
        case ssl.SSLError():
            return f"handshake: expected mutual TLS 1.3, found: {error.reason.lower().replace('_', ' ')}"
        case _:
            return f"failed with {type(error).__name__}"


def _printable(text: str) -> str:
    """Text from a stranger, made safe for a log line."""
    shown = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text[:_MOST_CHARACTERS]
    )
    return shown if len(text) <= _MOST_CHARACTERS else f"{shown}…"


def _others(left_out: int) -> str:
    return f" ({left_out} similar lines left out before)" if left_out else ""
