"""Who would gain or lose an identity: the answer of an attestor, as a value that issuer and attestor share.

The question comes on the feed (cognomen/protocol/feed). How the attestor finds the answer: attestor/flows/answer_questions. Who asks:
issuer/flows/ask_attestors.
"""

from dataclasses import dataclass
from datetime import timedelta

from svid.spiffeid import SpiffeID

__all__ = ["ANSWER_WITHIN", "MOST_ENTRIES", "MOST_IDS", "MOST_PROGRAMS", "Answer", "ProgramChange"]

MOST_PROGRAMS = 1000
"""The most programs that an answer names; it counts the others."""

MOST_IDS = 20
"""The most SPIFFE IDs that an answer names for each program, of those that it gains and of those that it loses; it counts the others."""

MOST_ENTRIES = 20_000
"""The most entries that a question is about."""

ANSWER_WITHIN = timedelta(seconds=2)
"""How long the issuer waits for the answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramChange:
    """A program that called its attestor, and what would change for it.

    Args:
        executable: its path; empty: unknown.
        gains, loses: at most MOST_IDS each, sorted.
        gains_more, loses_more: how many more.
    """

    pid: int
    uid: int
    executable: str
    gains: tuple[SpiffeID, ...] = ()
    loses: tuple[SpiffeID, ...] = ()
    gains_more: int = 0
    loses_more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an attestor answers.

    Args:
        programs: at most MOST_PROGRAMS.
        programs_more: how many more would gain or lose an identity.
        unknown: how many programs could not be looked at in time, or had ended by then.
    """

    programs: tuple[ProgramChange, ...] = ()
    programs_more: int = 0
    unknown: int = 0
