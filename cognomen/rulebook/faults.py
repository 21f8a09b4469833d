"""What is wrong in a rulebook, with the place where it stands and what mends it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from cognomen.protocol.printable import printable
from cognomen.rulebook.places import Path

__all__ = ["Fault", "Tell", "key_of", "shown", "suggestion"]

Tell = Callable[[Path, str, str], None]
"""Notes a fault: its path in the document, what is wrong, and what mends it."""

_MOST = 80
_LARGE = 2**63


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fault:
    """One thing that is wrong.

    Args:
        line: from 1; 0: the file as a whole.
        key: dotted, as the operator would write it.
    """

    file: str
    line: int
    key: str
    problem: str
    mend: str = ""

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


def suggestion(word: str, known: Collection[str]) -> str:
    """The known word that may have been meant, as a question; or all of them, if they are few."""
    if near := get_close_matches(word, known, n=1):
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(sorted(known))}" if 0 < len(known) <= 12 else ""  # noqa: PLR2004 - one line
