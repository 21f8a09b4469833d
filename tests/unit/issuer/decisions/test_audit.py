import hashlib
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.auditlog import GENESIS, broken_link
from cognomen.protocol.entry import RegistrationEntry, entry_to_document
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.protocol.selector import Selector
from issuer.decisions.audit import AuditEvent, Decision, chain, issued, refused
from issuer.decisions.ledger import Credential, CredentialKind
from svid.keys import KeyID
from tests.doubles.issuer_values import NOW, an_entry

EVENT = AuditEvent(at=NOW, actor="uid:0", action="entry created", facts={"b": "ü", "a": "1"})
events = st.lists(st.text(max_size=20).map(lambda text: replace(EVENT, subject=text)), min_size=1, max_size=8)


@given(events, st.integers(min_value=0, max_value=8))
def test_a_chain_goes_on_where_it_was_left(written: list[AuditEvent], cut: int) -> None:
    first = list(chain(written[:cut], number=0, head=GENESIS))
    number, head = (first[-1].number, first[-1].hash) if first else (0, GENESIS)
    rows = first + list(chain(written[cut:], number=number, head=head))
    assert rows == list(chain(written, number=0, head=GENESIS))
    assert broken_link(rows) is None
    assert broken_link(rows[len(first) :], number=number, head=head) is None


@given(events, st.data())
def test_a_row_that_was_changed_removed_or_moved_is_found(written: list[AuditEvent], data: st.DataObject) -> None:
    rows = list(chain(written, number=0, head=GENESIS))
    at = data.draw(st.integers(min_value=0, max_value=len(rows) - 1))
    changed = [*rows[:at], replace(rows[at], body=rows[at].body + b" "), *rows[at + 1 :]]
    assert broken_link(changed) == at + 1
    if at < len(rows) - 1:
        assert broken_link([*rows[:at], *rows[at + 1 :]]) == at + 1


def test_a_body_is_canonical_json() -> None:
    (row,) = chain([EVENT], number=0, head=GENESIS)
    text = row.body.decode()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert json.loads(text)["facts"] == {"a": "1", "b": "ü"}


def test_an_issued_credential_is_told_with_its_entry_authority_and_audiences() -> None:
    credential = Credential(
        kind=CredentialKind.JWT,
        serial="j",
        spiffe_id=an_entry().spiffe_id,
        authority_id=KeyID("jwt-1"),
        issued_at=NOW,
        not_after=NOW + timedelta(minutes=5),
        entry_id=an_entry(entry_id="e1").id,
        entry_revision=3,
        node_id=NodeID("n1"),
        audiences=("a",),
    )
    event = issued(credential, actor="node")
    assert (event.action, event.subject, event.entry_revision) == ("jwt issued", "spiffe://example.org/web", 3)
    assert (event.credential, event.decision) == ("j", Decision.ALLOWED)
    assert event.facts == {
        "authority": "jwt-1", "not_after": "2026-01-01T12:05:00+00:00", "entry": "e1", "audiences": '["a"]',
    }  # fmt: skip
    long = issued(replace(credential, audiences=("a" * 60, "b" * 60)), actor="node")
    document = json.dumps(["a" * 60, "b" * 60], separators=(",", ":"))
    assert long.facts["audiences"] == f"sha256:{hashlib.sha256(document.encode()).hexdigest()}"
    bare = issued(replace(credential, entry_id=None, audiences=()), actor="node")
    assert set(bare.facts) == {"authority", "not_after"}


def test_every_text_of_a_row_is_bounded_and_one_line() -> None:
    long = "x" * 100_000 + "\n"
    event = refused(Refused(Kind.DENIED, long, said=long), at=NOW, actor=long, action="a", subject=long)
    (row,) = chain([replace(event, reason=f"a\nb{long}", credential=long)], number=0, head=GENESIS)
    assert len(row.body) < 10_000
    assert json.loads(row.body)["reason"] == r"a\nb" + "x" * 252 + "… (100004 characters)"


def test_a_refusal_is_told_with_its_kind_and_facts() -> None:
    event = refused(
        Refused(Kind.DENIED, "node: banned", hint="for the operator", node="n1", count=2),
        at=NOW,
        actor="node",
        action="x509 asked",
        subject="e1",
    )
    assert (event.decision, event.reason, event.subject) == (Decision.REFUSED, "node: banned", "e1")
    assert event.facts == {"kind": "DENIED", "node": "n1", "count": "2"}


def _json(entry: RegistrationEntry) -> bytes:
    return json.dumps(entry_to_document(entry), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("longer", [0, 1])
def test_a_long_entry_before_a_change_is_its_digest_and_what_it_became_is_whole(longer: int) -> None:
    long = frozenset(Selector("unix", f"path:/{number}".ljust(2000, "ä")) for number in range(8))
    entry = replace(an_entry(entry_id="e1"), selectors=long)
    entry = replace(entry, hint="h" * (32 * 1024 + longer - len(_json(entry))))
    (row,) = chain([replace(EVENT, before=entry, after=entry)], number=0, head=GENESIS)
    body = json.loads(row.body)
    digest = {"sha256": hashlib.sha256(_json(entry)).hexdigest()}
    assert body["before"] == (digest if longer else entry_to_document(entry))
    assert body["after"] == entry_to_document(entry)
