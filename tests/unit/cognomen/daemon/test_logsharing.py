"""A line that repeats itself is bounded, says how many it left out, and takes nothing from the others."""

import structlog

from cognomen.daemon.logsharing import ShareLines
from tests.doubles.clock import FakeClock


def written(share: ShareLines, event: str, times: int = 1, **fields: object) -> list[dict[str, object]]:
    """Which of the lines get through, with their fields."""
    through = []
    for _ in range(times):
        try:
            through.append(dict(share(None, "info", {"event": event, **fields})))
        except structlog.DropEvent:
            continue
    return through


def test_ordinary_lines_stay_as_they_are() -> None:
    share = ShareLines(FakeClock())
    assert written(share, "svid issued", 50, node="n") == [{"event": "svid issued", "node": "n"}] * 50


def test_of_a_flood_a_burst_gets_through_then_ten_a_second_and_the_next_line_says_how_many_did_not() -> None:
    clock = FakeClock()
    share = ShareLines(clock)
    assert len(written(share, "call failed", 10_000)) == 50
    clock.advance(1)
    later = written(share, "call failed", 10_000)
    assert 9 <= len(later) <= 10
    assert later[0]["left_out"] == 9_950
    assert all("left_out" not in line for line in later[1:])
    clock.advance(60)
    assert len(written(share, "call failed", 10_000)) == 50


def test_a_flood_of_one_name_takes_nothing_from_another() -> None:
    share = ShareLines(FakeClock())
    written(share, "call failed", 10_000)
    assert written(share, "issuer stopping") == [{"event": "issuer stopping"}]


def test_what_a_library_logs_is_one_name_whatever_it_says() -> None:
    share = ShareLines(FakeClock())
    through = [line for number in range(1000) for line in written(share, f"bad call {number}", logger="library")]
    assert len(through) == 50


def test_names_that_are_made_up_share_what_is_left() -> None:
    clock = FakeClock()
    share = ShareLines(clock)
    assert sum(len(written(share, f"event {number}")) for number in range(10_000)) == 256 + 50
    assert written(share, "event 0") == [{"event": "event 0"}]
    clock.advance(60)
    assert written(share, "quite another") == [{"event": "quite another"}]
