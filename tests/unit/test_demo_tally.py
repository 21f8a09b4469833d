"""What the demo counts, and when it may say that all of it happened."""

from cognomen.demo.scene import Event
from cognomen.demo.tally import Tally


def _counted(who: str, name: str = "counted", **facts: int) -> Event:
    counts = {"made": 0, "answered": 0, "failed": 0, "tokens": 0}
    return Event(who=who, at=0, name=name, facts={**counts, **facts})


def _verdict_on_calls(tally: Tally) -> str:
    return list(tally.verdicts())[-1]


def test_a_rotation_counts_only_if_calls_went_on_since_the_one_before() -> None:
    tally = Tally()
    for answered in (5, 5, 6):
        tally.note(_counted("reasoning", "rotated", own=1, answered=answered))
    assert tally.rotations["reasoning"] == 2


def test_the_rotation_of_another_identity_is_not_the_components_own() -> None:
    tally = Tally()
    tally.note(_counted("connector", "rotated", own=0, answered=5))
    assert not tally.rotations


def test_calls_that_were_all_answered_are_flawless() -> None:
    tally = Tally()
    tally.note(_counted("orchestrator", made=8))
    tally.note(_counted("reasoning", answered=8))
    assert _verdict_on_calls(tally) == "  ok       8 calls made, 8 answered, 0 failed"


def test_a_failed_call_a_lost_answer_and_no_call_at_all_are_not_flawless() -> None:
    for made, answered, failed in ((8, 8, 1), (8, 7, 0), (0, 0, 0)):
        tally = Tally()
        tally.note(_counted("orchestrator", made=made, failed=failed))
        tally.note(_counted("reasoning", answered=answered))
        assert "MISSING" in _verdict_on_calls(tally)
        assert not tally.succeeded
