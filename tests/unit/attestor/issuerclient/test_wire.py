"""attestor/issuerclient/wire: what the issuer says, and what we make of nonsense."""

import pytest
from structlog.testing import capture_logs

from attestor.issuerclient.wire import change_from_pb, credential_from_pb, jwt_from_pb, x509_from_pb
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import BundleIs, Cursor, EntryGone, EntryPut, Update
from cognomen.wire.node import entry_to_pb
from cognomen.wire.pb import node_pb2 as pb
from issuer.decisions.feedsteps import in_order
from svid.bundle import Bundle
from svid.errors import BundleError, SVIDError
from svid.spiffeid import TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.entries import entry
from tests.doubles.feed import message_of
from tests.doubles.issuerclient import IssuerInMemory

TD = TrustDomain("example.org")
BUNDLE = IssuerInMemory(FakeClock(), TD).bundle
CURSOR = pb.Cursor(incarnation="x", number=7)


def refused(answer: object) -> Refused:
    assert isinstance(answer, Refused)
    return answer


def message(*updates: Update, snapshot: bool = False, more: bool = False) -> pb.Change:
    made = message_of(*updates)
    made.MergeFrom(pb.Change(cursor=CURSOR, snapshot=snapshot, more=more))
    return made


def test_a_step_in_several_messages_is_one_change() -> None:
    updates = tuple(in_order(bundle=BUNDLE, gone=[EntryID("c")], entries=[entry("a"), entry("b")]))
    first, last = message(*updates[:2], snapshot=True, more=True), message(*updates[2:], snapshot=True)
    last.cursor.number += 1
    change = change_from_pb([first, last], TD)
    assert change.snapshot
    assert change.updates == updates
    assert change.cursor == Cursor(incarnation="x", number=8)


def test_an_entry_that_we_cannot_read_is_gone_and_the_others_are_not() -> None:
    strange = pb.Update(entry_put=entry_to_pb(entry("strange")))
    strange.entry_put.admin = True  # not supported by this version
    others = [EntryPut(entry=entry("a")), EntryPut(entry=entry("b"))]
    read = message(*others)
    read.updates.insert(1, strange)
    with capture_logs() as logs:
        change = change_from_pb([read], TD)
    assert change.updates == (others[0], EntryGone(entry_id=EntryID("strange")), others[1])
    assert [(line["event"], line["entry_id"]) for line in logs] == [("entry not understood", "strange")]


def test_updates_of_a_kind_that_we_do_not_know_are_left_out_and_logged_once_for_a_step() -> None:
    news = pb.Update.FromString(b"\xaa\x06\x01x")  # field 101
    known = EntryPut(entry=entry("a"))
    messages = [message(known, snapshot=True, more=True), message(snapshot=True)]
    for one in messages:
        one.updates.extend([news, pb.Update()])
    with capture_logs() as logs:
        change = change_from_pb([pb.Change.FromString(one.SerializeToString()) for one in messages], TD)
    assert change.updates == (known,)
    assert [(line["event"], line["count"]) for line in logs] == [("updates of an unknown kind left out", 4)]


def test_a_step_of_unknown_kinds_alone_still_moves_the_cursor() -> None:
    change = change_from_pb([pb.Change(cursor=CURSOR, updates=[pb.Update()])], TD)
    assert (change.cursor.number, change.updates) == (7, ())


def test_a_bundle_without_an_authority_is_refused_with_its_step() -> None:
    with pytest.raises(BundleError, match=r"expected an X\.509 authority, found none"):
        change_from_pb([message(EntryPut(entry=entry("a")), BundleIs(bundle=Bundle(trust_domain=TD)))], TD)


def test_a_credential_that_is_no_certificate_is_refused() -> None:
    with pytest.raises(SVIDError):
        credential_from_pb(pb.NodeCredential(chain=[b"nonsense"]), TD)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_refusal_keeps_its_kind(kind: Kind) -> None:
    refusal = pb.Refusal(kind=kind.value, detail="no")
    assert refused(x509_from_pb(pb.MintedX509SVID(refusal=refusal))).kind is kind
    assert refused(jwt_from_pb(pb.MintedJWTSVID(refusal=refusal))).detail == "no"


def test_a_refusal_of_a_kind_we_do_not_know_is_our_problem_not_the_callers() -> None:
    assert refused(x509_from_pb(pb.MintedX509SVID(refusal=pb.Refusal(kind="TIRED")))).kind is Kind.INTERNAL


def test_an_answer_without_an_outcome_is_a_refusal() -> None:
    assert refused(x509_from_pb(pb.MintedX509SVID())).kind is Kind.INTERNAL
    assert refused(jwt_from_pb(pb.MintedJWTSVID())).kind is Kind.INTERNAL


def test_an_answer_that_cannot_be_read_refuses_only_itself() -> None:
    x509 = pb.MintedX509SVID(credential=pb.X509Credential(chain=[b"nonsense"]))
    assert refused(x509_from_pb(x509)).kind is Kind.INTERNAL
    token = pb.MintedJWTSVID(credential=pb.JWTCredential(token="x"))  # noqa: S106 - no secret
    token.credential.issued_at.seconds = 10**15
    assert refused(jwt_from_pb(token)).kind is Kind.INTERNAL
