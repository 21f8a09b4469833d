"""`cognomen rulebook`: the schema of rulebooks."""

import json

import click

from cognomen.rulebook.tables import schema as json_schema

__all__ = ["rulebook"]


@click.group()
def rulebook() -> None:
    """Work with rulebooks: files that say which component of which agent gets which identity."""


@rulebook.command()
def schema() -> None:
    """Print the JSON Schema of a file of a rulebook, for editors.

    \b
    Example:
      cognomen rulebook schema > rulebook.schema.json
    """  # noqa: D301 - \b is click's mark
    click.echo(json.dumps(json_schema(), indent=2))
