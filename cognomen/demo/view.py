"""The live view: who holds which identity, how long it remains valid, how the calls go, and what happened last.

`View` keeps the contents of the events, `render` lays it out for a terminal of a given size. cognomen/demo/__main__ shows it.
"""

import re
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cognomen.demo.scene import AGENT, REPLACEMENT, ROLES, Event

__all__ = ["View", "render"]

_MOST_LINES = 200
_BAR_CELLS = 10
_FEW_COLUMNS, _VERY_FEW_COLUMNS = 112, 78
_WIDTH_OF_SERIAL = 8
_TRUST_DOMAIN = re.compile(r"spiffe://[^/\s]+(?=/)")
_SHORT = 0.25  # of its life left
_ABOVE_EVENTS = 4  # title, blank, header, blank


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """One SVID that somebody holds."""

    spiffe_id: str
    serial: str
    since: datetime
    not_after: datetime


class View:
    """What is shown, as of the last event."""

    def __init__(self) -> None:
        self.identities: dict[tuple[str, str], _Identity] = {}
        self.counts: dict[str, tuple[int, int, int]] = {}
        self.rotations = 0
        self.lines: deque[tuple[str, str, str]] = deque(maxlen=_MOST_LINES)

    def note(self, event: Event, now: datetime) -> None:
        """Update the view with an event of a component."""
        facts = event.facts
        if event.name in {"identity", "gained", "rotated"}:
            self.identities[event.who, str(facts["spiffe_id"])] = _Identity(
                spiffe_id=str(facts["spiffe_id"]),
                serial=str(facts["serial"]),
                since=now,
                not_after=datetime.fromisoformat(str(facts["not_after"])),
            )
            self.rotations += event.name == "rotated"
        if event.name == "lost":
            self.identities = {held: identity for held, identity in self.identities.items() if held[0] != event.who}
        if "made" in facts:
            self.counts[event.who] = int(facts["made"]), int(facts["answered"]), int(facts["failed"])

    def tell(self, seconds: float, who: str, text: str) -> None:
        """Add a line to the list of events."""
        self.lines.append((f"{seconds:5.1f} s", who, text))


def render(view: View, *, width: int, height: int, now: datetime, is_ascii: bool = False) -> RenderableType:
    """Lay the view out; never more than `height` lines.

    Args:
        is_ascii: for terminals that can show nothing else.
    """
    table = _identities(view, width=width, now=now, is_ascii=is_ascii)
    space = max(height - _ABOVE_EVENTS - len(view.identities) - 1, 1)
    made = sum(count[0] for count in view.counts.values())
    failed = sum(count[2] for count in view.counts.values())
    title = Text.assemble(
        ("Cognomen", "bold"), f"  the agent {AGENT}: ", f"{made} calls, ", (f"{failed} failed", "red" if failed else "green"),
        f", {view.rotations} rotations",
    )  # fmt: skip
    return Group(
        _fitting(title, width, is_ascii=is_ascii),
        Text(),
        table,
        Text(),
        *_events(view, width=width, lines=space, is_ascii=is_ascii),
    )


def _identities(view: View, *, width: int, now: datetime, is_ascii: bool) -> Table:
    """One row for each identity; narrow terminals leave out columns that repeat others."""
    columns = ["component", "SPIFFE ID", "serial", "time left"]
    if width < _FEW_COLUMNS:
        columns.remove("component")
    if width < _VERY_FEW_COLUMNS:
        columns.remove("serial")
    numbers = ("made", "done", "failed") if width >= _VERY_FEW_COLUMNS else ("made", "failed")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="crop")
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True, overflow="crop")
    order = {role: number for number, role in enumerate((*reversed(ROLES), REPLACEMENT))}
    shown: set[str] = set()

    def place(item: tuple[tuple[str, str], _Identity]) -> tuple[int, bool, str]:
        (who, spiffe_id), _ = item
        return (
            order[who],
            not spiffe_id.endswith(f"/{who}"),
            spiffe_id,
        )  # a component's own identity before what it gained

    for (who, _), held in sorted(view.identities.items(), key=place):
        counts = dict(zip(("made", "done", "failed"), view.counts.get(who, (0, 0, 0)), strict=True))
        cells: dict[str, str | Text] = {
            "component": who if who not in shown else "",
            "SPIFFE ID": held.spiffe_id if width >= _FEW_COLUMNS else f"/{held.spiffe_id.split('/', 3)[-1]}",
            "serial": f"{'..' if is_ascii else '…'}{held.serial[-_WIDTH_OF_SERIAL:]}",
            "time left": _bar(held, now, is_ascii=is_ascii),
        }
        numbered = ("" if who in shown else str(counts[column]) for column in numbers)
        table.add_row(*(cells[column] for column in columns), *numbered)
        shown.add(who)
    return table


def _bar(held: _Identity, now: datetime, *, is_ascii: bool) -> Text:
    """Its remaining life, as a share of what it had when it came, as a bar and in seconds."""
    left = max(held.not_after - now, timedelta())
    share = min(left / max(held.not_after - held.since, timedelta(seconds=1)), 1.0)
    filled = round(share * _BAR_CELLS)
    full, empty = ("#", ".") if is_ascii else ("█", "░")
    style = "green" if share > _SHORT else "yellow"
    seconds = f" {int(left.total_seconds()):2} s"
    return Text.assemble((full * filled, style), (empty * (_BAR_CELLS - filled), "dim"), seconds)


def _events(view: View, *, width: int, lines: int, is_ascii: bool) -> list[Text]:
    """The last events, one line each, newest at the bottom."""
    shown = []
    for moment, who, text in list(view.lines)[-lines:]:
        said = text if width >= _FEW_COLUMNS else _TRUST_DOMAIN.sub("", text)
        line = Text.assemble((moment, "dim"), "  ", (f"{who:<12}", "cyan"), "  ", said)
        shown.append(_fitting(line, width, is_ascii=is_ascii))
    return shown


def _fitting(line: Text, width: int, *, is_ascii: bool) -> Text:
    """As many whole words as fit, and a sign that there are more."""
    if len(line) > width:
        more = " .." if is_ascii else " …"
        line = line[: max(line.plain.rfind(" ", 0, width - len(more) + 1), 0)].append(more)
    line.no_wrap, line.overflow = True, "crop"
    return line
