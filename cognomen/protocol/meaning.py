"""What a text can mean that an operator typed in place of an id."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["LEAST_CHARACTERS", "MOST_MEANINGS", "MOST_TEXTS", "Meaning", "Nameable"]

LEAST_CHARACTERS = 4
"""How much of an id is enough, if no other begins so."""

MOST_MEANINGS = 11
"""How many meanings of one text are looked up: ten to show, and one more."""

MOST_TEXTS = 1000
"""How many texts one call may ask about."""


class Nameable(StrEnum):
    """What an id can be of."""

    ENTRY = "entry"
    NODE = "node"
    CREDENTIAL = "credential"
    AUTHORITY = "authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """One thing that a text can mean.

    Args:
        id: its whole id.
        spiffe_id: its SPIFFE ID; empty: not known, or it has none.
    """

    id: str
    spiffe_id: str = ""
