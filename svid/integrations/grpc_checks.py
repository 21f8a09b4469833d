"""Checks that decide who may make a call on a gRPC server: by the X509-SVID of the connection, or by a JWT-SVID sent with the call.

svid/integrations/grpc_calls handles a call once it is admitted. svid/integrations/grpc_server makes servers that check every call.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache, partial
from typing import cast

from cryptography.hazmat.primitives.serialization import Encoding

from svid.clock import Clock
from svid.denials import KEPT_FOR, number_of_jti
from svid.encoding import MAX_CHAIN_LENGTH, certificates_from_pem
from svid.errors import RevokedError, SVIDError, X509SVIDError
from svid.integrations.bearer import bearer
from svid.integrations.grpc_calls import Admission, Call, look_again_on_change
from svid.jwtsvid import JWTSVID
from svid.source import TokenVerifier, X509Identity, demand_source
from svid.spiffeid import SpiffeID
from svid.tls.authorize import Authorizer, strictly
from svid.tls.context import server_context
from svid.tls.enforcement import Enforcement, Peer
from svid.tls.refusals import NoIdentityError, OutdatedError
from svid.tls.reports import OnRefused, shown_address

__all__ = ["BearerCheck", "PeerCheck"]


class PeerCheck:
    """Checks by the X509-SVID of a call's connection whether the peer is allowed.

    Args:
        source: its bundles vouch for peers; a server with this check shows its X509-SVID.
        refuse_after: as in LiveContext, but checked at each new call.
        on_refused: as in LiveContext, but called for calls. gRPC does the handshakes, and does not report whom it refuses in them.

    Raises:
        TypeError: as LiveContext.
    """

    def __init__(
        self,
        source: X509Identity,
        authorize: Authorizer,
        *,
        refuse_after: timedelta | None = None,
        clock: Clock | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        self.source = source
        self._context = server_context(source, authorize, refuse_after=refuse_after, clock=clock, on_refused=on_refused)
        self.enforcement = self._context.enforcement
        look_again_on_change(source, self.enforcement)

    def __call__(self, context: Call) -> SpiffeID:
        """Return the peer's SPIFFE ID; a method may call this as well.

        Raises:
            X509SVIDError: the peer showed no X509-SVID in a full TLS 1.3 handshake.
            HandshakeRefusedError: the peer's bundle does not vouch for it any more, or it is denied.
            AuthorizationError: the peer is not allowed.
            SVIDError: nothing can be verified now.
        """
        return self.admit(context).peer.spiffe_id

    def admit(self, context: Call) -> Admission:
        """Do the same, and return a function that checks the call again while it lasts."""
        try:
            return self._admit(context)
        except SVIDError as e:
            self.enforcement.reports.tell(e, address=shown_address(context.peer()))
            raise

    def _admit(self, context: Call) -> Admission:
        facts = cast("Mapping[str, Collection[bytes]]", context.auth_context())
        if list(facts.get("ssl_tls_version", ())) != [b"TLSv1.3"]:
            raise X509SVIDError("peer: expected TLS 1.3, found no TLS or an older version")
        if list(facts.get("ssl_session_reused", ())) != [b"false"]:
            raise X509SVIDError("peer: expected a full handshake, found a resumed session")
        leaf = list(facts.get("x509_pem_cert", ()))
        if len(leaf) != 1:
            raise X509SVIDError("peer: expected an X509-SVID, found none")
        try:
            self.source.svid  # noqa: B018 - raises if our own identity was taken away
        except SVIDError as e:
            raise NoIdentityError(str(e), clause=e.clause) from e
        chain = _der(leaf[0], *facts.get("x509_pem_cert_chain", ()))
        return Admission(*self._context.stay(chain))


class BearerCheck:
    """Checks that a call brings `authorization: Bearer …` with a JWT-SVID for us, from an allowed workload.

    Args:
        audience: our own names; the token must contain at least one of them.
        refuse_after: how old the issuer's revocation data may be at a call; None means any age, with a warning in the log.
        on_refused: as in LiveContext.

    Raises:
        TypeError: the source cannot verify JWT-SVIDs, or the authorizer cannot answer. Or `refuse_after` is given, and the source knows
            of no revocations.
    """

    def __init__(
        self,
        source: TokenVerifier,
        *,
        audience: str | Collection[str],
        authorize: Authorizer,
        refuse_after: timedelta | None = None,
        clock: Clock | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        demand_source(source, "verify")
        self.enforcement = Enforcement(
            source, point="BearerCheck", refuse_after=refuse_after, clock=clock, on_refused=on_refused
        )
        self._source = source
        self._audience = audience
        self._authorize = strictly(authorize)
        self.enforcement.follow(authorize)

    def __call__(self, context: Call) -> JWTSVID:
        """Check the token, and return it parsed; raises the errors of `svid.verify_bearer`, and OutdatedError."""
        metadata = cast("Collection[tuple[str, str | bytes]] | None", context.invocation_metadata()) or ()
        found = [value for name, value in metadata if name == "authorization"]
        header = found[0] if len(found) == 1 else ""  # if there are several, we trust none of them
        return bearer(
            header if isinstance(header, str) else "",
            self._source,
            self._audience,
            self._authorize,
            tell=partial(self.enforcement.reports.tell, address=shown_address(context.peer())),
            demand_fresh=self.enforcement.demand_fresh,
        )

    def admit(self, context: Call) -> Admission:
        """Check the token, and return a function that checks again while the call lasts: at most KEPT_FOR longer than the token."""
        svid = self(context)
        number = number_of_jti(svid.jti)
        peer = Peer(svid.spiffe_id, () if number is None else (number,), svid.expires_at, KEPT_FOR)

        def recheck() -> None:
            if self.enforcement.is_denied(peer):
                raise RevokedError(f"jti: the token of {peer.spiffe_id} was revoked")
            with suppress(OutdatedError):  # our data may become old, as on any open connection
                self._authorize(peer.spiffe_id)

        return Admission(peer, recheck)


@lru_cache(maxsize=256)
def _der(leaf: bytes, rest: bytes = b"") -> Sequence[bytes]:
    """Convert a peer's certificates, as gRPC gives them, to DER, leaf first; on a server, `rest` does not include the leaf.

    It is cached, because every call of a connection gives the same certificates.
    """
    (first,) = certificates_from_pem(leaf, limit=1, error=X509SVIDError)
    others = certificates_from_pem(rest, limit=MAX_CHAIN_LENGTH, error=X509SVIDError) if rest else ()
    return [one.public_bytes(Encoding.DER) for one in (first, *(one for one in others if one != first))]
