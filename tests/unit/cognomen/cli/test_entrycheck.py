"""The entries and the record of their changes, also while they change."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256

import pytest

from cognomen.cli.entrycheck import EntryCheck, is_digest, same_entry
from cognomen.protocol.auditlog import GENESIS, AuditRow
from cognomen.protocol.entry import EntryID, RegistrationEntry, entry_to_document
from cognomen.wire.admin import document_from_message
from cognomen.wire.node import entry_to_pb
from issuer.decisions.audit import AuditEvent, chain
from svid.encoding import JSON
from tests.doubles.issuer_values import NOW, an_entry

ONE = replace(an_entry(), id=EntryID("one"), revision=1, owner="Zo\u00eb", created_at=NOW)
TWO = replace(ONE, revision=2, owner="bob")
THREE = replace(ONE, revision=3)
OTHER = replace(ONE, id=EntryID("other"))
Step = tuple[RegistrationEntry | None, RegistrationEntry | None]
CREATED: Step = (None, ONE)
UPDATED: Step = (ONE, TWO)
AGAIN: Step = (TWO, THREE)
DELETED: Step = (TWO, None)


def rows_of(*steps: Step, after: int = 0) -> list[AuditRow]:
    return list(chain(map(event_of, steps), number=after, head=GENESIS))


def event_of(step: Step) -> AuditEvent:
    before, after = step
    entry = after or before
    assert entry is not None
    action = "entry created" if before is None else "entry deleted" if after is None else "entry updated"
    revision, facts = entry.revision, {"entry": str(entry.id)}
    return AuditEvent(
        at=NOW, actor="uid:0", action=action, entry_revision=revision, before=before, after=after, facts=facts
    )


def bent(rows: list[AuditRow], bend: Callable[[dict[str, JSON]], object]) -> list[AuditRow]:
    """The rows with other events; nobody checks their hashes here."""
    found = []
    for row in rows:
        event = json.loads(row.body)
        bend(event)
        found.append(replace(row, body=json.dumps(event, sort_keys=True, separators=(",", ":")).encode()))
    return found


def without_texts(event: dict[str, JSON]) -> None:
    """As older releases wrote a row."""
    del event["before"], event["after"]


def test_an_entry_recorded_before_there_were_defaults_is_as_the_issuer_lists_it_now() -> None:
    check = EntryCheck()
    (row,) = check.follow(rows_of(CREATED))
    listed = document_from_message(entry_to_pb(ONE))
    assert b'"default"' not in row.body
    assert listed["default"] is False
    check.finish([listed], [])
    with pytest.raises(ValueError, match="it was edited"):
        check.finish([listed | {"default": True}], [])


def check_of(rows: list[AuditRow], *entries: RegistrationEntry, later: list[AuditRow] | None = None) -> EntryCheck:
    check = EntryCheck()
    assert list(check.follow(rows)) == rows
    check.finish(map(entry_to_document, entries), later or [])
    return check


def test_entries_that_are_as_their_last_rows_leave_them_pass() -> None:
    rows = rows_of(CREATED, (None, OTHER), UPDATED, AGAIN)
    assert check_of(rows, THREE, OTHER).compared == 2
    assert check_of(rows_of(CREATED, UPDATED, DELETED)).compared == 0


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([UPDATED], "expected an entry, found none on record"),
        ([CREATED, AGAIN], "expected revision 2, found 3: a row is missing before it"),
        ([CREATED, DELETED], "expected revision 1, found 2: a row is missing before it"),
        ([CREATED, UPDATED, DELETED, AGAIN], "expected an entry, found none on record"),
        ([CREATED, CREATED], "expected a new entry, found that of row 1"),
        ([(None, TWO)], "expected revision 1, found 2"),
        ([CREATED, (replace(ONE, owner="eve"), TWO)], "expected the entry before as row 1 left it, found another"),
    ],
)
def test_a_change_that_does_not_follow_from_the_one_before_it_is_found(steps: list[Step], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_of(rows_of(*steps))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "not among the entries: it was deleted there"),
        ([ONE], "the entry one: expected revision 2, as row 2 left it, found 1: it was edited"),
        ([replace(TWO, owner="eve")], "the entry one: expected it as row 2 left it, found another: it was edited"),
        ([TWO, OTHER], "the entry other is not on record, but it is among the entries: it was added there"),
    ],
)
def test_entries_that_are_not_as_they_are_on_record_are_found(entries: list[RegistrationEntry], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_of(rows_of(CREATED, UPDATED), *entries)


def test_an_entry_that_was_deleted_and_is_there_is_found() -> None:
    with pytest.raises(ValueError, match="the entry one was deleted by row 3, but it is among the entries"):
        check_of(rows_of(CREATED, UPDATED, DELETED), TWO)


@pytest.mark.parametrize("entries", [[], [ONE], [TWO], [THREE]])
def test_an_entry_that_changes_meanwhile_may_be_found_as_it_was_at_any_moment(entries: list[RegistrationEntry]) -> None:
    later = rows_of(UPDATED, AGAIN, (THREE, None), after=1)
    assert check_of(rows_of(CREATED), *entries, later=later).compared == len(entries)


@pytest.mark.parametrize("entries", [[], [ONE]])
def test_an_entry_that_is_created_meanwhile_may_be_found_or_not(entries: list[RegistrationEntry]) -> None:
    check_of([], *entries, later=rows_of(CREATED))


def test_an_entry_that_changes_meanwhile_and_was_edited_is_found() -> None:
    with pytest.raises(ValueError, match="found another: it was edited"):
        check_of(rows_of(CREATED), replace(TWO, owner="eve"), later=rows_of(UPDATED, after=1))


def test_entries_whose_text_no_row_holds_are_counted_and_their_revisions_compared() -> None:
    old = bent(rows_of(CREATED, (None, OTHER), UPDATED), without_texts)
    check = check_of(old, TWO, OTHER)
    assert (check.compared, check.without_text) == (0, 2)
    check = check_of([*old, *rows_of(AGAIN, after=3)], THREE, OTHER)
    assert (check.compared, check.without_text) == (1, 1)
    with pytest.raises(ValueError, match="expected revision 2, as row 3 left it, found 1"):
        check_of(old, ONE, OTHER)


def digest(entry: RegistrationEntry) -> Mapping[str, JSON]:
    text = json.dumps(entry_to_document(entry), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"sha256": sha256(text.encode()).hexdigest()}


def test_the_digest_of_a_large_entry_is_as_good_as_its_text() -> None:
    assert is_digest(digest(ONE))
    assert not is_digest(entry_to_document(ONE))
    assert same_entry(digest(ONE), entry_to_document(ONE))
    assert not same_entry(digest(ONE), entry_to_document(TWO))
    created, updated, deleted = rows_of(CREATED, UPDATED, DELETED)
    rows = [created, *bent([updated], lambda event: event.update(before=dict(digest(ONE))))]
    assert check_of(rows, TWO).compared == 1
    check_of([*rows, *bent([deleted], lambda event: event.update(before=dict(digest(TWO))))])
    with pytest.raises(ValueError, match="expected the entry before as row 1 left it, found another"):
        check_of([created, *bent([updated], lambda event: event.update(before=dict(digest(TWO))))], TWO)


@pytest.mark.parametrize(
    "body", [b"entry created", b'["entry created"]', b'"entry "' + b"[" * 200_000, b'{"action":"entry created"}']
)
def test_rows_that_are_no_changes_of_entries_pass(body: bytes) -> None:
    assert check_of([AuditRow(number=1, body=body, hash=b"")]).compared == 0


def test_what_a_row_says_is_printed_printable() -> None:
    rows = bent(rows_of(UPDATED), lambda event: event.update(facts={"entry": "\x1b[2J\ud800"}))
    with pytest.raises(ValueError, match=r"entry updated: \\x1b\[2J\\ud800: expected an entry"):
        check_of(rows)
