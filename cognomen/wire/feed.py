"""Convert the feed between protobuf and values; no other code does."""

from typing import assert_never

from cognomen.protocol.entry import EntryID
from cognomen.protocol.feed import (
    BundleIs,
    CheckpointIs,
    CRLIs,
    Cursor,
    DenialsPut,
    EntryGone,
    EntryPut,
    QuestionIs,
    SentAwayIs,
    TaintedIs,
    Update,
)
from cognomen.protocol.status import reason_of_text
from cognomen.wire.node import entry_from_pb, write_entry
from cognomen.wire.pb import node_pb2 as pb
from svid.bundle import Bundle
from svid.denials import pack, unpack
from svid.errors import BundleError, SVIDError
from svid.spiffeid import TrustDomain

__all__ = ["cursor_from_pb", "cursor_to_pb", "update_from_pb", "write_update"]


def cursor_to_pb(cursor: Cursor) -> pb.Cursor:
    """Write a cursor."""
    return pb.Cursor(incarnation=cursor.incarnation, number=cursor.number)


def cursor_from_pb(message: pb.Cursor) -> Cursor:
    """Read a cursor."""
    return Cursor(incarnation=message.incarnation, number=message.number)


def write_update(update: Update, message: pb.Update) -> None:  # noqa: C901 - one for each kind
    """Write an update into an empty message."""
    match update:
        case DenialsPut(denials=denials):
            message.denials_put.numbers, ends = pack(denials)
            message.denials_put.ends.extend(ends)
        case EntryPut(entry=entry):
            write_entry(entry, message.entry_put)
        case EntryGone(entry_id=entry_id):
            message.entry_gone = entry_id
        case BundleIs(bundle=bundle):
            message.bundle = bundle.to_jwks()
        case TaintedIs(authority_ids=ids):
            message.tainted.SetInParent()  # an empty set is also news
            message.tainted.ids.extend(sorted(ids))
        case CRLIs(document=document, more=more):
            message.crl.part, message.crl.more = document, more
        case CheckpointIs(document=document):
            message.checkpoint = document
        case SentAwayIs(reason=reason):
            message.sent_away = reason
        case QuestionIs(id=question_id, put=put, gone=gone, more=more):
            message.question.id, message.question.more = question_id, more
            for entry in put:
                write_entry(entry, message.question.put.add())
            message.question.gone.extend(gone)
        case _:
            assert_never(update)


def update_from_pb(message: pb.Update, trust_domain: TrustDomain) -> Update | None:  # noqa: C901, PLR0911 - one for each kind
    """Read an update; None: this version does not know its kind, or the reason that it gives.

    Raises:
        SVIDError: an entry breaks a rule; a bundle is invalid, or holds no X.509 authority.
    """
    match kind := message.WhichOneof("update"):
        case "denials_put":
            return DenialsPut(denials=unpack(message.denials_put.numbers, message.denials_put.ends))
        case "entry_put":
            return EntryPut(entry=entry_from_pb(message.entry_put))
        case "entry_gone":
            return EntryGone(entry_id=EntryID(message.entry_gone))
        case "bundle":
            return BundleIs(bundle=_usable_bundle(trust_domain, message.bundle))
        case "tainted":
            return TaintedIs(authority_ids=frozenset(message.tainted.ids))
        case "crl":
            return CRLIs(document=message.crl.part, more=message.crl.more)
        case "checkpoint":
            return CheckpointIs(document=message.checkpoint)
        case "sent_away":
            reason = reason_of_text(message.sent_away)
            return None if reason is None else SentAwayIs(reason=reason)
        case "question":
            return _question(message.question)
        case None:
            return None
        case _:
            assert_never(kind)


def _question(message: pb.Question) -> QuestionIs:
    """Read a question, or a part of it; an entry that cannot be read would count as gone if it came, and so it does here."""
    put, gone = [], [*map(EntryID, message.gone)]
    for entry in message.put:
        try:
            put.append(entry_from_pb(entry))
        except SVIDError:
            gone.append(EntryID(entry.id))
    return QuestionIs(id=message.id, put=tuple(put), gone=tuple(gone), more=message.more)


def _usable_bundle(trust_domain: TrustDomain, document: bytes) -> Bundle:
    bundle = Bundle.from_jwks(trust_domain, document)
    if not bundle.x509_authorities:
        raise BundleError("bundle: expected an X.509 authority, found none")
    return bundle
