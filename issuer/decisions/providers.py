"""How long the tokens live that providers give for JWT-SVIDs, as rulebooks declare it beside the configuration (issuer/config)."""

from collections.abc import Mapping
from datetime import timedelta

from cognomen.rulebook.rules import Rulebook

__all__ = ["both_lives", "declared_lives"]


def declared_lives(rulebook: Rulebook) -> Mapping[str, timedelta]:
    """By audience, the longest life of such a token."""
    return {one.audience: one.longest_life for one in rulebook.providers.values() if one.longest_life is not None}


def both_lives(one: Mapping[str, timedelta], other: Mapping[str, timedelta]) -> Mapping[str, timedelta]:
    """What either of them declares; where both do, the longer life."""
    return {audience: max(each[audience] for each in (one, other) if audience in each) for audience in {**one, **other}}
