"""What commands print: tables that fit a terminal, plain columns elsewhere, JSON for programs.

How one value is shown is decided in cells, and where lines are broken in layout. The keys of a document are decided by the
protocol (cognomen/wire/admin), or by the command that makes it.
"""

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from cognomen.cli.cells import View, cell_of, ids_in, short_ids, text_of, with_relative, with_unit
from cognomen.cli.layout import Layout
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = [
    "Columns",
    "Table",
    "View",
    "counted",
    "json_text",
    "print_document",
    "print_json",
    "print_page",
    "print_prose",
    "print_table",
    "same_columns",
    "warn",
]

_NOTHING = "-"  # as cells write a value that is not there


@dataclass(frozen=True, slots=True)
class Columns:
    """Which keys of documents are the columns of a table.

    Args:
        table: those that matter, which fit in 80 columns.
        wide: those of `-o wide`.
        is_broad: they are many: a terminal that is too narrow for one line has a line for each field also without `-o wide`.
    """

    table: tuple[str, ...]
    wide: tuple[str, ...]
    is_broad: bool = False


def same_columns(*keys: str) -> Columns:
    """Columns that are the same in both."""
    return Columns(table=keys, wide=keys)


class Table:
    """A table on standard output. Its columns keep their widths, so that more rows can follow.

    Piped, a table is neither wrapped nor cut. A wide or broad one that is wider than the terminal has a line for each field instead.
    """

    def __init__(self, columns: Columns, view: View) -> None:
        self._columns = columns.wide if view.is_wide else columns.table
        self._may_be_by_field = view.is_wide or columns.is_broad
        self._view = view
        self._layout: Layout | None = None
        self._is_by_field = False

    def print(self, documents: Sequence[Mapping[str, JSON]]) -> None:
        """Print rows; the first call prints the header above them."""
        short = {
            key: short_ids(key, (one for each in documents for one in ids_in(key, each.get(key), self._view)))
            for key in self._columns
        }
        rows = [
            [cell_of(key, document.get(key), self._view, short[key]) for key in self._columns] for document in documents
        ]
        is_first = self._layout is None
        if self._layout is None:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            self._layout = Layout(self._columns, rows, width)
            self._is_by_field = self._may_be_by_field and not self._layout.fits
        if self._is_by_field and rows:
            self._print_by_field(rows, is_first=is_first)
            return
        if is_first:
            rows = [[[key] for key in self._columns], *rows]
        if rows:
            click.echo("\n".join(line for row in rows for line in self._layout.lines(row)))

    def _print_by_field(self, rows: Sequence[Sequence[Sequence[str]]], *, is_first: bool) -> None:
        for number, row in enumerate(rows):
            if number or not is_first:
                click.echo()
            texts = zip(self._columns, map(" ".join, row), strict=True)
            _print_fields({key: text for key, text in texts if text != _NOTHING})


def print_json(document: Mapping[str, JSON]) -> None:
    """Print a document on several lines, in the order of its keys."""
    click.echo(json_text(document, indent=2))


def json_text(document: Mapping[str, JSON], *, indent: int | None = None) -> str:
    """A document as JSON in which no text controls the terminal: JSON alone escapes nothing above U+001F."""
    lines = json.dumps(document, indent=indent, ensure_ascii=False).split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_json_escaped, line)) for line in lines)


def _json_escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def print_table(columns: Columns, documents: Sequence[Mapping[str, JSON]], view: View) -> None:
    """Print documents as the rows of a table."""
    Table(columns, view).print(documents)


def print_page(
    name: str,
    columns: Columns,
    documents: Sequence[dict[str, JSON]],
    next_page_token: str,
    view: View,
    **more: JSON,
) -> None:
    """Print one page of things called `name`, as a table or as JSON; `more` is only in the JSON."""
    if view.output == "json":
        print_json({name: list(documents), **more, "next_page_token": next_page_token})
    else:
        print_table(columns, documents, view)
    if next_page_token:
        click.echo(f"there are more: use --page-token {next_page_token}, or --all", err=True)


def print_document(document: Mapping[str, JSON]) -> None:
    """Print one thing, one line for each key that has a value; beside a time, how far away it is."""
    now = SystemClock().now()
    known = {
        text_of(key): text_of(with_relative(with_unit(key, value), now))
        for key, value in document.items()
        if value not in (None, "", [], {}, False)
    }
    _print_fields(known)


def _print_fields(texts: Mapping[str, str]) -> None:
    """Print a line for each key."""
    width = max(map(len, texts), default=0)
    for key, text in texts.items():
        click.echo(f"{key.ljust(width)}  {text}")


def print_prose(text: str, *, indent: str = "") -> None:
    """Print a sentence, each line of it after the indent; a terminal gets lines that fit it, a file one line."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width - len(indent), break_long_words=False, break_on_hyphens=False)
    click.echo(textwrap.indent(text, indent))


def counted(count: int, one: str, many: str = "") -> str:
    """How many there are: 1 row, 2 rows.

    Args:
        many: if it is not `one` with an s.
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def warn(text: str) -> None:
    """Print a warning on standard error, in one line in which nothing controls the terminal; the command continues."""
    click.echo(f"warning: {text_of(text)}", err=True)
