"""cognomen/cli/agentlife: what is said of an agent that was suspended before."""

import pytest

from cognomen.cli.agentlife import said_before
from cognomen.wire.pb import admin_pb2 as pb

BOTH = "and now by an operator, too: a later review_by does not resume it any more"


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (pb.HeldAgent(actor="uid:0", comment="PR 7"), "uid:0 (PR 7), which stays as it is"),
        (pb.HeldAgent(actor="uid:0", review_by="2026-01-01"), "uid:0, which stays as it is"),
        (pb.HeldAgent(actor="issuer", comment="its limit burst"), "the issuer (its limit burst), which stays as it is"),
        (
            pb.HeldAgent(actor="issuer", comment="its review was due on 2026-01-01", review_by="2026-01-01"),
            f"the issuer (its review was due on 2026-01-01), {BOTH}",
        ),
    ],
)
def test_who_had_suspended_it_and_what_comes_of_that(held: pb.HeldAgent, said: str) -> None:
    assert said_before(held) == said
