"""Why a program has an identity or has none: which entries nearly match what it shows, and what it lacks for each.

Which entries match is decided in `matching`; who may ask about which process, in attestor/flows/explain_identity.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nsmallest

from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.selector import Selector

__all__ = ["Near", "concerns", "nearest"]

_OF_A_USER = ("uid:", "user:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """An entry that does not match what a program shows, and the selectors that the program lacks."""

    entry: RegistrationEntry
    lacks: tuple[Selector, ...]


def concerns(entry: RegistrationEntry, selectors: frozenset[Selector]) -> bool:
    """Whether an entry names the user that a program runs as: then it is no secret from anybody with that uid."""
    return any(one.type == "unix" and one.value.startswith(_OF_A_USER) for one in entry.selectors & selectors)


def nearest(entries: Iterable[RegistrationEntry], selectors: frozenset[Selector], *, limit: int) -> tuple[Near, ...]:
    """The entries that come closest to matching these selectors; those that do match are left out.

    The entry with the fewest missing selectors comes first. Entries that share no selector at all come last, because a wrong uid is as
    common a mistake as any.
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
