"""The newest value is kept for whoever asks for it at once, and for nobody else."""

from collections.abc import Sequence

from cognomen.protocol.entry import EntryID
from issuer.decisions.entrysteps import Step
from issuer.keepers.recent import Recent
from tests.doubles.issuer_values import an_entry
from tests.doubles.until import until

STEPS = [Step(before=None, after=an_entry(entry_id=EntryID("a")))]


async def test_a_plan_is_kept_until_it_was_used() -> None:
    plans = Recent[Sequence[Step]]()
    plans.keep("a", STEPS)
    assert plans.take("b") is None
    assert plans.get("a") == plans.take("a") == STEPS
    assert plans.take("a") is None


async def test_only_the_newest_plan_is_kept() -> None:
    plans = Recent[Sequence[Step]]()
    plans.keep("a", STEPS)
    plans.keep("b", ())
    assert plans.take("a") is None
    assert plans.take("b") == ()


async def test_a_plan_that_nobody_asks_about_is_given_up() -> None:
    plans = Recent[Sequence[Step]](kept_seconds=0)
    plans.keep("a", STEPS)
    assert plans
    await until(lambda: not plans)
    assert plans.take("a") is None
