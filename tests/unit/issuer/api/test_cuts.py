"""A list in an answer that was cut says how much more there is."""

from datetime import timedelta

import pytest

from cognomen.protocol.feed import Cursor
from cognomen.protocol.names import NodeID
from issuer.api.admin.revocationmessages import blocked_to_pb, revocation_status
from issuer.api.admin.status import status_to_pb
from issuer.decisions.revocation import Reason, Revocation, RevocationKind, Target
from issuer.flows.await_enforcement import Enforced
from issuer.flows.observe_issuer import Lag, Observed
from issuer.keepers.enforcement_watch import HowFar, Silent
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, an_entry

REVOCATION = Revocation(
    target=Target(kind=RevocationKind.SVID, serials=("aa",)), reason=Reason.UNSPECIFIED, comment="", actor="uid:0", at=NOW
)  # fmt: skip


@pytest.mark.parametrize(("count", "listed", "more"), [(0, 0, 0), (20, 20, 0), (21, 20, 1), (1000, 20, 980)])
def test_the_status_says_how_many_more_are_behind(count: int, listed: int, more: int) -> None:
    lag = Lag(
        node_id=NodeID("n"), behind=1, acknowledged=1, heard_ago=timedelta(0), points=0, points_enforcing=0
    )  # fmt: skip
    seen = Observed(
        trust_domain=TRUST_DOMAIN,
        started_at=NOW,
        head=Cursor(incarnation="a", number=1),
        nodes=count,
        nodes_connected=count,
        feeds=count,
        denials=0,
        behind=[lag] * count,
        oldest_truth=None,
        authorities=(),
        exports=(),
        doubt="",
        svid_not_after=NOW,
        has_room=True,
        damage="",
        over_limits=[],
        invalid=(),
        troubles=(),
    )
    message = status_to_pb(seen)
    assert (len(message.behind), message.behind_more) == (listed, more)


@pytest.mark.parametrize(("count", "listed", "more"), [(0, 0, 0), (20, 20, 0), (21, 20, 1)])
def test_a_revocation_says_how_many_more_are_silent(count: int, listed: int, more: int) -> None:
    silent = [Silent(node_id=NodeID("n"), point=None, number=0)] * count
    how_far = HowFar(attestors=count, attestors_enforcing=0, points=0, points_enforcing=0, silent=silent)
    message = revocation_status(Enforced(revocation=REVOCATION, how_far=how_far, away=0, ends_at=None))
    assert (len(message.silent), message.silent_more) == (listed, more)


@pytest.mark.parametrize("more", [False, True])
def test_what_is_blocked_says_whether_there_is_more(more: bool) -> None:  # noqa: FBT001 - a case
    message = blocked_to_pb([(an_entry(entry_id="e"), REVOCATION)], more=more)
    assert (len(message.blocked), message.more) == (1, more)
