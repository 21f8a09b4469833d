"""What is wrong in a rulebook, with the place where it stands and what mends it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from cognomen.protocol.printable import printable
from cognomen.rulebook.places import Path

__all__ = ["MOST_FAULTS", "Fault", "Mend", "Tell", "counted_faults", "in_order", "key_of", "shown", "text_of_mend"]

Mend: TypeAlias = str | Callable[[], str]
"""What mends a fault; if it takes time to find, how to find it."""

Tell = Callable[[Path, str, Mend], None]
"""Notes a fault: its path in the document, what is wrong, and what mends it."""

MOST_FAULTS = 1000
"""How many faults of one rulebook are kept; the others are counted."""

_MOST = 80
_LARGE = 2**63


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fault:
    """One thing that is wrong.

    Args:
        line: from 1; 0: the file as a whole.
        key: dotted, as the operator would write it.
        more: how many more there are, which are not kept.
    """

    file: str
    line: int
    key: str
    problem: str
    mend: str = ""
    more: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        words = ": ".join(filter(None, (place, self.key, self.problem)))
        return f"{words}; {self.mend}" if self.mend else words


def key_of(path: Path) -> str:
    """The path as people read it: `agent.concierge.component.crm.selectors[1]`."""
    key = ""
    for part in path:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            key += f".{printable(part, most=_MOST)}" if key else printable(part, most=_MOST)
    return key


def shown(value: object) -> str:
    """A value of a document, as a message shows it."""
    match value:
        case str():
            return repr(printable(value, most=_MOST))
        case bool():
            return "true" if value else "false"
        case int() if abs(value) >= _LARGE:  # Python refuses to write very long ones
            return "a very large number"
        case Mapping():
            return "a table"
        case list():
            return "a list"
        case _:
            return printable(str(value), most=_MOST)


def text_of_mend(mend: Mend) -> str:
    """What mends a fault, in words."""
    return mend if isinstance(mend, str) else mend()


def in_order(faults: Iterable[Fault], more: int = 0) -> list[Fault]:
    """Faults by their places; the last of them says how many more there are."""
    found = sorted(faults)
    if found and more:
        found[-1] = replace(found[-1], more=more)
    return found


def counted_faults(faults: Iterable[Fault]) -> int:
    """How many there are, also those that are not kept."""
    return sum(1 + one.more for one in faults)
