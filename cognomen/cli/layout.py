"""Lay out a table for a terminal of some width, or for a pipe: what is decided here is where lines are broken.

A line is broken only between the words of a cell. A word that is wider than its column pushes what follows to the right or, where there
is no room, to a line below: nothing that somebody might copy is cut.
"""

import unicodedata
from collections.abc import Iterator, Sequence

__all__ = ["Layout"]

_GAP = 2
_COMFORT, _LEAST = 16, 6  # columns are made narrower than that only if they must


class Layout:
    """The widths of the columns of one table. Rows that follow later keep them.

    Args:
        headers: the names of the columns.
        rows: the cells of the rows to fit, each as its words.
        width: of the terminal; None: it has no width, and no line is broken.
    """

    def __init__(self, headers: Sequence[str], rows: Sequence[Sequence[Sequence[str]]], width: int | None) -> None:
        columns = list(zip(*rows, strict=True)) or [()] * len(headers)
        self._width = width
        self._widths = [
            max([len(header), *(_columns_of(" ".join(cell)) for cell in cells)])
            for header, cells in zip(headers, columns, strict=True)
        ]
        if width is not None:
            least = [
                max([len(header), *(_columns_of(word) for cell in cells for word in cell)])
                for header, cells in zip(headers, columns, strict=True)
            ]
            self._widths = _fitted(self._widths, least, list(map(len, headers)), width - _GAP * (len(headers) - 1))

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
        for cell, width in zip(row, self._widths, strict=True):
            texts = _wrapped(cell, width)
            widest = max(map(_columns_of, texts))
            at = max([offset, *(_columns_of(line) + _GAP for line in lines[top : top + len(texts)] if line)])
            if at + widest > room:
                top, at = len(lines), max(0, min(offset, room - widest))
            _put(lines, texts, top, at)
            if widest > width:  # what follows may stand beside its last line
                top += len(texts) - 1
            offset += width + _GAP
        return [line.rstrip() for line in lines]


def _put(lines: list[str], texts: Sequence[str], top: int, offset: int) -> None:
    lines.extend([""] * (top + len(texts) - len(lines)))
    for number, text in enumerate(texts, top):
        lines[number] += " " * (offset - _columns_of(lines[number])) + text


def _fitted(natural: Sequence[int], least: Sequence[int], headers: Sequence[int], width: int) -> list[int]:
    """The widths of columns that together are at most `width`, if their headers allow it.

    Args:
        natural: the widths at which no line is broken.
        least: the widths of the widest words.
        headers: the widths of the headers.
    """
    widths = list(natural)
    while sum(widths) > width:
        column = max(range(len(widths)), key=lambda at: (widths[at] > least[at], widths[at]))
        if widths[column] <= least[column]:
            break
        widths[column] -= 1
    for least_of_all in (_COMFORT, _LEAST):
        for column in reversed(range(len(widths))):  # the first columns name the thing
            surplus = max(0, sum(widths) - width)
            widths[column] -= min(surplus, max(0, widths[column] - max(least_of_all, headers[column])))
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
