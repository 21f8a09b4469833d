"""What commands print: tables that fit a terminal, plain columns elsewhere, JSON for programs.

The keys of a document are decided by the protocol (cognomen/wire/admin), or by the command that makes it.
"""

import json
import sys
from collections.abc import Mapping, Sequence

import click

from svid.encoding import JSON

__all__ = ["print_document", "print_json", "print_page", "print_table", "warn"]


def print_json(document: Mapping[str, JSON]) -> None:
    """Print a document on several lines, in the order of its keys."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[JSON]], *, header: bool = True) -> None:
    """Print rows below a header or, without one, more rows of a table that was begun."""
    texts = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, texts, header=header)
        return
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for row in (columns, *texts) if header else texts:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_page(
    name: str,
    columns: Sequence[str],
    documents: Sequence[dict[str, JSON]],
    next_page_token: str,
    output: str,
    **more: JSON,
) -> None:
    """Print one page of things called `name`; `columns` are the keys shown in a table, and `more` is only in the JSON."""
    if output == "json":
        print_json({name: list(documents), **more, "next_page_token": next_page_token})
    else:
        print_table(columns, [[document[key] for key in columns] for document in documents])
    if next_page_token:
        click.echo(f"there are more: use --page-token {next_page_token}, or --all", err=True)


def print_document(document: Mapping[str, JSON]) -> None:
    """Print one thing, one line for each key that has a value."""
    known = {key: _cell(value) for key, value in document.items() if value not in (None, "", [], {}, False)}
    width = max(map(len, known), default=0)
    for key, value in known.items():
        click.echo(f"{key.ljust(width)}  {value}")


def warn(text: str) -> None:
    """Print a warning on standard error; the command continues."""
    click.echo(f"warning: {text}", err=True)


def _cell(value: JSON) -> str:
    match value:
        case None:
            return "-"
        case bool():
            text = "yes" if value else "no"
        case list():
            text = ", ".join(map(_cell, value))
        case dict():
            text = ", ".join(f"{key}={_cell(item)}" for key, item in value.items())
        case _:
            text = str(value)
    # a stored text must not control the terminal
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) or "-"


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool) -> None:
    from rich import box  # noqa: PLC0415 - not loaded for a pipe
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_header=header)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
