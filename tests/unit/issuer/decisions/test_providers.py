"""issuer/decisions/providers: how long exchanged tokens live, as a rulebook and the configuration declare it."""

from datetime import timedelta

from issuer.decisions.providers import both_lives, declared_lives
from tests.unit.cognomen.rulebook.books import CONCIERGE, book

HOUR = timedelta(hours=1)


def test_a_provider_that_gives_tokens_says_how_long_they_live() -> None:
    assert declared_lives(book(CONCIERGE)) == {"https://api.anthropic.com": HOUR}
    assert declared_lives(book(CONCIERGE.replace('longest_life = "1h"\n', ""))) == {}


def test_of_two_that_declare_one_audience_the_longer_life_counts() -> None:
    assert both_lives({"a": HOUR, "b": HOUR}, {"b": 2 * HOUR, "c": HOUR}) == {"a": HOUR, "b": 2 * HOUR, "c": HOUR}
    assert both_lives({"b": 2 * HOUR}, {"b": HOUR}) == {"b": 2 * HOUR}
