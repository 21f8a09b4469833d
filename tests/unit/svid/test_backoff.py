from datetime import timedelta
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from svid.backoff import Backoff


def test_delays_double_up_to_the_maximum() -> None:
    backoff = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=5))
    delays = [delay.total_seconds() for delay in islice(backoff.delays(lambda: 0), 5)]
    assert delays == [1, 2, 4, 5, 5]


@given(
    st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)),
    st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)),
    st.floats(1, 10),
    st.floats(0, 1, exclude_max=True),
)
def test_each_delay_lies_in_the_upper_half_of_its_base(
    initial: timedelta, maximum: timedelta, factor: float, jitter: float
) -> None:
    backoff = Backoff(initial=min(initial, maximum), maximum=maximum, factor=factor)
    bases = list(islice(backoff.delays(lambda: 0), 30))
    delays = list(islice(backoff.delays(lambda: jitter), 30))
    for base, delay in zip(bases, delays, strict=True):
        assert base / 2 <= delay <= base <= maximum
