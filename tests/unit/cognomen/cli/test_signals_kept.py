"""cognomen/cli/signals: a signal that is kept raises nothing where it comes, and has its effect afterwards."""

import signal

import pytest

from cognomen.cli.signals import signals_kept


def test_a_signal_raises_at_the_end_of_the_block_and_not_within() -> None:
    steps: list[int] = []

    def work() -> None:
        with signals_kept() as kept:
            signal.raise_signal(signal.SIGINT)
            steps.extend(kept)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("even_default", [False, True])
def test_a_signal_that_is_ignored_stays_ignored(even_default: bool) -> None:  # noqa: FBT001 - a parameter of the test
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_kept(even_default=even_default) as kept:
            signal.raise_signal(signal.SIGINT)
            assert kept == []
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
