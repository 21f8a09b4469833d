"""Convert the node protocol's messages to and from the port's values."""

from collections.abc import Sequence

import structlog
from cryptography import x509

from attestor.decisions.node import NodeCredential
from attestor.decisions.sync import Change
from attestor.issuerclient.port import MintedJWT, MintedX509
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import EntryGone, QuestionIs, Update
from cognomen.wire.feed import cursor_from_pb, update_from_pb
from cognomen.wire.node import time_from_pb
from cognomen.wire.pb import node_pb2 as pb
from svid.bundle import Bundle
from svid.encoding import certificates_from_der
from svid.errors import SVIDError
from svid.spiffeid import TrustDomain

__all__ = ["change_from_pb", "credential_from_pb", "jwt_from_pb", "x509_from_pb"]

log = structlog.get_logger(__name__)

_OLDER = "is the attestor older than the issuer?"


def credential_from_pb(message: pb.NodeCredential, trust_domain: TrustDomain) -> NodeCredential:
    """Read the answer to a join or a renewal; SVIDError if it is invalid."""
    return NodeCredential(
        chain=_chain(message.chain),
        issued_at=time_from_pb(message.issued_at, "issued_at"),
        bundle=Bundle.from_jwks(trust_domain, message.bundle) if message.bundle else None,
    )


def change_from_pb(messages: Sequence[pb.Change], trust_domain: TrustDomain) -> Change:
    """Read one whole step of the feed, which came in these messages.

    Parts that we cannot read, because the issuer is newer than we are, are left out and logged, so that the rest is not held up.

    Raises:
        SVIDError: the bundle is invalid, or holds no X.509 authority.
    """
    read = [_update(update, trust_domain) for message in messages for update in message.updates]
    if unknown := read.count(None):
        log.warning("updates of an unknown kind left out", count=unknown, hint=_OLDER)
    return Change(
        cursor=cursor_from_pb(messages[-1].cursor),
        snapshot=messages[0].snapshot,
        updates=tuple(update for update in read if update is not None and not isinstance(update, QuestionIs)),
        questions=tuple(update for update in read if isinstance(update, QuestionIs)),
    )


def x509_from_pb(message: pb.MintedX509SVID) -> MintedX509 | Refused:
    """Read one answer of a batch; one that cannot be read refuses only itself."""
    if message.WhichOneof("outcome") != "credential":
        return _refusal(message.refusal)
    try:
        return MintedX509(
            chain=_chain(message.credential.chain),
            issued_at=time_from_pb(message.credential.issued_at, "issued_at"),
        )
    except SVIDError as e:
        return Refused(Kind.INTERNAL, f"answer of the issuer: {e}")


def jwt_from_pb(message: pb.MintedJWTSVID) -> MintedJWT | Refused:
    """Read one answer of a batch; one that cannot be read refuses only itself."""
    if message.WhichOneof("outcome") != "credential":
        return _refusal(message.refusal)
    try:
        return MintedJWT(
            token=message.credential.token,
            issued_at=time_from_pb(message.credential.issued_at, "issued_at"),
            expires_at=time_from_pb(message.credential.expires_at, "expires_at"),
        )
    except SVIDError as e:
        return Refused(Kind.INTERNAL, f"answer of the issuer: {e}")


def _update(message: pb.Update, trust_domain: TrustDomain) -> Update | None:
    """Read an update; an entry that cannot be read counts as gone."""
    try:
        return update_from_pb(message, trust_domain)
    except SVIDError as e:
        if not message.HasField("entry_put"):
            raise
        entry_id = EntryID(message.entry_put.id)
        log.warning("entry not understood", entry_id=entry_id, reason=str(e), hint=_OLDER)
        return EntryGone(entry_id=entry_id)


def _refusal(message: pb.Refusal) -> Refused:
    kind = Kind(message.kind) if message.kind in set(Kind) else Kind.INTERNAL
    return Refused(kind, message.detail or "refused by the issuer")


def _chain(certificates: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    return certificates_from_der(b"".join(certificates))
