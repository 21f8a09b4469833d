from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.entry import LEFT_OUT, EntryID, RegistrationEntry, entry_to_document
from cognomen.protocol.selector import Selector
from cognomen.wire.admin import document_from_message, entry_from_document, moment_from_text, moment_to_text
from cognomen.wire.node import entry_from_pb, entry_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID

ENTRY = RegistrationEntry(
    id=EntryID("e1"),
    spiffe_id=SpiffeID.parse("spiffe://example.org/web"),
    parent_id=SpiffeID.parse("spiffe://example.org/group"),
    selectors=frozenset({Selector("unix", "uid:1"), Selector("unix", "path:/a b")}),
    x509_svid_ttl=timedelta(minutes=10),
    expires_at=datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC),
    dns_names=("web.example.org",),
    revision=3,
    hint="h",
    owner="ann",
    labels={"team": "travel"},
)
LEAST = {"spiffe_id": "spiffe://example.org/a", "parent_id": "spiffe://example.org/b", "selectors": ["unix:uid:1"]}


def refusal(**changes: object) -> str:
    with pytest.raises(SVIDError) as caught:
        entry_from_document({**LEAST, **changes}, SpiffeID.parse)
    return str(caught.value)


def test_an_entry_survives_the_way_out_and_back() -> None:
    assert entry_from_document(document_from_message(entry_to_pb(ENTRY)), SpiffeID.parse) == ENTRY


def test_a_document_has_every_field_of_the_protocol_under_its_name() -> None:
    document = document_from_message(entry_to_pb(ENTRY))
    assert list(document) == [field.name for field in entry_to_pb(ENTRY).DESCRIPTOR.fields]
    assert document["x509_svid_ttl"] == "600s"
    assert document["jwt_svid_ttl"] is None
    assert document["expires_at"] == "2027-01-02T03:04:05Z"
    assert document["selectors"] == ["unix:path:/a b", "unix:uid:1"]
    assert document["revision"] == 3
    assert document["labels"] == {"team": "travel"}


