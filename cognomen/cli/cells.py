"""How a value is shown to people: paths instead of SPIFFE IDs, short ids, relative times, and no control characters.

`-o wide` shows the same values whole, and `-o json` does not come here.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise

from cognomen.protocol.durations import format_duration
from cognomen.protocol.printable import unmistakable
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = ["View", "cell_of", "ids_in", "relative", "short_ids", "text_of", "with_relative", "with_unit"]

_SHORT = 8
_SHORT_SERIAL = 16  # 12 digits are the time, in milliseconds; those of a batch differ only after them
_IDS = frozenset({"id", "entry_id", "node_id", "serial", "key_id"})
_HOLDERS = frozenset({"parent_id", "actor"})  # a node there is shown by its id; every command takes one there
_SUBJECTS = frozenset({"subject", "what"})  # what begins with an id there is shown with a short one
_NODE = re.compile(r"/cognomen/node/[^/]+/([^/]+)")
_ABOUT = re.compile(r"((?:x509-|jwt-)?[0-9a-f]{16,})((?: and [0-9]+ more)?)")
_SERIAL = re.compile(r"8[1-3][0-9a-f]{30}")  # one that was made between 2004 and 2109
_MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?(?:Z|\+00:00)")
_KIND = re.compile(r"(?:x509|jwt)-|")
_LENGTH = re.compile(r"(-?)([0-9]{1,12})s")
_LENGTHS = frozenset({"x509_svid_ttl", "jwt_svid_ttl", "clock_ahead"})
_AGES = frozenset({"heard_ago", "oldest_truth"})  # nobody needs them exactly
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How tables are shown.

    Args:
        output: table, wide or json, as in the option.
        trust_domain: the name of our own, whose SPIFFE IDs are shown as their paths; empty: all are shown whole.
        has_moments: whether times are shown as such, as where a table goes on while time passes.
        now: what relative times count from.
        nodes: the SPIFFE IDs of nodes, which are shown by their short ids; None: all that look like one.
    """

    output: str = "table"
    trust_domain: str = ""
    has_moments: bool = False
    now: datetime = field(default_factory=lambda: SystemClock().now())
    nodes: frozenset[str] | None = None

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
        items = [_item(item, " ".join(cell_of(key, item, view, short))) for item in value]
        return [f"{item}," for item in items[:-1]] + items[-1:] or ["-"]
    if isinstance(value, str) and (moment := _moment_in(value)):
        is_whole = view.is_wide or view.has_moments
        return [f"{moment:%Y-%m-%dT%H:%M:%SZ}" if is_whole else relative(moment, view.now)]
    return text_of(_brief(key, with_unit(key, value), view, short)).split(" ")


def _brief(key: str, value: JSON, view: View, short: Mapping[str, str]) -> JSON:
    if view.is_wide or not isinstance(value, str):
        return value
    for one, after in _id_in(key, value, view):
        return short.get(one, one) + after
    return value if key in _IDS else _path(value, view.trust_domain)


def ids_in(key: str, value: JSON, view: View) -> Iterator[str]:
    """The ids in a cell, which can be shown short."""
    if isinstance(value, str):
        yield from (one for one, _ in _id_in(key, value, view))


def _id_in(key: str, value: str, view: View) -> Iterator[tuple[str, str]]:
    """The id that a cell is about, and the text after it."""
    if key in _IDS:
        yield value, ""
    elif key in _SUBJECTS and (found := _ABOUT.fullmatch(value)):
        yield found[1], found[2]
    elif (
        key in _HOLDERS | _SUBJECTS
        and (node := _NODE.fullmatch(_path(value, view.trust_domain)))
        and (view.nodes is None or value in view.nodes)
    ):
        yield node[1], ""


def short_ids(key: str, ids: Iterable[str]) -> dict[str, str]:
    """What begins each id and no other of these: as many characters for all of a kind, and at least 8 (of a serial 16).

    The kind of an authority's key comes before them.

    Args:
        key: the column; among subjects, serials are told by how they begin.
    """
    known = sorted({one for one in ids if one})
    needed = dict.fromkeys(known, 0)
    for one, other in pairwise(known):
        same = next(
            (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        needed[one], needed[other] = max(needed[one], same + 1), max(needed[other], same + 1)

    def kind_of(one: str) -> tuple[int, int]:
        """Where the characters that count begin, and how many there are at least."""
        found = _KIND.match(one)
        is_serial = key == "serial" or (key in _SUBJECTS and _SERIAL.fullmatch(one))
        return found.end() if found else 0, _SHORT_SERIAL if is_serial else _SHORT

    short: dict[str, str] = {}
    for (begin, least), group in groupby(sorted(known, key=kind_of), kind_of):
        alike = list(group)
        length = max(begin + least, *(needed[one] for one in alike))
        short |= {one: one[:length] for one in alike}
    return short


def text_of(value: JSON) -> str:
    """A value as one line of text, in which nothing controls the terminal."""
    match value:
        case None:
            return "-"
        case bool():
            text = "yes" if value else "no"
        case list():
            text = ", ".join(_item(one, text_of(one)) for one in value)
        case dict():
            text = ", ".join(f"{key}={text_of(item)}" for key, item in value.items())
        case _:
            text = str(value)
    return unmistakable(text) or "-"  # a stored text must not control the terminal, or forge a cell


def _item(value: JSON, shown: str) -> str:
    """An item of a list as it is shown, in quotation marks if its text could be taken for two."""
    is_unclear = isinstance(value, str) and (", " in shown or shown.startswith('"'))
    return json.dumps(shown, ensure_ascii=False) if is_unclear else shown


def relative(moment: datetime, now: datetime) -> str:
    """How far away a moment is, in its largest unit: in 43m, 3h ago."""
    text = _in_unit(int(abs((moment - now) / timedelta(seconds=1))))
    return f"in {text}" if moment > now else f"{text} ago"


def with_unit(key: str, value: JSON) -> JSON:
    """A duration ("5400s") in the unit in which options take it: 90m; everything else as it is.

    Args:
        key: which key of a document it is; only ages are rounded.
    """
    if key not in _LENGTHS | _AGES or not isinstance(value, str) or not (found := _LENGTH.fullmatch(value)):
        return value
    seconds = int(found[2])
    if key in _AGES:
        return _in_unit(seconds)
    return found[1] + format_duration(timedelta(seconds=seconds))


def _in_unit(seconds: int) -> str:
    """A time in its largest unit."""
    if seconds < _MINUTE:
        return f"{seconds}s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE}m"
    return f"{seconds // _HOUR}h" if seconds < 2 * _DAY else f"{seconds // _DAY}d"


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
