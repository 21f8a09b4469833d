"""Why a program has an identity, or none: which entries are near to what it shows, and what it lacks for each.

Which entries match is `match`'s; who may ask about whom is flows/explain_identity's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nsmallest

from svid.entry import RegistrationEntry
from svid.selector import Selector

__all__ = ["Near", "concerns", "nearest"]

_OF_A_USER = ("uid:", "user:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """An entry that does not match what a program shows, and the selectors that the program lacks."""

    entry: RegistrationEntry
    lacks: tuple[Selector, ...]


def concerns(entry: RegistrationEntry, selectors: frozenset[Selector]) -> bool:
    """Whether an entry names the very user that a program runs as: to anybody of that uid it is no secret then."""
    return any(one.type == "unix" and one.value.startswith(_OF_A_USER) for one in entry.selectors & selectors)


def nearest(entries: Iterable[RegistrationEntry], selectors: frozenset[Selector], *, limit: int) -> tuple[Near, ...]:
    """The entries that a program with these selectors comes closest to, those that match aside.

    What lacks least comes first; what shares no selector at all, last: a wrong uid is as common a slip as any.
    """
    near = (
        Near(entry=entry, lacks=tuple(sorted(entry.selectors - selectors)))
        for entry in entries
        if not entry.selectors <= selectors
    )
    return tuple(
        nsmallest(
            limit,
            near,
            key=lambda one: (
                not one.entry.selectors & selectors,
                len(one.lacks),
                -len(one.entry.selectors),
                one.entry.id,
            ),
        )
    )
