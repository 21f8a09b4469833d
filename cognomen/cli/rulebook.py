"""`cognomen rulebook`: the rulebooks that were applied, and the schema of their files."""

import difflib
import json
import sys
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.cells import text_of
from cognomen.cli.observed import observe
from cognomen.cli.options import admin_socket_option, comment_option, output_option
from cognomen.cli.output import Columns, View, print_json, print_table
from cognomen.cli.planned import apply_planned, plan_again, print_plan
from cognomen.cli.planreach import ask_option, reach_of
from cognomen.cli.ruleimport import import_rules
from cognomen.protocol.printable import printable
from cognomen.rulebook.tables import schema as json_schema
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["rulebook"]

_MOST_REVISION = 2**63 - 1
_COLUMNS = Columns(
    table=("revision", "at", "components", "actor", "comment"),
    wide=("revision", "at", "components", "actor", "login", "comment", "digest"),
)


@click.group()
def rulebook() -> None:
    """Work with rulebooks: files that say which component of which agent gets which identity."""


rulebook.add_command(observe)


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
@click.argument("revision", type=click.IntRange(1, _MOST_REVISION), required=False)
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
        schema_line, rest = _after_schema(_harmless(found.files[name]))
        click.echo(f"{schema_line}# {text_of(name)}, revision {found.revision}\n{rest}")


def _after_schema(text: str) -> tuple[str, str]:
    """The line that names the schema for an editor, which must be the first, and the rest; empty: there is none."""
    first, end, rest = text.partition("\n")
    return (first + end, rest) if first.startswith("#:schema") and end else ("", text)


@rulebook.command()
@click.argument("before", type=click.IntRange(1, _MOST_REVISION))
@click.argument("after", type=click.IntRange(1, _MOST_REVISION), required=False)
@admin_socket_option
def diff(before: int, after: int | None, socket: Path) -> None:
    """Show how the files of two rulebooks differ: BEFORE, and AFTER or the one in force.

    \b
    Examples:
      cognomen rulebook diff 3
      cognomen rulebook diff 3 5
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        old = admin.get_rulebook(pb.GetRulebookRequest(revision=before))
        new = admin.get_rulebook(pb.GetRulebookRequest(revision=after or 0))
    for name in sorted({*old.files, *new.files}):
        files = [one.files.get(name, "").splitlines() for one in (old, new)]
        titles = [f"{name} ({one.revision})" for one in (old, new)]
        for line in difflib.unified_diff(files[0], files[1], titles[0], titles[1], lineterm=""):
            click.echo(_harmless(line))


def _harmless(text: str) -> str:
    """A text of a file: exactly, or, on a terminal, with its control characters escaped."""
    if not sys.stdout.isatty():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else printable(one) for one in text)


@rulebook.command()
@click.argument("revision", type=click.IntRange(1, _MOST_REVISION))
@click.option("--let-expire", is_flag=True, help="Leave what it takes away valid until it expires.")
@ask_option
@comment_option
@admin_socket_option
def rollback(revision: int, comment: str, socket: Path, *, let_expire: bool, ask: bool) -> None:
    """Apply a rulebook again that was applied before; it gets a new revision.

    A name that was retired since then never comes back: such a rulebook is refused.

    \b
    Example:
      cognomen rulebook rollback 3 --comment "the CRM lost its identity"
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = plan_again(admin, admin.get_rulebook(pb.GetRulebookRequest(revision=revision)), let_expire=let_expire)
        reach = reach_of(admin, found, ask=ask)
        done = apply_planned(admin, found, comment)
    print_plan(found, "table", reach)
    click.echo(f"revision {done.revision} is in force now")


@rulebook.command()
def schema() -> None:
    """Print the JSON Schema of a file of a rulebook, for editors.

    \b
    Example:
      cognomen rulebook schema > rulebook.schema.json
    """  # noqa: D301 - \b is click's mark
    click.echo(json.dumps(json_schema(), indent=2))


rulebook.add_command(import_rules)
