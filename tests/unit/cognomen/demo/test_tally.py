"""What the demo counts, and when it may say that all of it happened."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from cognomen.demo.scene import Event
from cognomen.demo.tally import Tally

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _counted(who: str, name: str = "counted", **facts: int | str) -> Event:
    counts = {"made": 0, "answered": 0, "failed": 0, "tokens": 0}
    return Event(who=who, at=0, name=name, facts={**counts, **facts})


def _verdict_on_calls(tally: Tally) -> str:
    return list(tally.verdicts())[-1]


def test_a_rotation_counts_only_if_calls_went_on_since_the_one_before() -> None:
    tally = Tally()
    for answered in (5, 5, 6):
        tally.note(_counted("reasoning", "rotated", own=1, answered=answered, authority="a", at=""))
    assert tally.rotations["reasoning"] == 2


def test_the_rotation_of_another_identity_is_not_the_components_own() -> None:
    tally = Tally()
    tally.note(_counted("connector", "rotated", own=0, answered=5))
    assert not tally.rotations


def test_a_taint_counts_once_everybody_has_another_authority_and_calls_go_on() -> None:
    tally = Tally()
    for who in ("orchestrator", "reasoning", "connector-2"):
        tally.note(Event(who=who, at=0, name="identity", facts={"authority": "old", "spiffe_id": f"spiffe://d/{who}"}))
    tally.tainted_at = NOW
    taken = (NOW + timedelta(milliseconds=200)).isoformat()
    for who, authority in (
        ("orchestrator", "old"),
        ("orchestrator", "new"),
        ("reasoning", "new"),
        ("connector-2", "new"),
    ):
        tally.note(_counted(who, "rotated", own=1, made=4, authority=authority, at=taken))
    told = "every SVID"
    assert any(told in line and "MISSING" in line for line in tally.verdicts())
    for made in (4, 5):
        tally.note(_counted("orchestrator", made=made))
    assert any(told in line and "MISSING" in line for line in tally.verdicts()), (
        "reasoning has not called its model yet"
    )
    for made in (7, 8):
        tally.note(_counted("reasoning", made=made))
    assert any(told in line and "ok  " in line and "after 200 ms" in line for line in tally.verdicts())


def test_calls_that_were_all_answered_are_flawless() -> None:
    tally = Tally()
    tally.note(_counted("orchestrator", made=8))
    tally.note(_counted("reasoning", answered=8))
    assert _verdict_on_calls(tally) == "  ok       8 calls made, 8 answered, 0 failed"


def test_calls_of_the_model_and_its_answers_count_as_well() -> None:
    tally = Tally()
    tally.note(_counted("reasoning", made=3))
    tally.note(_counted("model", answered=3, traded=2))
    assert _verdict_on_calls(tally) == "  ok       3 calls made, 3 answered, 0 failed"
    assert tally.table()[-1].split() == ["model", "none:", "it", "is", "the", "provider", "0", "3", "0"]


def test_a_model_that_was_called_without_an_api_key_has_traded_several_times() -> None:
    tally = Tally()
    for number, verdict in ((2, "MISSING"), (3, "ok")):
        tally.note(_counted("model", traded=number))
        (line,) = (line for line in tally.verdicts() if "traded JWT-SVIDs" in line)
        assert line.split()[0] == verdict
    tally.note(Event(who="reasoning", at=0, name="thought", facts={"sdk": "", "what": "", "said": ""}))
    assert any("through the unchanged SDK" in line and "ok  " in line for line in tally.verdicts())


def test_a_failed_call_a_lost_answer_and_no_call_at_all_are_not_flawless() -> None:
    for made, answered, failed in ((8, 8, 1), (8, 7, 0), (0, 0, 0)):
        tally = Tally()
        tally.note(_counted("orchestrator", made=made, failed=failed))
        tally.note(_counted("reasoning", answered=answered))
        assert "MISSING" in _verdict_on_calls(tally)
        assert not tally.succeeded


def test_a_call_that_a_revocation_ended_may_have_been_answered_and_another_may_not() -> None:
    for made, answered, revoked, verdict in (
        (8, 8, 1, "ok"),
        (8, 9, 1, "ok"),
        (8, 10, 1, "MISSING"),
        (8, 7, 1, "MISSING"),
    ):
        tally = Tally()
        tally.note(_counted("orchestrator", made=made, revoked=revoked))
        tally.note(_counted("connector", answered=answered))
        assert _verdict_on_calls(tally).split()[0] == verdict


REVOKED_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
ENDS = ("handshake refused", "connection closed", "token refused")


def _ends() -> Iterator[Event]:
    for number, name in enumerate(ENDS):
        at = (REVOKED_AT + timedelta(milliseconds=20 + number)).isoformat()
        yield Event(who="orchestrator", at=0, name=name, facts={"peer": "", "why": "", "at": at})


def test_each_end_of_who_was_revoked_is_timed_from_the_command() -> None:
    tally = Tally(revoked_at=REVOKED_AT)
    for event in _ends():
        tally.note(event)
    assert [tally.ends[name] for name in ENDS] == [timedelta(milliseconds=ms) for ms in (20, 21, 22)]
    assert "  ok       connector revoked: JWT-SVID refused after 22 ms" in tally.verdicts()


@pytest.mark.parametrize(("later", "failed", "verdict"), [(6, 0, "ok"), (5, 0, "MISSING"), (6, 1, "MISSING")])
def test_the_others_went_on_if_they_answered_more_and_failed_nothing(later: int, failed: int, verdict: str) -> None:
    tally = Tally(revoked_at=REVOKED_AT)
    tally.note(_counted("reasoning", answered=4))
    for event in _ends():
        tally.note(event)
    tally.note(_counted("reasoning", answered=5))
    tally.note(_counted("reasoning", answered=later, failed=failed))
    (line,) = (line for line in tally.verdicts() if "kept working" in line)
    assert line.split()[0] == verdict


def test_a_suspension_is_timed_from_its_own_command_and_the_call_after_it_from_the_next() -> None:
    tally = Tally(revoked_at=REVOKED_AT)
    for event in _ends():
        tally.note(event)
    tally.note(_called(REVOKED_AT))
    tally.suspended_at = REVOKED_AT + timedelta(milliseconds=10)
    events = list(_ends())
    for event in events:
        tally.note(event)
    assert [tally.latest(event) for event in events] == [timedelta(milliseconds=ms) for ms in (10, 11, 12)]
    assert [tally.ends[name] for name in ENDS] == [timedelta(milliseconds=ms) for ms in (20, 21, 22)]
    assert tally.is_suspended
    assert "  MISSING  connector resumed: orchestrator called it again" in tally.verdicts()
    tally.resumed_at = REVOKED_AT + timedelta(seconds=1)
    for late in (1.5, 2.5):
        tally.note(_called(REVOKED_AT + timedelta(seconds=late)))
    assert "  ok       connector suspended: open connection closed after 11 ms" in tally.verdicts()
    assert "  ok       connector resumed: orchestrator called it again after 500 ms" in tally.verdicts()


def _called(at: datetime) -> Event:
    return Event(who="orchestrator", at=0, name="called", facts={"peer": "", "at": at.isoformat()})
