"""attestor/issuerclient/wire: what the issuer says, and what we make of nonsense."""

import pytest

from attestor.issuerclient.wire import change_from_pb, credential_from_pb, jwt_from_pb, x509_from_pb
from cognomen.daemon.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.wire.feed import cursor_to_pb
from cognomen.wire.node import entry_to_pb
from cognomen.wire.pb import node_pb2 as pb
from svid.bundle import Bundle
from svid.entry import EntryID
from svid.errors import BundleError, SVIDError
from svid.spiffeid import TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.entries import entry
from tests.doubles.issuerclient import IssuerInMemory

TD = TrustDomain("example.org")
BUNDLE = IssuerInMemory(FakeClock(), TD).bundle
CURSOR = pb.Cursor(incarnation="x", number=7)


def refused(answer: object) -> Refused:
    assert isinstance(answer, Refused)
    return answer


def test_a_cursor_goes_there_and_back() -> None:
    cursor = Cursor(incarnation="x", number=7)
    assert change_from_pb([pb.Change(cursor=cursor_to_pb(cursor))], TD).cursor == cursor


def test_a_step_in_several_messages_is_one_change() -> None:
    messages = [
        pb.Change(cursor=CURSOR, snapshot=True, more=True, entries=[entry_to_pb(entry("a"))], bundle=BUNDLE.to_jwks()),
        pb.Change(cursor=CURSOR, snapshot=True, entries=[entry_to_pb(entry("b"))], gone=["c"]),
    ]
    change = change_from_pb(messages, TD)
    assert change.snapshot
    assert change.entries == (entry("a"), entry("b"))
    assert change.gone == (EntryID("c"),)
    assert change.bundle == BUNDLE


def test_an_entry_that_we_cannot_read_is_gone_and_the_others_are_not() -> None:
    strange = entry_to_pb(entry("strange"))
    strange.admin = True  # not supported by this version
    change = change_from_pb([pb.Change(cursor=CURSOR, entries=[strange, entry_to_pb(entry("a"))])], TD)
    assert change.entries == (entry("a"),)
    assert change.gone == (EntryID("strange"),)


def test_a_bundle_without_an_authority_is_refused() -> None:
    with pytest.raises(BundleError, match=r"expected an X\.509 authority, found none"):
        change_from_pb([pb.Change(cursor=CURSOR, bundle=Bundle(trust_domain=TD).to_jwks())], TD)


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
