"""Lay out a table for a terminal of some width, or for a pipe: what is decided here is where lines are broken.

A line is broken only between the words of a cell. A word that is wider than its column pushes what follows to the right or, where there
is no room, to a line below: nothing that somebody might copy is cut. Texts give way before names do, such as that of an action.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Layout"]

_GAP = 2
_TEXTS = frozenset(
    {"changes", "comment", "lacks", "reason", "refused", "selectors", "waits_for"}
)  # the first to give way
_NAME, _ID = 14, 28  # "entry created" stays together, and most paths do
_COMFORT, _LEAST = 16, 6  # columns are made narrower than that only if they must
_MOST_PADDED = 100  # a node may choose a name of 253 characters, and a path has up to 2048: that widens no other row
_INDENT = 4  # of a cell on lines of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """What is known of a column.

    Args:
        is_text: whether it gives way first.
        header: the width of its header.
        natural: the width at which no line is broken.
        least: the width of its widest word.
    """

    is_text: bool
    header: int
    natural: int
    least: int

    def floors(self) -> Iterator[int]:
        """How narrow it may become, step by step: texts give way first, names of several words last."""
        comfort = min(self.natural, max(self.header, _COMFORT))
        if self.is_text:
            wide = min(self.natural, max(self.least, _COMFORT))
            yield from (wide, wide, comfort, comfort, self.header, self.header, self.header)
            return
        name = min(self.natural, max(self.least, _NAME))
        path = min(name, max(self.header, _ID))
        least = min(path, self.least)
        yield from (self.natural, name, name, path, path, least, min(least, comfort))


class Layout:
    """The widths of the columns of one table. Rows that follow later keep them.

    Args:
        headers: the names of the columns.
        rows: the cells of the rows to fit, each as its words.
        width: of the terminal; None: it has no width, and no line is broken; a very long cell then pushes only its own row to the right.
    """

    def __init__(self, headers: Sequence[str], rows: Sequence[Sequence[Sequence[str]]], width: int | None) -> None:
        columns = list(zip(*rows, strict=True)) or [()] * len(headers)
        self._width = width
        widest = _MOST_PADDED if width is None else math.inf
        self._texts = [header in _TEXTS for header in headers]
        self._widths = [
            max([len(header), *(wide for cell in cells if (wide := _columns_of(" ".join(cell))) <= widest)])
            for header, cells in zip(headers, columns, strict=True)
        ]
        if width is not None:
            known = [
                _Column(
                    is_text=header in _TEXTS,
                    header=len(header),
                    natural=natural,
                    least=max([len(header), *(_columns_of(word) for cell in cells for word in cell)]),
                )
                for header, cells, natural in zip(headers, columns, self._widths, strict=True)
            ]
            self._widths = _fitted(known, width - _GAP * (len(headers) - 1))

    def lines(self, row: Sequence[Sequence[str]]) -> Iterator[str]:
        """The lines of one row."""
        whole = [" ".join(cell) for cell in row]
        wide = [_columns_of(text) for text in whole]
        if self._width is None or all(map(int.__le__, wide, self._widths)):
            padded = (text + " " * (to - now) for text, now, to in zip(whole, wide, self._widths, strict=True))
            return iter([(" " * _GAP).join(padded).rstrip()])
        return iter(self._broken(row, self._width))

    def _broken(self, row: Sequence[Sequence[str]], room: int) -> list[str]:
        lines: list[str] = []
        top = offset = 0
        after = sum(self._widths) + _GAP * len(self._widths)
        for cell, width, is_text in zip(row, self._widths, self._texts, strict=True):
            after -= width + _GAP
            texts = _wrapped(cell, width)
            widest = max(map(_columns_of, texts))
            at = max([offset, *(_columns_of(line) + _GAP for line in lines[top : top + len(texts)] if line)])
            if at + widest > room or (
                is_text and width < _COMFORT and len(texts) > 1
            ):  # it gets lines of its own, with all the room that a terminal has
                texts = _wrapped(cell, max(width, room - _INDENT))
                widest = max(map(_columns_of, texts))
                top, at = len(lines), min(offset, max(0, min(_INDENT, room - widest), room - widest - after))
            _put(lines, texts, top, at)
            if widest > width:  # what follows may stand beside its last line
                top += len(texts) - 1
            offset += width + _GAP
        return [line.rstrip() for line in lines]


def _put(lines: list[str], texts: Sequence[str], top: int, offset: int) -> None:
    lines.extend([""] * (top + len(texts) - len(lines)))
    for number, text in enumerate(texts, top):
        lines[number] += " " * (offset - _columns_of(lines[number])) + text


def _fitted(columns: Sequence[_Column], width: int) -> list[int]:
    """The widths of columns that together are at most `width`, if their headers allow it."""
    widths = [one.natural for one in columns]
    for floors in zip(*(one.floors() for one in columns), strict=True):
        while sum(widths) > width:
            column = max(range(len(widths)), key=lambda at: (widths[at] > floors[at], widths[at]))
            if widths[column] <= floors[column]:
                break
            widths[column] -= 1
    for least_of_all in (_COMFORT, _LEAST):
        for column in reversed(range(len(widths))):  # the first columns name the thing
            surplus = max(0, sum(widths) - width)
            widths[column] -= min(surplus, max(0, widths[column] - max(least_of_all, columns[column].header)))
    return widths


def _wrapped(words: Sequence[str], width: int) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and _columns_of(lines[-1]) + 1 + _columns_of(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or ["-"]


def _columns_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
