"""Why a program has an identity, or none: which entries are near to what it shows, and what it lacks for each.

Which entries match is `match`'s; who may ask about whom is flows/explain_identity's.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from svid.entry import RegistrationEntry
from svid.selector import Selector

__all__ = ["Near", "concerns", "nearest"]

_OF_A_USER = ("uid:", "user:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """An entry that shares a selector with what a program shows, and the selectors that the program lacks."""

    entry: RegistrationEntry
    lacks: tuple[Selector, ...]


def concerns(entry: RegistrationEntry, selectors: frozenset[Selector]) -> bool:
    """Whether an entry names the very user that a program runs as: to anybody of that uid it is no secret then."""
    return any(one.type == "unix" and one.value.startswith(_OF_A_USER) for one in entry.selectors & selectors)


def nearest(entries: Iterable[RegistrationEntry], selectors: frozenset[Selector], *, limit: int) -> tuple[Near, ...]:
    """The entries that a program with these selectors comes closest to, those that match aside: what lacks least first."""
    near = [
        Near(entry=entry, lacks=tuple(sorted(entry.selectors - selectors)))
        for entry in entries
        if entry.selectors & selectors and not entry.selectors <= selectors
    ]
    near.sort(key=lambda one: (len(one.lacks), -len(one.entry.selectors), one.entry.id))
    return tuple(near[:limit])
