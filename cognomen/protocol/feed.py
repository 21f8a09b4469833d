"""The feed, in the words that issuer and attestor share.

Decided elsewhere: what a change means to a node (issuer/decisions/changes), what a step of the feed does to an attestor
(attestor/decisions/sync), what this looks like on the wire (cognomen/wire/feed).
"""

from dataclasses import dataclass

__all__ = ["Cursor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a follower stands: which store, and the number of the last change it has."""

    incarnation: str
    number: int
