"""Which audit rows a filter admits."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cognomen.protocol.auditlog import GENESIS, AuditRow
from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from issuer.decisions.audit import AuditEvent, Decision, chain
from issuer.decisions.filters import AuditFilter
from svid.spiffeid import TrustDomain
from tests.doubles.issuer_values import NOW

EVENT = AuditEvent(
    at=NOW,
    actor="spiffe://example.org/cognomen/node/join_token/n1",
    action="x509 issued",
    subject="spiffe://example.org/agent/a",
    credential="ab",
)


def row_of(event: AuditEvent) -> AuditRow:
    return next(chain([event], number=0, head=GENESIS))


@pytest.mark.parametrize(
    "where",
    [
        AuditFilter(),
        AuditFilter(since=NOW, until=NOW + timedelta(seconds=1)),
        AuditFilter(actor=EVENT.actor),
        AuditFilter(actions=frozenset({"x509 issued", "jwt issued"})),
        AuditFilter(subject="spiffe://example.org/agent/a"),
        AuditFilter(subject="spiffe://example.org/agent/"),
        AuditFilter(node_id=NodeID("n1")),
        AuditFilter(decision=Decision.ALLOWED),
        AuditFilter(credential="ab"),
    ],
)
def test_a_row_that_has_it_is_admitted(where: AuditFilter) -> None:
    assert where.admits(row_of(EVENT))


@pytest.mark.parametrize(
    "where",
    [
        AuditFilter(since=NOW + timedelta(microseconds=1)),
        AuditFilter(until=NOW),
        AuditFilter(actor="spiffe://example.org/cognomen/node/join_token/n"),
        AuditFilter(actions=frozenset({"x509"})),
        AuditFilter(subject="spiffe://example.org/agent"),
        AuditFilter(subject="spiffe://example.org/agent/a/"),
        AuditFilter(node_id=NodeID("n2")),
        AuditFilter(decision=Decision.REFUSED),
        AuditFilter(credential="a"),
    ],
)
def test_a_row_that_lacks_it_is_not(where: AuditFilter) -> None:
    assert not where.admits(row_of(EVENT))


@pytest.mark.parametrize(
    "event",
    [
        replace(EVENT, actor="uid:0", facts={"node": "n2"}),
        replace(EVENT, actor="uid:0", subject="spiffe://example.org/cognomen/node/join_token/n2"),
    ],
)
def test_a_node_is_found_wherever_a_row_names_it(event: AuditEvent) -> None:
    assert AuditFilter(node_id=NodeID("n2")).admits(row_of(event))
    assert not AuditFilter(node_id=NodeID("n1")).admits(row_of(event))


@pytest.mark.parametrize("key", ["actor", "subject"])
def test_a_node_of_another_trust_domain_is_not_this_one(key: str) -> None:
    other = "spiffe://evil.org/cognomen/node/join_token/n2"
    event = replace(EVENT, actor=other if key == "actor" else "uid:0", subject=other if key == "subject" else "")
    ours, theirs = TrustDomain("example.org"), TrustDomain("evil.org")
    assert not AuditFilter(node_id=NodeID("n2"), node_of=ours).admits(row_of(event))
    assert AuditFilter(node_id=NodeID("n2"), node_of=theirs).admits(row_of(event))


def test_a_row_that_is_no_event_is_read_only_where_nothing_is_asked_of_it() -> None:
    row = AuditRow(number=1, body=b"[", hash=bytes(32))
    assert AuditFilter().admits(row)
    assert AuditFilter(entry_id=EntryID("e1")).admits(row)
    assert not AuditFilter(actor="uid:0").admits(row)


@pytest.mark.parametrize(
    ("event", "is_admitted"),
    [
        (replace(EVENT, subject="spiffe://example.org/agent/a/b"), True),
        (replace(EVENT, subject="spiffe://example.org/agent/a/…"), True),  # a revocation of all of it
        (replace(EVENT, action="agent suspended", subject="a"), True),
        (replace(EVENT, action="agent suspended", subject="a/b"), True),
        (replace(EVENT, action="agent resumed", subject="ab/a"), False),
        (replace(EVENT, action="revoked", subject="e1 and 2 more", facts={"of_agents": "b a"}), True),
        (replace(EVENT, action="revoked", subject="e1", facts={"of_agents": "b"}), False),
        (replace(EVENT, action="rulebook applied", subject="rulebook", facts={"retired": "b a"}), True),
        (replace(EVENT, action="node renamed", subject="a"), False),
        (replace(EVENT, action="agent suspended", subject="ab"), False),
        (replace(EVENT, subject="spiffe://example.org/agent/ab/b"), False),
        (replace(EVENT, subject="spiffe://other.example/agent/a/b"), False),
        (replace(EVENT, action="rulebook applied", subject="rulebook", facts={"retired": "ab"}), False),
    ],
)
def test_the_rows_of_an_agent_are_those_of_its_components_and_of_its_life(
    event: AuditEvent, *, is_admitted: bool
) -> None:
    assert AuditFilter(agent="a", agent_of=TrustDomain("example.org")).admits(row_of(event)) is is_admitted
