"""issuer/decisions/exchanged: until when what a provider gave for a JWT-SVID may live."""

from datetime import UTC, datetime, timedelta

import pytest

from issuer.decisions.exchanged import exchanged_of, exchanged_until

END = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIVES = {"model": HOUR, "cloud": 12 * HOUR}


@pytest.mark.parametrize(
    ("audiences", "expected"),
    [
        ((), None),
        (("db",), None),
        (("model",), END + HOUR),
        (("db", "model"), END + HOUR),
        (("cloud", "model"), END + 12 * HOUR),
    ],
)
def test_a_token_may_have_been_exchanged_in_its_last_moment(
    audiences: tuple[str, ...], expected: datetime | None
) -> None:
    assert exchanged_until(audiences, END, LIVES) == expected


def test_what_has_ended_at_a_provider_is_left_out() -> None:
    ends = {"model": END, "cloud": END - HOUR}
    assert exchanged_of(ends, LIVES, now=END) == [("cloud", END + 11 * HOUR), ("model", END + HOUR)]
    assert exchanged_of(ends, LIVES, now=END + HOUR) == [("cloud", END + 11 * HOUR)]
    assert exchanged_of({}, LIVES, now=END) == []