@pytest.mark.parametrize(
    "entry",
    [
        ENTRY,
        RegistrationEntry(spiffe_id=ENTRY.spiffe_id, parent_id=ENTRY.parent_id, selectors=ENTRY.selectors),
        replace(ENTRY, created_at=datetime(2026, 11, 29, 23, 59, 59, 5, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_the_record_has_an_entry_as_the_command_prints_it(entry: RegistrationEntry) -> None:
    assert {**LEFT_OUT, **entry_to_document(entry)} == document_from_message(entry_to_pb(entry))
    default = replace(entry, default=True)
    assert {**LEFT_OUT, **entry_to_document(default)} == document_from_message(entry_to_pb(default))
    observing = replace(entry, observe=True)
    assert {**LEFT_OUT, **entry_to_document(observing)} == document_from_message(entry_to_pb(observing))
    assert entry_from_pb(entry_to_pb(observing)) == observing
    for audiences in ((), ("a", "b")):
        limited = replace(entry, audiences=audiences)
        assert entry_to_document(limited)["audiences"] == list(audiences)
        assert {**LEFT_OUT, **entry_to_document(limited)} == document_from_message(entry_to_pb(limited))
        assert entry_from_pb(entry_to_pb(limited)) == limited
    for callers in ((), (entry.spiffe_id, entry.parent_id)):
        called = replace(entry, callers=tuple(sorted(callers, key=str)))
        assert entry_to_document(called)["callers"] == sorted(map(str, callers))
        assert {**LEFT_OUT, **entry_to_document(called)} == document_from_message(entry_to_pb(called))
        assert entry_from_pb(entry_to_pb(called)) == called


def test_messages_within_messages_are_documents_too() -> None:
    document = document_from_message(pb.EntriesResponse(entries=[entry_to_pb(ENTRY)], warnings=["w"], change=7))
    assert document["warnings"] == ["w"]
    assert document["change"] == 7
    assert document["entries"] == [document_from_message(entry_to_pb(ENTRY))]


def test_what_is_not_said_is_empty() -> None:
    entry = entry_from_document(LEAST, SpiffeID.parse)
    assert (entry.id, entry.owner, entry.x509_svid_ttl, entry.expires_at) == ("", "", None, None)


def test_an_entry_as_spires_users_write_it_is_read() -> None:
    entry = entry_from_document(
        {**LEAST, "selectors": [{"type": "unix", "value": "uid:1"}], "x509_svid_ttl": 3600}, SpiffeID.parse
    )
    assert entry.selectors == {Selector("unix", "uid:1")}
    assert entry.x509_svid_ttl == timedelta(hours=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spifeid": ""}, "spifeid: expected one of admin, audiences, callers, created_at"),
        ({"\x1b]0;owned\x07\n": 1}, "\\x1b]0;owned\\x07\\n: expected one of admin, audiences, callers, created_at"),
        ({"x" * 10_000: 1}, "x… (10000 characters): expected one of admin, audiences, callers, created_at"),
        ({"spiffe_id": 1}, "spiffe_id: expected a string, found the number 1"),
        ({"selectors": "unix:uid:1"}, "selectors: expected an array, found a string"),
        ({"selectors": [7]}, "selectors: expected type:value, or an object of type and value, found the number 7"),
        ({"selectors": [{"type": "unix"}]}, "selectors: expected type:value, or an object"),
        ({"selectors": ["unix"]}, "selector: expected type:value, found 'unix'"),
        ({"selectors": []}, "selectors: expected 1 to 100, found 0"),
        ({"dns_names": [1]}, "dns_names: expected an array of strings"),
        ({"labels": ["a"]}, "labels: expected an object of strings"),
        ({"labels": {"a": 1}}, "labels: expected an object of strings"),
        ({"admin": 1}, "admin: expected true or false, found the number 1"),
        ({"admin": True}, "admin: expected"),
        ({"federates_with": ["example.com"]}, "federates_with: expected"),
        ({"revision": -1}, "revision: expected a whole number, found the number -1"),
        ({"revision": True}, "revision: expected a whole number, found a boolean"),
        ({"revision": 2**64}, "revision: expected a whole number"),
        ({"x509_svid_ttl": 0}, "x509_svid_ttl: expected"),
        ({"x509_svid_ttl": -1}, "x509_svid_ttl: expected seconds such as 3600 or 3600s, found '-1'"),
        ({"x509_svid_ttl": "1h"}, "x509_svid_ttl: expected seconds such as 3600 or 3600s, found '1h'"),
        ({"x509_svid_ttl": 1.5}, "x509_svid_ttl: expected seconds such as 3600 or 3600s, found the number 1.5"),
        ({"x509_svid_ttl": True}, "x509_svid_ttl: expected seconds such as 3600 or 3600s, found a boolean"),
        ({"expires_at": 1}, "expires_at: expected a time such as 2026-11-23T08:00:00Z, found the number 1"),
        ({"expires_at": "soon"}, "expires_at: expected a time such as 2026-11-23T08:00:00Z, found 'soon'"),
        ({"expires_at": "2026-11-23"}, "expires_at: expected a time with a time zone"),
        ({"expires_at": "9999-12-31T23:59:59-01:00"}, "expires_at: expected a time in the years 1 to 9999 of UTC"),
        ({"hint": None}, "hint: expected a string, found nothing"),
        ({"hint": {}}, "hint: expected a string, found an object"),
    ],
)
def test_a_refusal_names_the_key_and_what_came(changes: dict[str, object], message: str) -> None:
    assert message in refusal(**changes)


@pytest.mark.parametrize("document", [None, [], "a", 1])
def test_what_is_no_object_is_no_entry(document: object) -> None:
    with pytest.raises(SVIDError, match="entry: expected an object"):
        entry_from_document(document, SpiffeID.parse)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_survives_the_way_out_and_back(moment: datetime) -> None:
    assert moment_from_text(moment_to_text(moment)) == moment
