"""`cognomen rulebook`: the rulebooks that were applied, and the schema of their files."""

import json
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.options import admin_socket_option, output_option
from cognomen.cli.output import Columns, View, print_json, print_table
from cognomen.rulebook.tables import schema as json_schema
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["rulebook"]

_COLUMNS = Columns(
    table=("revision", "at", "components", "actor", "comment"),
    wide=("revision", "at", "components", "actor", "login", "comment", "digest"),
)


@click.group()
def rulebook() -> None:
    """Work with rulebooks: files that say which component of which agent gets which identity."""


@rulebook.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many, the newest.")
@output_option
@admin_socket_option
def history(limit: int, output: str, socket: Path) -> None:
    """List the rulebooks that were applied, the newest first.

    \b
    Example:
      cognomen rulebook history
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.list_rulebooks(pb.ListRulebooksRequest(limit=limit)).rulebooks
    documents = [dict(document_from_message(one)) for one in found]
    for one in documents:
        del one["files"]
    if output == "json":
        print_json({"rulebooks": list(documents)})
    else:
        print_table(_COLUMNS, documents, View(output=output))


@rulebook.command()
@click.argument("revision", type=click.IntRange(min=1), required=False)
@output_option
@admin_socket_option
def show(revision: int | None, output: str, socket: Path) -> None:
    """Show a rulebook that was applied, as it was: the one in force, or REVISION.

    --output json has each file by its name.

    \b
    Examples:
      cognomen rulebook show
      cognomen rulebook show 3 --output json
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.get_rulebook(pb.GetRulebookRequest(revision=revision or 0))
    if output == "json":
        print_json(dict(document_from_message(found)))
        return
    for name in sorted(found.files):
        click.echo(f"# {name}, revision {found.revision}\n{found.files[name]}")


@rulebook.command()
def schema() -> None:
    """Print the JSON Schema of a file of a rulebook, for editors.

    \b
    Example:
      cognomen rulebook schema > rulebook.schema.json
    """  # noqa: D301 - \b is click's mark
    click.echo(json.dumps(json_schema(), indent=2))
