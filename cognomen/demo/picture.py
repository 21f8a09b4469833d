"""The picture of the live view: an SVG in which every word has a place of its own, so that no font lets two words run together.

A viewer may have another font than ours, and not every viewer obeys `textLength`. So each word is an element with its own position and
width, on a grid whose cells are wider than the letters of most fonts. Bars are drawn as rectangles. cognomen/demo/view decides what is
shown.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from rich.color import blend_rgb
from rich.color_triplet import ColorTriplet
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME

__all__ = ["drawn"]

_FONT_SIZE, _CELL, _LINE = 16.0, 11.0, 24.0
_MARGIN, _TITLE_BAR = 20.0, 44.0
_FONTS = "'Fira Code', 'DejaVu Sans Mono', Menlo, Consolas, monospace"
_FULL, _EMPTY = "█", "░"
_DIMMED = 0.4
_PIECE = re.compile(rf"{_FULL}+|{_EMPTY}+|[^\s{_FULL}{_EMPTY}]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """A run of characters of one style without spaces; `column` counts cells from the left edge."""

    column: int
    text: str
    style: Style


def drawn(renderable: RenderableType, *, columns: int, rows: int, title: str) -> str:
    """Draw what a terminal of that size would show, as the text of an SVG file."""
    console = Console(width=columns, height=rows, force_terminal=True, color_system="truecolor", legacy_windows=False)
    lines = console.render_lines(renderable, console.options.update(height=None), pad=False)[:rows]
    width, height = columns * _CELL + 2 * _MARGIN, rows * _LINE + _TITLE_BAR + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"'
        f' font-family="{_FONTS}" font-size="{_FONT_SIZE:g}">'
    )
    window = f'<rect width="{width:g}" height="{height:g}" rx="8" fill="{SVG_EXPORT_THEME.background_color.hex}"/>'
    body = (part for row, line in enumerate(lines) for part in _line(line, row))
    return "\n".join([head, f"<title>{escape(title)}</title>", window, *_title_bar(title, width), *body, "</svg>\n"])


def _title_bar(title: str, width: float) -> Iterator[str]:
    for number, fill in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        yield f'<circle cx="{_MARGIN + 6 + 22 * number:g}" cy="20" r="7" fill="{fill}"/>'
    fill = SVG_EXPORT_THEME.foreground_color.hex
    yield f'<text x="{width / 2:g}" y="26" text-anchor="middle" font-weight="bold" fill="{fill}">{escape(title)}</text>'


def _line(segments: list[Segment], row: int) -> Iterator[str]:
    top = _TITLE_BAR + row * _LINE
    for word in _words(segments):
        x, width, fill = _MARGIN + word.column * _CELL, len(word.text) * _CELL, _fill(word.style)
        if word.text[0] in {_FULL, _EMPTY}:
            opacity = ' opacity="0.3"' if word.text[0] == _EMPTY else ""
            yield f'<rect x="{x:g}" y="{top + 4:g}" width="{width:g}" height="{_LINE - 8:g}" fill="{fill}"{opacity}/>'
        else:
            bold = ' font-weight="bold"' if word.style.bold else ""
            yield (
                f'<text x="{x:g}" y="{top + _LINE - 7:g}" textLength="{width:g}" lengthAdjust="spacingAndGlyphs"'
                f' fill="{fill}"{bold}>{escape(word.text)}</text>'
            )


def _words(segments: list[Segment]) -> Iterator[_Word]:
    """The words of a line. One that changes its style in the middle is two, and they touch."""
    column = 0
    for segment in segments:
        for found in _PIECE.finditer(segment.text):
            yield _Word(column=column + found.start(), text=found[0], style=segment.style or Style.null())
        column += len(segment.text)


def _fill(style: Style) -> str:
    theme = SVG_EXPORT_THEME
    colour = theme.foreground_color if style.color is None else style.color.get_truecolor(theme)
    return (blend_rgb(colour, ColorTriplet(*theme.background_color), _DIMMED) if style.dim else colour).hex
