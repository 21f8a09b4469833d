"""How a value is shown to people: paths instead of SPIFFE IDs, short ids, relative times, and no control characters.

`-o wide` shows the same values whole, and `-o json` does not come here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = ["View", "cell_of", "ids_in", "relative", "short_ids", "text_of", "with_relative"]

_SHORT = 8
_SHORT_SERIAL = 12  # serials begin with the time: 8 digits last 16 s
_IDS = frozenset({"id", "entry_id", "node_id", "serial", "key_id"})
_HOLDERS = frozenset({"parent_id", "actor"})  # a node there is shown by its id; every command takes one there
_NODE = re.compile(r"/cognomen/node/[^/]+/([^/]+)")
_MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?(?:Z|\+00:00)")
_KEY = re.compile(r"(?:x509|jwt)-")
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How tables are shown.

    Args:
        output: table, wide or json, as in the option.
        trust_domain: the name of our own, whose SPIFFE IDs are shown as their paths; empty: all are shown whole.
        has_moments: whether times are shown as such, as where a table goes on while time passes.
        now: what relative times count from.
    """

    output: str = "table"
    trust_domain: str = ""
    has_moments: bool = False
    now: datetime = field(default_factory=lambda: SystemClock().now())

    @property
    def is_wide(self) -> bool:
        """Whether values are shown whole."""
        return self.output == "wide"


def cell_of(key: str, value: JSON, view: View, short: Mapping[str, str]) -> Sequence[str]:
    """The words of one cell of a table, in which a line may only be broken between words.

    Args:
        key: the column, which is also the key in JSON.
        short: what is shown instead of each id.
    """
    if isinstance(value, list):
        items = [" ".join(cell_of(key, item, view, short)) for item in value]
        return [f"{item}," for item in items[:-1]] + items[-1:] or ["-"]
    if isinstance(value, str) and (moment := _moment_in(value)):
        is_whole = view.is_wide or view.has_moments
        return [f"{moment:%Y-%m-%dT%H:%M:%SZ}" if is_whole else relative(moment, view.now)]
    return text_of(_brief(key, value, view, short)).split(" ")


def _brief(key: str, value: JSON, view: View, short: Mapping[str, str]) -> JSON:
    if view.is_wide or not isinstance(value, str):
        return value
    if key in _IDS:
        return short.get(value, value)
    path = _path(value, view.trust_domain)
    node = _NODE.fullmatch(path) if key in _HOLDERS else None
    return path if node is None else short.get(node[1], node[1])


def ids_in(key: str, value: JSON, view: View) -> Iterator[str]:
    """The ids in a cell, which can be shown short."""
    if key in _IDS and isinstance(value, str):
        yield value
    elif key in _HOLDERS and isinstance(value, str) and (node := _NODE.fullmatch(_path(value, view.trust_domain))):
        yield node[1]


def short_ids(key: str, ids: Iterable[str]) -> dict[str, str]:
    """The shortest beginning of each id that no other of these ids has; at least 8 characters, after the kind of an authority's key.

    Args:
        key: the column; serials have at least 12 characters.
    """
    shortest = _SHORT_SERIAL if key == "serial" else _SHORT
    known = sorted({one for one in ids if one})
    needed = dict.fromkeys(known, 0)
    for one, other in pairwise(known):
        same = next(
            (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        needed[one], needed[other] = max(needed[one], same + 1), max(needed[other], same + 1)
    return {
        one: one[: max(count, shortest + (kind.end() if (kind := _KEY.match(one)) else 0))]
        for one, count in needed.items()
    }


def text_of(value: JSON) -> str:
    """A value as one line of text, in which nothing controls the terminal."""
    match value:
        case None:
            return "-"
        case bool():
            text = "yes" if value else "no"
        case list():
            text = ", ".join(map(text_of, value))
        case dict():
            text = ", ".join(f"{key}={text_of(item)}" for key, item in value.items())
        case _:
            text = str(value)
    if text.isprintable():
        return text or "-"
    # a stored text must not control the terminal
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def relative(moment: datetime, now: datetime) -> str:
    """How far away a moment is, in its largest unit: in 43m, 3h ago."""
    seconds = int(abs((moment - now) / timedelta(seconds=1)))
    if seconds < _MINUTE:
        text = f"{seconds}s"
    elif seconds < _HOUR:
        text = f"{seconds // _MINUTE}m"
    elif seconds < 2 * _DAY:
        text = f"{seconds // _HOUR}h"
    else:
        text = f"{seconds // _DAY}d"
    return f"in {text}" if moment > now else f"{text} ago"


def with_relative(value: JSON, now: datetime) -> JSON:
    """A time with how far away it is: 2026-11-30T02:09:13Z (in 43m); everything else as it is."""
    moment = _moment_in(value) if isinstance(value, str) else None
    return value if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ} ({relative(moment, now)})"


def _moment_in(text: str) -> datetime | None:
    """The moment that a text is, to the second; None: it is another text."""
    found = _MOMENT.fullmatch(text)
    try:
        return datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None
    except ValueError:  # a stored text that looks like a time
        return None


def _path(text: str, trust_domain: str) -> str:
    """The path of a SPIFFE ID of our own trust domain; any other text as it is."""
    begin = f"spiffe://{trust_domain}/"
    return text[len(begin) - 1 :] if trust_domain and text.startswith(begin) and text != begin else text
